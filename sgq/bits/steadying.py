"""Accuracies with less luck: how many rows change their class tells most of a drop.

A drop on some hundred validation rows is a small difference: of those that changed, how many became wrong
less how many became right. How many change at all is told by all rows, labelled or not, and so far more
surely. What a share of changes costs on average is learned from all measurements of a search; an accuracy,
or the mean of several, is then shrunk to that average, by how much surer it is than assignments differ from
it (empirical Bayes: Efron and Morris, Data Analysis Using Stein's Estimator, 1975).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

FEWEST = 30
"""Measurements from which on an average is learned."""
POWERS = (0, 1, 2, 4)
"""Of the share of changes, that the average is a sum of: but for the first, each takes something off."""
LEAST_ERROR = 1e-3
"""Standard error of an accuracy at least: one of which next to nothing changed has none."""
LEAST_SPREAD = 0.05
"""How much drops of assignments that change as much differ at least, as a share of the changes."""


@dataclass(frozen=True, eq=False)
class CostOfChanges:
    """What a share of changed classes costs on average, and how much assignments differ from that.

    `parts` are the accuracy without changes and what each power of the share takes off it, and `covariance`
    that of their estimates. Assignments differ from the average by `spread` times their share. The squared
    error of one measurement is `variance_a_share` times its share.
    """

    parts: np.ndarray
    covariance: np.ndarray
    spread: float
    variance_a_share: float

    @classmethod
    def learned(cls, accuracies: np.ndarray, errors: np.ndarray, flipped: np.ndarray) -> CostOfChanges | None:
        """Learn it from accuracies [trials], their standard errors, and their shares of changes, 0 to 1.

        What has a share that is not known (NaN) is left out; return None where too few are left, and where
        none of them changes anything.

        How sure a measurement is, is told by its share too: an error that is counted from the same few rows
        as the drop is small where the drop is so by luck, and would weigh most there.
        """
        known = np.isfinite(flipped)
        own, share = accuracies[known], flipped[known]
        if len(share) < FEWEST or not share.any():
            return None
        variance_a_share = float((errors[known] ** 2).sum() / share.sum())
        variance = np.maximum(LEAST_ERROR**2, variance_a_share * share)
        columns = _columns(share)
        weight = 1.0 / np.sqrt(variance)
        parts, _ = nnls(columns * weight[:, None], own * weight)
        # By moments: what is left of the squares without the errors of measuring is how much assignments
        # differ.
        surplus = float((((own - columns @ parts) ** 2 - variance) / variance**2).sum())
        scale = float((share**2 / variance**2).sum())
        spread = max(LEAST_SPREAD, math.sqrt(max(0.0, surplus / scale)))
        used = np.flatnonzero(parts)
        whole = variance + (spread * share) ** 2
        covariance = np.zeros((len(parts), len(parts)))
        covariance[np.ix_(used, used)] = np.linalg.pinv(
            columns[:, used].T @ (columns[:, used] / whole[:, None])
        )
        return cls(parts, covariance, spread, variance_a_share)

    def steadied(self, accuracies: np.ndarray, flipped: np.ndarray) -> np.ndarray:
        """Return accuracies [trials] of one measurement each, drawn to the average of such shares."""
        expected = _columns(flipped) @ self.parts
        variance = np.maximum(LEAST_ERROR**2, self.variance_a_share * flipped)
        differing = (self.spread * flipped) ** 2
        return np.asarray(expected + differing / (differing + variance) * (accuracies - expected))

    def steadied_mean(self, mean: float, error: float, flipped: np.ndarray) -> tuple[float, float]:
        """Return the mean of repeats of one assignment, drawn to the average of such shares, and its error.

        `error` is the standard error of the mean, `flipped` are the shares of the repeats. How sure the
        average itself is counts as well.
        """
        column = _columns(flipped).mean(0)
        expected = float(column @ self.parts)
        differing = (self.spread * float(flipped.mean())) ** 2 + float(column @ self.covariance @ column)
        variance = max(LEAST_ERROR, error) ** 2
        own = differing / (differing + variance)
        return expected + own * (mean - expected), math.sqrt(own * variance)


def sure_values(
    accuracies: np.ndarray, margins: np.ndarray, errors: np.ndarray, flipped: np.ndarray, whole: np.ndarray
) -> np.ndarray:
    """Return accuracies [trials], steadied, less their margins: what a search looks by.

    `errors` are their standard errors, `flipped` the shares of rows whose class changed, 0 to 1. Where that
    is not known (NaN), of trials that were stopped, which are not `whole`, and where there are too few to
    learn from, accuracies stay as they are.
    """
    shares = np.where(whole, flipped, np.nan)
    cost = CostOfChanges.learned(accuracies, errors, shares)
    if cost is None:
        return accuracies - margins
    steadied = cost.steadied(accuracies, shares)
    return np.where(np.isfinite(steadied), steadied, accuracies) - margins


def _columns(share: np.ndarray) -> np.ndarray:
    """Return what each power of shares [n] adds to the average [n, powers]."""
    return np.column_stack([share**power if power == 0 else -(share**power) for power in POWERS])
