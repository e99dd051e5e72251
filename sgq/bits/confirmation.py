"""Which of the trials inside an accuracy limit are there by luck: the least ones are measured again.

Of many noisy measurements around a limit the best one is lucky. Trials that the cost model believes inside
the limit are finetuned anew, with other seeds and, where there are any, from other trainings of the float
model. The smallest one wins whose mean holds the limit by a standard error.
"""

from __future__ import annotations

import hashlib
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sgq.bits.deferred import DeferredAccuracy
from sgq.bits.front import front_of
from sgq.bits.gaussian_process import GaussianProcess
from sgq.bits.limits import ROUNDING
from sgq.bits.proposals import squashed
from sgq.bits.searching import SearchResult, search
from sgq.bits.space import Assignment, Space
from sgq.bits.trials import Evaluation, Trial
from sgq.errors import SearchError

CANDIDATES = 6
REPEATS = 5
ROUNDS = 4


@dataclass(frozen=True)
class Confirmation:
    """A trial and the accuracies (0 to 1) that it had in repeats."""

    trial: Trial
    accuracies: tuple[float, ...]

    @property
    def accuracy(self) -> float:
        """The mean accuracy over the repeats."""
        return statistics.fmean(self.accuracies)

    @property
    def sure_accuracy(self) -> float:
        """The mean less its standard error, as far as the repeats tell."""
        return self.accuracy - statistics.stdev(self.accuracies) / math.sqrt(len(self.accuracies))


@dataclass(frozen=True)
class Repeated:
    """An evaluation of {"candidate": index, "repeat": number}: one of some assignments, another time."""

    accuracy: DeferredAccuracy
    candidates: tuple[Assignment, ...]

    def __call__(self, assignment: Assignment) -> Evaluation:
        """Return the validation accuracy of a candidate in a repeat."""
        candidate, repeat = int(assignment["candidate"]), int(assignment["repeat"])
        return self.accuracy.again(self.candidates[candidate - 1], repeat)


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
    """Return the smallest trial whose mean accuracy surely holds, and all that were measured again.

    The first is None where none does, or where the repeats could not be measured. Up to four rounds of six
    candidates with five repeats each; finished ones are in the storage beside the search, and are resumed.
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
        holding = [item for item in found if item.sure_accuracy >= least_accuracy - ROUNDING]
        if holding:
            return min(holding, key=lambda item: item.trial.memory), tuple(measured)
        if len(found) < len(candidates):
            break
    return None, tuple(measured)


def believed_inside(result: SearchResult, least_accuracy: float) -> list[Trial]:
    """Return trials that the cost model believes inside the limits, each larger and better than the last.

    Its belief counts and not their one measurement; where it believes none to be, those measured inside do.
    """
    measured = [trial for trial in result.trials if trial.accuracy is not None]
    codes = np.array([result.space.codes(trial.assignment) for trial in measured])
    values = np.array([trial.accuracy for trial in measured], dtype=float)
    model = GaussianProcess(result.space)
    model.fit(codes, squashed(values - least_accuracy))
    mean, _ = model.predict(codes)
    fits = np.array([result.limits.memory is None or t.memory <= result.limits.memory for t in measured])
    whole = np.array([trial.state == "finished" for trial in measured])
    kept = np.flatnonzero(fits & whole & (mean >= 0.0))
    front = kept[front_of(np.array([measured[index].memory for index in kept]), mean[kept])]
    if len(front):
        return [measured[index] for index in front]
    return sorted((t for t in measured if result.holds(t)), key=lambda trial: trial.memory)


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
