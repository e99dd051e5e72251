"""What `sgq bits` cannot do is refused in one message, before anything is trained or changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from sgq.bits.storage import open_storage
from tests.cli.searches import LIMITED, SPACE, SUBJECT, contents, words_of

Sgq = Callable[..., Any]


@pytest.mark.parametrize(
    ("old", "new", "difference"),
    [
        ("[1, 2, 4, 8], axis: first", "[2, 4, 8], axis: first", "space first: [1, 2, 4, 8] -> [2, 4, 8]"),
        ("axis: second", "axis: other", "space second: [1, 2, 4, 8] -> none"),
        ("epochs: 4", "epochs: 5", "objective recipe: "),
    ],
)
def test_another_space_is_refused_with_what_is_different(
    sgq: Sgq, subject: Path, stopped: Path, tmp_path: Path, old: str, new: str, difference: str
) -> None:
    before, other = contents(stopped), tmp_path / "other.yaml"
    other.write_text(SPACE.replace(old, new))
    outcome = sgq(*words_of(subject, stopped, *LIMITED, "--resume", space=other))
    assert outcome.code == 2
    first, *lines = outcome.error.splitlines()
    assert first == 'the study "bits" is of another search (stored -> now):'
    assert any(line.startswith(f"  {difference}") for line in lines), lines
    assert contents(stopped) == before


@pytest.mark.parametrize(
    ("more", "difference"),
    [
        (("--limit", "memory=1MiB"), "  limits memory: none -> 1048576.0"),
        (("--sampler", "random"), "  sampler: abs -> random"),
        (("--seed", "3"), "  seed: 0 -> 3"),
    ],
)
def test_another_search_is_refused_with_what_is_different(
    sgq: Sgq, subject: Path, stopped: Path, more: tuple[str, ...], difference: str
) -> None:
    outcome = sgq(*words_of(subject, stopped, *LIMITED, "--resume", *more))
    assert outcome.code == 2
    assert outcome.error.splitlines()[1:] == [difference]


def test_another_float_model_is_refused(sgq: Sgq, subject: Path, stopped: Path) -> None:
    words = words_of(subject, stopped, "--limit", "accuracy=0.9", "--trials", "6", "--resume", model="weak")
    assert "\n  objective evaluation: " in sgq(*words).error


def test_a_study_is_not_begun_twice(sgq: Sgq, subject: Path, stopped: Path) -> None:
    before = contents(stopped)
    outcome = sgq(*words_of(subject, stopped, *LIMITED))
    assert outcome.code == 2
    assert 'the storage holds a study "bits" already: go on with it by --resume' in outcome.error
    assert contents(stopped) == before


def test_a_storage_with_a_study_of_something_else_is_refused(sgq: Sgq, subject: Path) -> None:
    optuna.create_study(storage=open_storage("other.log"), study_name="bits")
    outcome = sgq(*words_of(subject, "run", "--storage", "other.log", "--resume"))
    assert outcome.code == 2
    assert 'the study "bits" is not one of bit selection' in outcome.error


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (("--sampler", "tre"), 2, 'unknown sampler "tre". Did you mean "tree"?'),
        (
            ("--sampler", "exhaustive", "--trials", "9"),
            2,
            "needs a trial for each of 64 assignments",
        ),
        (("--limit", "acuracy=0.8"), 2, 'unknown limit "acuracy". Did you mean "accuracy"?'),
        (("--limit", "accuracy"), 2, "expected --limit NAME=VALUE, each name once (got 'accuracy')"),
        (("--limit", "=0.8"), 2, "expected --limit NAME=VALUE, each name once (got '=0.8')"),
        (("--limit", "accuracy=80%"), 2, "limit accuracy: expected a number from 0 to 1 (got '80%')"),
        (("--limit", "accuracy=80"), 2, "limit accuracy: expected a number from 0 to 1 (got 80.0)"),
        (
            ("--limit", "memory=3kb"),
            2,
            "--limit memory: expected bytes such as 2048, 300kB or 2MiB (got '3kb')",
        ),
        (("--limit", "memory=-1"), 2, "limit memory: expected bytes of at least 0 (got -1.0)"),
        (("--limit", "memory=9", "--limit", "memory=8"), 2, "each name once (got 'memory=8')"),
        (("--limit", "accuracy=0.8", "--limit", "accuracy_drop=0.1"), 2, "expected one limit of accuracy"),
        (("--trials", "0"), 2, "--trials: expected an integer of at least 1 (got '0')"),
        (("--storage", "sqlite:///x.db"), 2, "(got sqlite://, which parallel searches cannot share)"),
        (("--storage", "."), 2, "storage: expected the path of a journal file (got ., which is a folder)"),
        (("--resume",), 2, 'expected a study "bits" to resume (got none in the storage)'),
        (("--data", "synthetic", "--checkpoint", "junk"), 2, '"junk" is not a readable safetensors file'),
        (("--checkpoint", "none.safetensors"), 2, "there is no checkpoint"),
    ],
)
def test_a_bad_argument_is_told_before_anything_is_trained(
    sgq: Sgq, subject: Path, tmp_path: Path, more: tuple[str, ...], code: int, message: str
) -> None:
    (tmp_path / "junk").write_text("junk")
    outcome = sgq(*words_of(subject, "run", *more))
    assert (outcome.code, outcome.out) == (code, "")
    assert message in outcome.error
    assert not list(tmp_path.glob("run/*.csv"))
    assert not (tmp_path / "run" / "memo.jsonl").exists()


@pytest.mark.parametrize(
    ("space", "code", "message"),
    [
        (
            "spaces/gcn-lqw",
            3,
            'no recipe "spaces/gcn-lqw": no such file and no shipped recipe. Did you mean "spaces/gcn-lwq"?',
        ),
        ("spaces/gat-lwq", 3, 'matches nothing: module "convs.0" has no attention'),
        (
            "int8",
            2,
            "int8.yaml: expected a space, a recipe with choices (got none); sgq apply takes it as it is",
        ),
    ],
)
def test_what_is_no_space_of_the_model_is_refused(
    sgq: Sgq, subject: Path, space: str, code: int, message: str
) -> None:
    outcome = sgq(*words_of(subject, "run", space=space))
    assert outcome.code == code
    assert message in outcome.error


def test_a_zoo_model_without_a_checkpoint_is_told_how_to_get_one(sgq: Sgq) -> None:
    outcome = sgq("bits", "spaces/gcn-lwq", *SUBJECT, "-o", "run")
    assert outcome.code == 2
    assert f"sgq train --model gcn --data {SUBJECT[3]} -o gcn.safetensors" in outcome.error


def test_an_output_folder_that_cannot_be_written_is_told_first(
    sgq: Sgq, subject: Path, tmp_path: Path
) -> None:
    (tmp_path / "blocker").write_text("a file is in the way")
    outcome = sgq(*words_of(subject, "blocker/run", *LIMITED))
    assert outcome.code == 2
    assert "expected an output folder that can be written (got blocker/run" in outcome.error
    assert (tmp_path / "blocker").read_text() == "a file is in the way"
