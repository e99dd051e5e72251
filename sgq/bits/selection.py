"""From a space on a trained model to the chosen assignment: search, then measure the best ones again."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sgq.bits.confirmation import MOST_SMALLER, Confirmation, LeftOut, confirm
from sgq.bits.deferred import DeferredAccuracy
from sgq.bits.limits import Limits
from sgq.bits.planned_space import PlannedSpace
from sgq.bits.pool import Workers
from sgq.bits.searching import STUDY, SearchResult, search, with_trials
from sgq.bits.trials import Trial
from sgq.errors import SearchError

TRIALS_A_SMALLER = 8
"""For so many trials one smaller assignment is tried after them, with its repeats."""


@dataclass(frozen=True)
class Selection:
    """What a selection came to: the search, the chosen trial, and the trials that were measured again.

    `confirmed` is the confirmation of the chosen trial; None where accuracy is not limited, or where no
    candidate surely held the limit again (then the chosen one came nearest to it). Measuring
    them took `confirm_s` seconds. `refined` are those among the result's trials that were not measured before
    that, but proposed by what it found; `left_out` are those that could not be measured again.
    """

    result: SearchResult
    chosen: Trial | None
    confirmed: Confirmation | None
    confirmations: tuple[Confirmation, ...]
    least_accuracy: float | None
    confirm_s: float = 0.0
    refined: tuple[Trial, ...] = ()
    left_out: tuple[LeftOut, ...] = ()

    @property
    def again(self) -> Confirmation | None:
        """The repeats of the chosen trial; None where it was not measured again."""
        return next((item for item in self.confirmations if item.trial is self.chosen), None)

    @property
    def refuted(self) -> bool:
        """Whether the search found what holds a limit of accuracy, but no repeats did."""
        of_repeats = self.least_accuracy is not None and self.result.feasible and not self.result.interrupted
        return of_repeats and self.confirmed is None


def select_bits(
    accuracy: DeferredAccuracy,
    *,
    trials: int,
    limits: Limits,
    sampler: str = "abs",
    storage: str | Path | None = None,
    study: str = STUDY,
    resume: bool | None = False,
    workers: int = 1,
    on_progress: Callable[[int], None] = lambda done: None,
) -> Selection:
    """Return the assignment of least memory that holds the limits, by a search and by repeats of the best.

    Accuracies are those of the float model less a drop, which counts in the same run from the widest
    assignment, finetuned alike, or from the float model where that is better (`DeferredAccuracy`). See
    `sgq.bits.search` for storages, workers and errors; trainings of different models are a SearchError too.
    """
    evaluation = accuracy.built
    bytes_of_ends = _ends(evaluation.space)
    if any(_ends(other.space) != bytes_of_ends for other in accuracy.evaluations):
        raise SearchError("expected trainings of one model (got some with other packed bytes)")
    least = limits.least_accuracy(evaluation.float_accuracy)
    of_search = {"accuracy": None if least is None else max(0.0, least), "memory": limits.memory}
    with Workers(workers, shared=accuracy) as processes:  # they build its trainings once
        result = search(
            evaluation.space,
            accuracy,
            trials=trials,
            sampler=sampler,
            limit={name: value for name, value in of_search.items() if value is not None},
            storage=storage,
            seed=evaluation.seed,
            workers=processes,
            study=study,
            resume=resume,
            objective={
                "evaluation": accuracy.digest,
                "drops": "from the widest assignment in the same run",
                "margin": f"the error of the mean of {accuracy.trainings}",
                "training": _digest(repr(evaluation.training)),
                "recipe": _digest(evaluation.space.recipe.recipe.model_dump_json()),
            },
            on_progress=on_progress,
        )
        if least is None or not result.feasible or result.interrupted:
            return Selection(result, result.best, None, (), least)
        began = time.perf_counter()
        confirmed = confirm(
            result,
            accuracy,
            least_accuracy=least,
            storage=storage,
            study=study,
            workers=processes,
            smaller=min(MOST_SMALLER, trials // TRIALS_A_SMALLER),
        )
        confirm_s = time.perf_counter() - began
    known = {trial.number for trial in result.trials}
    refined = tuple(item.trial for item in confirmed.measured if item.trial.number not in known)
    return Selection(
        result=replace(with_trials(result, refined), interrupted=confirmed.interrupted),
        chosen=result.best if confirmed.nearest is None else confirmed.nearest.trial,
        confirmed=confirmed.chosen,
        confirmations=confirmed.measured,
        least_accuracy=least,
        confirm_s=confirm_s,
        refined=refined,
        left_out=confirmed.left_out,
    )


def _ends(space: PlannedSpace) -> tuple[float, float]:
    """Return the packed bytes of the narrowest and the widest assignment."""
    plain = space.space
    narrowest, widest = space.memory.of_codes(np.array([plain.narrowest, plain.widest]))
    return float(narrowest), float(widest)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
