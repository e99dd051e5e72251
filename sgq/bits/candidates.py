"""Which trials of a search may be inside an accuracy limit: those that the cost model believes to be.

One measurement of many around a limit is there by luck; the model weighs it against all others.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sgq.bits.front import front_of
from sgq.bits.gaussian_process import ALL_TRAININGS, GaussianProcess, training_shares
from sgq.bits.proposals import SQUASH_AT_LIMIT, squashed
from sgq.bits.searching import SearchResult
from sgq.bits.steadying import sure_values
from sgq.bits.trials import Trial

SINGLE_PRECISION = 1e-5
"""So far from an accuracy may the cost model's mean be by rounding alone."""


def believed_inside(result: SearchResult, least_accuracy: float) -> list[Trial]:
    """Return trials that the cost model believes inside the limits, each larger and better than the last.

    Its belief counts and not their one measurement. Where it believes none to be, those that were measured
    inside are returned, each larger than the last.
    """
    measured = [trial for trial in result.trials if trial.accuracy is not None]
    codes = np.array([result.space.codes(trial.assignment) for trial in measured])
    values = steady_values(measured)
    model = GaussianProcess(result.space)
    above = squashed(values - least_accuracy, SQUASH_AT_LIMIT)
    model.fit(codes, above, trainings=trainings_of(measured))
    mean, _ = model.predict(codes)
    fits = np.array([result.limits.memory is None or t.memory <= result.limits.memory for t in measured])
    whole = np.array([trial.state == "finished" for trial in measured])
    kept = np.flatnonzero(fits & whole & (mean >= -SINGLE_PRECISION))
    front = kept[front_of(np.array([measured[index].memory for index in kept]), mean[kept])]
    if len(front):
        return [measured[index] for index in front]
    return sorted((t for t in measured if result.holds(t)), key=lambda trial: trial.memory)


def steady_values(trials: Sequence[Trial]) -> np.ndarray:
    """Return accuracies [trials] less their margins, without the luck that changed classes tell of.

    All trials have an accuracy; see `sgq.bits.steadying.sure_values`.
    """
    return sure_values(
        accuracies=np.array([trial.accuracy for trial in trials], dtype=float),
        margins=np.array([trial.taken_off for trial in trials]),
        errors=np.array([trial.error for trial in trials]),
        flipped=np.array([trial.flipped for trial in trials], dtype=float),
        whole=np.array([trial.state == "finished" for trial in trials], dtype=bool),
    )


def trainings_of(trials: Sequence[Trial], trainings: int | None = None) -> np.ndarray:
    """Return the share of each training in each trial [trials, trainings], as the cost model takes it.

    Without `trainings` there are as many as the trials tell of.
    """
    numbers = [ALL_TRAININGS if trial.training is None else trial.training for trial in trials]
    return training_shares(numbers, trainings)
