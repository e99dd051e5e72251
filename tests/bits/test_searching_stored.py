"""A search in a storage: it goes on where it was, refuses another one, and is shared by processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest

from sgq.bits import leases, search
from sgq.bits.space import Assignment
from sgq.bits.storage import open_storage
from sgq.errors import SearchError, UsageError
from tests.bits.postgres import running_server
from tests.bits.tables import CHOICES, SPACE, Logged, accuracy, assert_no_twins, keys, memory


def test_a_resumed_search_repeats_nothing_and_counts_what_it_has(tmp_path: Path) -> None:
    storage, evaluate = tmp_path / "study.log", Logged(tmp_path / "log")
    first = search(CHOICES, evaluate, memory, 6, storage=storage)
    more = search(CHOICES, evaluate, memory, 10, storage=storage, resume=True)
    same = search(CHOICES, evaluate, memory, 10, storage=str(storage), resume=True)
    assert len(first.trials) == 6
    assert more.trials[:6] == first.trials
    assert same.trials == more.trials
    assert len(evaluate.lines) == len(more.trials) == 10
    assert_no_twins(more)


def test_what_ctrl_c_struck_first_is_measured_on_resuming(tmp_path: Path) -> None:
    def interrupted(assignment: Assignment) -> float:
        raise KeyboardInterrupt

    storage = tmp_path / "study.log"
    assert search(CHOICES, interrupted, memory, 5, storage=storage).trials == ()
    result = search(CHOICES, accuracy, memory, 3, storage=storage, resume=True)
    assert result.trials[0].assignment == SPACE.assignment(SPACE.widest)


def test_a_search_goes_on_in_the_process_that_could_not_tell_the_storage_of_a_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*given: object, **named: object) -> None:
        raise ConnectionError("the storage is away")

    def evaluate(assignment: Assignment) -> float:
        broken.setattr(optuna.Study, "tell", away)
        return accuracy(assignment)

    storage = tmp_path / "study.log"
    with monkeypatch.context() as broken:
        broken.setattr(leases.held.__wrapped__, "__kwdefaults__", {"seconds": 0.2})
        with pytest.raises(ConnectionError, match="the storage is away"):
            search(CHOICES, evaluate, memory, 3, storage=storage)
    result = search(CHOICES, accuracy, memory, 3, storage=storage, resume=True)
    assert len(result.trials) == 3
    assert SPACE.assignment(SPACE.widest) in [trial.assignment for trial in result.trials]


def test_a_storage_holds_searches_side_by_side(tmp_path: Path) -> None:
    storage = tmp_path / "study.log"
    search(CHOICES, accuracy, memory, 3, storage=storage)
    other = search(
        {"weight": (2, 4)}, lambda _: 0.5, lambda a: float(a["weight"]), 2, storage=storage, study="other"
    )
    assert len(other.trials) == 2
    with pytest.raises(SearchError, match=r"got none in the storage; it holds bits, other\)"):
        search(CHOICES, accuracy, memory, 3, storage=storage, study="third", resume=True)


def test_another_search_is_not_gone_on_with_and_every_difference_is_shown(tmp_path: Path) -> None:
    storage, evaluate = tmp_path / "study.log", Logged(tmp_path / "log")
    search(CHOICES, accuracy, memory, 3, limit={"accuracy_drop": 0.01}, storage=storage)
    with pytest.raises(SearchError, match='holds a study "bits" already: go on with it by --resume'):
        search(CHOICES, evaluate, memory, 3, limit={"accuracy_drop": 0.01}, storage=storage)
    with pytest.raises(SearchError) as caught:
        search(
            {**CHOICES, "weight": (2, 4)},
            evaluate,
            memory,
            10,
            "tpe",
            {"accuracy": 0.8},
            storage,
            7,
            resume=True,
            objective={"data": "cora"},
        )
    assert str(caught.value).splitlines() == [
        'the study "bits" is of another search (stored -> now):',
        "  space weight: [2, 4, 8] -> [2, 4]",
        "  sampler: abs -> tpe",
        "  limits accuracy: none -> 0.8",
        "  limits accuracy_drop: 0.01 -> none",
        "  seed: 0 -> 7",
        "  objective data: none -> cora",
    ]
    assert evaluate.lines == []


def test_bytes_of_two_memories_are_not_mixed(tmp_path: Path) -> None:
    storage, evaluate = tmp_path / "study.log", Logged(tmp_path / "log")
    search(CHOICES, accuracy, memory, 3, storage=storage)
    with pytest.raises(SearchError, match=r"bytes narrowest: 20 -> 40\n  bytes widest: 80 -> 160\n"):
        search(CHOICES, evaluate, lambda a: 2 * memory(a), 10, storage=storage, resume=True)
    # Neither at its ends: it is another one between them.
    with pytest.raises(SearchError, match=r"of another search \(stored -> now\):\n  bytes sample"):
        search(
            CHOICES,
            evaluate,
            lambda a: memory(a) + (len(set(a.values())) > 1),
            10,
            storage=storage,
            resume=True,
        )
    assert evaluate.lines == []


def test_a_study_of_something_else_is_not_gone_on_with(tmp_path: Path) -> None:
    storage = tmp_path / "study.log"
    optuna.create_study(storage=open_storage(storage), study_name="bits")
    with pytest.raises(SearchError, match='"bits" is not one of bit selection'):
        search(CHOICES, accuracy, memory, 3, storage=storage, resume=True)


def test_a_storage_below_a_file_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "occupied").write_text("a file, not a folder")
    with pytest.raises(UsageError, match=r"expected an output folder .*occupied"):
        search(CHOICES, accuracy, memory, 5, storage=tmp_path / "occupied" / "study.log")


# On a server.


@pytest.fixture
def postgres() -> Iterator[str]:
    with running_server() as url:
        yield url


def test_two_workers_search_on_a_server_and_another_one_goes_on(tmp_path: Path, postgres: str) -> None:
    evaluate = Logged(tmp_path / "log", seconds=0.02)
    limit = {"accuracy_drop": 0.025}
    result = search(CHOICES, evaluate, memory, 20, limit=limit, storage=postgres, workers=2)
    assert len(result.trials) == len(evaluate.lines) == 20
    assert_no_twins(result)
    assert [trial.accuracy for trial in result.trials] == [accuracy(t.assignment) for t in result.trials]
    assert len({process for process, _ in evaluate.lines}) == 2
    more = search(CHOICES, evaluate, memory, 24, limit=limit, storage=postgres, resume=True)
    assert set(keys(t.assignment for t in result.trials)) < set(keys(t.assignment for t in more.trials))
    assert len(more.trials) == len(evaluate.lines) == 24
