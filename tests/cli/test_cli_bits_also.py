"""`sgq bits --also FILE` searches over several trainings of a model, and refuses what is none of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sgq.bits.finetuned import FinetunedAccuracy
from sgq.bits.trials import Evaluation
from sgq.report.studies import read_study
from tests.cli.searches import LIMITED, SUBJECT, TRIALS, best_of, contents, table, words_of

Sgq = Callable[..., Any]
SEED = 7


@pytest.fixture
def other(sgq: Sgq, subject: Path, tmp_path: Path) -> Path:
    """A checkpoint of another training: of another seed."""
    file = tmp_path / "other.safetensors"
    words = ("--hidden", "5", "--epochs", "10", "--seed", str(SEED), "--quiet")
    assert sgq("train", *SUBJECT, *words, "-o", str(file)).code == 0
    return file


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The float model, by its digest, and the seed of every evaluation from now on, references left out."""
    found: list[tuple[str, int]] = []
    whole, compared = FinetunedAccuracy.of_plan, FinetunedAccuracy.reference

    def of_plan(evaluation: FinetunedAccuracy, plan: Any, *, seed: int) -> Evaluation:
        found.append((evaluation.digest, seed))
        return whole(evaluation, plan, seed=seed)

    def reference(evaluation: FinetunedAccuracy, seed: int) -> Evaluation:
        count = len(found)
        result = compared(evaluation, seed)
        del found[count:]
        return result

    monkeypatch.setattr(FinetunedAccuracy, "of_plan", of_plan)
    monkeypatch.setattr(FinetunedAccuracy, "reference", reference)
    return found


def test_a_search_and_its_repeats_measure_on_both_trainings(
    sgq: Sgq, subject: Path, tmp_path: Path, other: Path, measured: list[tuple[str, int]]
) -> None:
    words = words_of(subject, "run", *LIMITED, "--also", str(other))
    outcome = sgq(*words)
    assert (outcome.code, outcome.err) == (0, "")
    searched, repeated = measured[:TRIALS], measured[TRIALS:]
    assert {seed for _, seed in searched} == {0}
    assert {seed for _, seed in repeated} == set(range(1, 11))
    both = {digest for digest, _ in searched}
    assert len(both) == 2
    of_odd, of_even = ({digest for digest, seed in repeated if seed % 2 == odd} for odd in (1, 0))
    assert len(of_odd) == len(of_even) == 1
    assert of_odd | of_even == both
    # The results are of the first training: its float model, and its packed checkpoint.
    study = read_study(tmp_path / "run")
    whole, best = study.references[0], study.references[-1]
    assert whole.accuracy_val is not None
    assert study.limit_accuracy == pytest.approx(whole.accuracy_val - 0.1)
    assert best.packed_bytes == float(best_of(tmp_path / "run")["packed_bytes"])
    # It goes on with the same trainings alone.
    before, count = contents(tmp_path / "run"), len(measured)
    again = sgq(*words_of(subject, "run", *LIMITED, "--resume"))
    assert again.code == 2
    assert again.error.splitlines()[1].startswith("  objective evaluation: ")
    assert len(measured) == count
    assert {name: data for name, data in contents(tmp_path / "run").items() if name in before} == before
    outcome = sgq(*words, "--resume")
    assert (outcome.code, outcome.err) == (0, "")
    assert len(measured) == count
    assert len(table(tmp_path / "run" / "trials.csv")) == TRIALS


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("none.safetensors", 'there is no checkpoint "none.safetensors"'),
        ("junk.safetensors", '"junk.safetensors" is not a readable safetensors file'),
        ("agnn.safetensors", "does not fit the model: it is of agnn (got --model gcn)"),
    ],
)
def test_another_training_that_cannot_be_read_is_told_before_anything_is_measured(
    sgq: Sgq, subject: Path, tmp_path: Path, measured: list[tuple[str, int]], file: str, message: str
) -> None:
    (tmp_path / "junk.safetensors").write_text("junk")
    words = ("--model", "agnn", *SUBJECT[2:], "--epochs", "0", "-o", "agnn.safetensors", "--quiet")
    assert sgq("train", *words).code == 0
    outcome = sgq(*words_of(subject, "run", *LIMITED, "--also", file))
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.error
    assert measured == []
    assert list((tmp_path / "run").iterdir()) == []
