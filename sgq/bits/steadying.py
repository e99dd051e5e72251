"""Accuracies with less luck: how many rows change their class tells most of a drop.

A drop on some hundred validation rows is a small difference: of those that changed, how many became wrong
less how many became right. How many change at all is told by all rows, labelled or not, and so far more
surely. What a share of changes costs on average is learned from the finished measurements of a search; an
accuracy, or the mean of several, is then shrunk to that average, by how much surer it is than assignments
differ from it (empirical Bayes: Efron and Morris, Data Analysis Using Stein's Estimator, 1975).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import nnls

from sgq.bits.changes import Changes, RowSums

FEWEST = 30
"""Measurements from which on an average is learned."""
POWERS = (0, 1, 2, 4)
"""Of the share of changes, that the average is a sum of: but for the first, each takes something off."""
LEAST_ERROR = 1e-4
"""Standard error of an accuracy at least: one of which next to nothing changed has none."""
LEAST_SPREAD = 0.05
"""How much drops of assignments that change as much differ at least, as a share of the changes."""


@dataclass(frozen=True)
class Expectation:
    """What an accuracy is expected to be, before it is measured, and how sure that is.

    `variance` is the squared error. `shared` is what the errors of the expectation and of what is measured
    have in common, a covariance: both may be of the same validation rows.
    """

    accuracy: float
    variance: float
    shared: float = 0.0

    def with_measured(self, accuracy: float, error: float) -> tuple[float, float]:
        """Return the accuracy by both, and its standard error, of what was measured with a standard error.

        It is the mean of both of the least error (the best linear unbiased one).
        """
        apart = self.variance + error**2 - 2.0 * self.shared
        if apart > 0.0:
            own = min(1.0, max(0.0, (self.variance - self.shared) / apart))
        else:
            own = float(error**2 <= self.variance)
        variance = own**2 * error**2 + (1 - own) ** 2 * self.variance + 2 * own * (1 - own) * self.shared
        return self.accuracy + own * (accuracy - self.accuracy), math.sqrt(max(0.0, variance))


@dataclass(frozen=True, eq=False)
class CostOfChanges:
    """What a share of changed classes costs on average, and how much assignments differ from that.

    `parts` are the accuracy without changes and what each power of the share takes off it; each is a sum of
    the measurements that they were learned from, by `influence` [parts, measurements]. Assignments differ
    from the average by `spread` times their share. The squared error of one measurement is
    `variance_a_share` times its share.
    """

    parts: np.ndarray
    influence: np.ndarray
    spread: float
    variance_a_share: float

    @classmethod
    def learned(cls, accuracies: np.ndarray, errors: np.ndarray, flipped: np.ndarray) -> CostOfChanges | None:
        """Learn it from measured accuracies, their standard errors, and their shares of changes, 0 to 1.

        Return None where they are too few, and where none of them changes anything.

        How sure a measurement is, is told by its share too: an error that is counted from the same few rows
        as the drop is small where the drop is so by luck, and would weigh most there.
        """
        if len(flipped) < FEWEST or not flipped.any():
            return None
        variance_a_share = float((errors**2).sum() / flipped.sum())
        variance = np.maximum(LEAST_ERROR**2, variance_a_share * flipped)
        weight = 1.0 / np.sqrt(variance)
        columns = _columns(flipped)
        parts, _ = nnls(columns * weight[:, None], accuracies * weight)
        used = np.flatnonzero(parts)
        # By moments: what is left of the squares without the errors of measuring is how much assignments
        # differ; what changes much tells most of it.
        squares = (accuracies - columns @ parts) ** 2 * len(flipped) / (len(flipped) - len(used))
        tells = (flipped / variance) ** 2
        differing = float((tells * (squares - variance)).sum() / (tells * flipped**2).sum())
        influence = np.zeros((len(parts), len(flipped)))
        weighted = columns[:, used] * weight[:, None]
        size = np.linalg.norm(weighted, axis=0)
        influence[used] = np.linalg.pinv(weighted / size) / size[:, None] * weight
        return cls(parts, influence, max(LEAST_SPREAD, math.sqrt(max(0.0, differing))), variance_a_share)

    def steadied(self, accuracies: np.ndarray, flipped: np.ndarray) -> np.ndarray:
        """Return accuracies of one measurement each, drawn to the average of such shares."""
        expected = _columns(flipped) @ self.parts
        variance = np.maximum(LEAST_ERROR**2, self.variance_a_share * flipped)
        differing = (self.spread * flipped) ** 2
        return np.asarray(expected + differing / (differing + variance) * (accuracies - expected))

    def average(self, flipped: np.ndarray) -> tuple[float, np.ndarray]:
        """Return what repeats with such shares have on average, and each measurement's weight in it."""
        column = _columns(flipped).mean(0)
        return float(column @ self.parts), column @ self.influence

    def differing(self, flipped: np.ndarray) -> float:
        """Return by how much (a standard deviation) assignments with such shares differ from the average."""
        return self.spread * float(flipped.mean())


@dataclass(frozen=True, eq=False)
class Experience:
    """The cost of changes, and the `runs` that it was learned from, whose rows tell how sure it is."""

    cost: CostOfChanges
    runs: Sequence[Changes]

    @classmethod
    def of(cls, accuracies: np.ndarray, flipped: np.ndarray, runs: Sequence[Changes]) -> Experience | None:
        """Learn from measured accuracies, their shares of changes and their runs; None where too few are.

        By how much assignments differ is what is left of the squares without the errors of measuring, as in
        `CostOfChanges.learned`; but luck that they have in common, on the same rows, is not left of them.
        """
        cost = CostOfChanges.learned(accuracies, np.array([run.error for run in runs]), flipped)
        if cost is None:
            return None
        left = np.eye(len(runs)) - _columns(flipped) @ cost.influence
        noise = ((left @ _covariance(runs)) * left).sum(1)
        tells = (flipped / np.maximum(LEAST_ERROR**2, cost.variance_a_share * flipped)) ** 2
        surplus = float(tells @ ((left @ accuracies) ** 2 - noise))
        scale = float(tells @ (left**2 @ flipped**2))
        return cls(replace(cost, spread=max(LEAST_SPREAD, math.sqrt(max(0.0, surplus / scale)))), runs)

    def expects(self, flipped: Sequence[float], runs: Sequence[Changes]) -> Expectation:
        """Return what is expected of repeats with such shares of changes.

        Measurements share their validation rows with each other, and with these `runs`: all that a row adds
        comes together, as in `sgq.bits.changes.joint_error`. Errors that come out as opposite ones are so by
        chance, and are taken for independent.
        """
        shares = np.array(flipped, dtype=float)
        accuracy, weights = self.cost.average(shares)
        average = RowSums.of(self.runs, weights.tolist())
        variance = max(0.0, average.covariance(average)) + self.cost.differing(shares) ** 2
        return Expectation(accuracy, variance, max(0.0, average.covariance(RowSums.of_mean(runs))))


def sure_values(
    accuracies: np.ndarray, margins: np.ndarray, errors: np.ndarray, flipped: np.ndarray, whole: np.ndarray
) -> np.ndarray:
    """Return accuracies [trials], steadied, less their margins: what a search looks by.

    `errors` are their standard errors, `flipped` the shares of rows whose class changed, 0 to 1. Where that
    is not known (NaN), of trials that were stopped, which are not `whole`, and where there are too few to
    learn from, accuracies stay as they are.
    """
    known = whole & np.isfinite(flipped)
    cost = CostOfChanges.learned(accuracies[known], errors[known], flipped[known])
    steady = accuracies.copy()
    if cost is not None:
        steady[known] = cost.steadied(accuracies[known], flipped[known])
    return steady - margins


def _covariance(runs: Sequence[Changes]) -> np.ndarray:
    """Return the covariance of the drops of all runs [runs, runs] over samples of rows."""
    rows = sorted({row for run in runs for row in (*run.wrong, *run.right)})
    place = {row: number for number, row in enumerate(rows)}
    drops = np.zeros((len(runs), len(rows)))
    for number, run in enumerate(runs):
        drops[number, [place[row] for row in run.wrong]] = 1.0 / run.rows
        drops[number, [place[row] for row in run.right]] = -1.0 / run.rows
    total = drops.sum(1)
    return np.asarray(drops @ drops.T - np.outer(total, total) / max(run.rows for run in runs))


def _columns(share: np.ndarray) -> np.ndarray:
    """Return what each power of shares [n] adds to the average [n, powers]."""
    return np.column_stack([share**power if power == 0 else -(share**power) for power in POWERS])
