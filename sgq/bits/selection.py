"""From a space on a trained model to the chosen assignment: search, then measure the best ones again."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from sgq.bits.confirmation import Confirmation, confirm
from sgq.bits.deferred import DeferredAccuracy
from sgq.bits.limits import Limits
from sgq.bits.searching import STUDY, SearchResult, search
from sgq.bits.trials import Trial


@dataclass(frozen=True)
class Selection:
    """What a selection came to: the search, the chosen trial, and the trials that were measured again.

    `confirmed` is the confirmation of the chosen trial; None where accuracy is not limited, where no
    candidate surely held the limit again (then the chosen one came nearest to it), or after Ctrl-C. Measuring
    them took `confirm_s` seconds.
    """

    result: SearchResult
    chosen: Trial | None
    confirmed: Confirmation | None
    confirmations: tuple[Confirmation, ...]
    least_accuracy: float | None
    confirm_s: float = 0.0


def select_bits(
    accuracy: DeferredAccuracy,
    *,
    trials: int,
    limits: Limits,
    sampler: str = "abs",
    storage: str | Path | None = None,
    study: str = STUDY,
    resume: bool = False,
    workers: int = 1,
    on_progress: Callable[[int], None] = lambda done: None,
) -> Selection:
    """Return the assignment of least memory that holds the limits, by a search and by repeats of the best.

    Here a drop of accuracy counts from the float model, on validation, as that of a recipe does. See
    `sgq.bits.search` for storages, workers and errors.
    """
    evaluation = accuracy.built
    least = limits.least_accuracy(evaluation.float_accuracy)
    of_search = {"accuracy": None if least is None else max(0.0, least), "memory": limits.memory}
    result = search(
        evaluation.space,
        accuracy,
        trials=trials,
        sampler=sampler,
        limit={name: value for name, value in of_search.items() if value is not None},
        storage=storage,
        seed=evaluation.seed,
        workers=workers,
        study=study,
        resume=resume,
        objective={
            "evaluation": evaluation.digest,
            "recipe": _digest(evaluation.space.recipe.recipe.model_dump_json()),
        },
        on_progress=on_progress,
    )
    if least is None or not result.feasible or result.interrupted:
        return Selection(result, result.best, None, (), least)
    began = time.perf_counter()
    try:
        confirmed, measured = confirm(
            result,
            accuracy,
            least_accuracy=least,
            storage=storage,
            study=study,
            workers=workers,
            resume=resume,
        )
    except KeyboardInterrupt:
        return Selection(replace(result, interrupted=True), result.best, None, (), least)
    seconds = time.perf_counter() - began
    chosen = confirmed or max(measured, key=lambda item: item.sure_accuracy, default=None)
    trial = result.best if chosen is None else chosen.trial
    return Selection(result, trial, confirmed, measured, least, seconds)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
