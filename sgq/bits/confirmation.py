"""Which of the trials inside an accuracy limit are there by luck: the least ones, again, with other seeds.

Of many noisy measurements around a limit the best one is lucky. The few smallest assignments that the cost
model believes inside the limit are finetuned anew with other seeds, and the smallest one wins whose mean
holds.
"""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sgq.bits.deferred import DeferredAccuracy
from sgq.bits.gaussian_process import GaussianProcess
from sgq.bits.limits import ROUNDING
from sgq.bits.proposals import squashed
from sgq.bits.searching import SearchResult, search
from sgq.bits.space import Assignment, Space
from sgq.bits.trials import Evaluation, Trial
from sgq.errors import SearchError

CANDIDATES = 6
REPEATS = 4
ROUNDS = 3


@dataclass(frozen=True)
class Confirmation:
    """A trial and the accuracies (0 to 1) that it had with other seeds than the search's."""

    trial: Trial
    accuracies: tuple[float, ...]

    @property
    def accuracy(self) -> float:
        """The mean accuracy over the other seeds."""
        return statistics.fmean(self.accuracies)


@dataclass(frozen=True)
class Repeated:
    """An evaluation of {"candidate": index, "repeat": number}: one of some assignments with another seed."""

    accuracy: DeferredAccuracy
    candidates: tuple[Assignment, ...]

    def __call__(self, assignment: Assignment) -> Evaluation:
        """Return the validation accuracy of a candidate with the seed of a repeat."""
        candidate, repeat = int(assignment["candidate"]), int(assignment["repeat"])
        evaluation = self.accuracy.built
        plan = evaluation.space.plan_of(self.candidates[candidate - 1])
        return evaluation.of_plan(plan, seed=evaluation.seed + repeat)


def nothing(assignment: Assignment) -> float:
    """Return 0 bytes: confirming looks at accuracy alone."""
    del assignment
    return 0.0


def confirm(
    result: SearchResult,
    accuracy: DeferredAccuracy,
    *,
    least_accuracy: float,
    storage: str | Path | None,
    study: str,
    workers: int = 1,
    resume: bool = False,
) -> tuple[Confirmation | None, tuple[Confirmation, ...]]:
    """Return the smallest trial whose mean accuracy over other seeds holds, and all that were measured again.

    The first is None where none holds, or where the repeats could not be measured. Up to three rounds of six
    candidates with four seeds each; finished repeats are in the storage beside the search, and are resumed.
    Raises KeyboardInterrupt when Ctrl-C ended the repeats.
    """
    ranked = believed_inside(result, least_accuracy)
    measured: list[Confirmation] = []
    for number in range(ROUNDS):
        candidates = ranked[number * CANDIDATES : (number + 1) * CANDIDATES]
        if not candidates:
            break
        found = _measured(candidates, accuracy, storage, f"{study}-confirm-{number}", workers, resume)
        measured += found
        holding = [item for item in found if item.accuracy >= least_accuracy - ROUNDING]
        if holding:
            return min(holding, key=lambda item: item.trial.memory), tuple(measured)
        if len(found) < len(candidates):
            break
    return None, tuple(measured)


def believed_inside(result: SearchResult, least_accuracy: float) -> list[Trial]:
    """Return the trials inside the limits, by rising memory, first those that the cost model takes to be
    inside."""
    whole = [trial for trial in result.trials if trial.accuracy is not None]
    inside = [trial for trial in result.trials if result.holds(trial)]
    if not inside:
        return []
    codes = np.array([result.space.codes(trial.assignment) for trial in whole])
    values = np.array([trial.accuracy for trial in whole], dtype=float)
    model = GaussianProcess(result.space)
    model.fit(codes, squashed(values - least_accuracy))
    mean, _ = model.predict(np.array([result.space.codes(trial.assignment) for trial in inside]))
    order = sorted(range(len(inside)), key=lambda index: (mean[index] < 0.0, inside[index].memory))
    return [inside[index] for index in order]


def _measured(
    candidates: Sequence[Trial],
    accuracy: DeferredAccuracy,
    storage: str | Path | None,
    study: str,
    workers: int,
    resume: bool,
) -> list[Confirmation]:
    space = Space.of({"candidate": range(1, len(candidates) + 1), "repeat": range(1, REPEATS + 1)})
    evaluate = Repeated(accuracy, tuple(trial.assignment for trial in candidates))
    objective = {
        f"candidate {place}": str(dict(trial.assignment)) for place, trial in enumerate(candidates, start=1)
    }
    # A search that went on has other candidates, and so another study.
    study = f"{study}-{hashlib.sha256(repr(objective).encode()).hexdigest()[:8]}"

    def run(*, go_on: bool) -> SearchResult:
        return search(
            space,
            evaluate,
            nothing,
            trials=space.size,
            sampler="exhaustive",
            storage=storage,
            study=study,
            workers=workers,
            resume=go_on,
            objective=objective,
        )

    if resume:
        try:
            result = run(go_on=True)
        except SearchError:
            result = run(go_on=False)  # the search had not come to confirming
    else:
        result = run(go_on=False)
    if result.interrupted:
        raise KeyboardInterrupt
    found = []
    for place, trial in enumerate(candidates, start=1):
        values = [
            repeat.accuracy
            for repeat in result.trials
            if repeat.assignment["candidate"] == place and repeat.accuracy is not None
        ]
        if len(values) == REPEATS:
            found.append(Confirmation(trial, tuple(values)))
    return found
