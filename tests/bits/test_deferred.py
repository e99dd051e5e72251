"""An evaluation that is built where it runs: once a process, and not before it is needed."""

from __future__ import annotations

import pickle
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from sgq.bits.deferred import DeferredAccuracy
from sgq.bits.pool import check_picklable
from tests.bits.tables import Logged, memory


class Unpicklable(Logged):
    """An evaluation that cannot be sent to another process, as a model on an accelerator cannot."""

    def __getstate__(self) -> dict[str, Any]:
        raise TypeError("this stays where it is")


def build(path: Path) -> Any:
    """Build an evaluation; every build is a line of a file."""
    with path.with_suffix(".builds").open("a") as stream:
        stream.write("built\n")
    return Unpicklable(path)


def builds(path: Path) -> int:
    found = path.with_suffix(".builds")
    return len(found.read_text().splitlines()) if found.exists() else 0


ASSIGNMENT = {"weight": 8, "input": 8, "message[0]": 8, "message[1]": 8}


def test_it_is_built_on_its_first_use_and_once(tmp_path: Path) -> None:
    path = tmp_path / "log"
    deferred = DeferredAccuracy(partial(build, path))
    assert builds(path) == 0
    assert [deferred(ASSIGNMENT), deferred(ASSIGNMENT)] == [0.9, 0.9]
    assert builds(path) == 1
    assert deferred.built is deferred.built


def test_what_is_sent_to_a_worker_is_how_to_build_it(tmp_path: Path) -> None:
    path = tmp_path / "log"
    deferred = DeferredAccuracy(partial(build, path))
    deferred(ASSIGNMENT)
    check_picklable(memory, cast(Any, deferred))
    sent = pickle.loads(pickle.dumps(deferred))
    assert builds(path) == 1
    assert sent(ASSIGNMENT) == 0.9
    assert builds(path) == 2


def test_an_error_while_building_is_seen_by_whoever_asks(tmp_path: Path) -> None:
    deferred = DeferredAccuracy(partial(build, tmp_path / "absent" / "log"))
    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            deferred(ASSIGNMENT)
