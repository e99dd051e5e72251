"""Accuracies of single finetunings with less luck: how many rows change their class tells most of a drop.

A drop on some hundred validation rows is a small difference: of those that changed, how many became wrong
less how many became right. How many change at all is told by all rows, labelled or not, and so far more
surely. What a share of changes costs on average is learned from all measurements of a search; each accuracy
is then shrunk to that average, by how much surer it is than assignments differ from it (empirical Bayes:
Efron and Morris, Data Analysis Using Stein's Estimator, 1975).
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls

FEWEST = 30
"""Measurements from which on an average is learned."""
POWERS = (1, 2, 4)
"""Of the share of changes, that the average drop is a sum of: none is negative, so that it only grows."""
LEAST_ERROR = 1e-4
"""Standard error of an accuracy at least: one of which next to nothing changed has none."""
LEAST_SPREAD = 0.05
"""How much drops of assignments that change as much differ at least, as a share of the changes."""


def sure_values(
    accuracies: np.ndarray, margins: np.ndarray, errors: np.ndarray, flipped: np.ndarray, whole: np.ndarray
) -> np.ndarray:
    """Return accuracies [trials], steadied, less their margins: what a search looks by.

    Those of trials that were stopped, which are not `whole`, are not steadied.
    """
    return steadied(accuracies, errors, np.where(whole, flipped, np.nan)) - margins


def steadied(accuracies: np.ndarray, errors: np.ndarray, flipped: np.ndarray) -> np.ndarray:
    """Return accuracies [trials] drawn to the average of trials that change as much.

    `errors` are their standard errors, `flipped` the shares of rows whose class changed, 0 to 1. Where that
    is not known (NaN), and where too few are, accuracies stay as they are.

    How sure one is, is told by its share too: an error that is counted from the same few rows as the drop is
    small where the drop is so by luck, and would weigh most there.
    """
    known = np.isfinite(flipped)
    if known.sum() < FEWEST:
        return accuracies
    own, share = accuracies[known], flipped[known]
    variance = np.full(len(own), LEAST_ERROR**2)
    if share.any():
        variance = np.maximum(variance, share * (errors[known] ** 2).sum() / share.sum())
    expected = _average(own, share, variance)
    # By moments: what is left of the squares without the errors of measuring is how much assignments differ.
    # Those of which much changes tell most of it.
    tells = (share / variance) ** 2
    surplus, scale = tells @ ((own - expected) ** 2 - variance), tells @ share**2
    spread = max(LEAST_SPREAD, np.sqrt(max(0.0, surplus / scale)) if scale else 0.0)
    differing = (spread * share) ** 2
    found = accuracies.copy()
    found[known] = expected + differing / (differing + variance) * (own - expected)
    return found


def _average(accuracies: np.ndarray, share: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Return the accuracy that is expected at each share of changes; it falls from that without any."""
    weight = 1.0 / np.sqrt(variance)
    columns = np.column_stack((np.ones_like(share), *(-(share**power) for power in POWERS)))
    parts, _ = nnls(columns * weight[:, None], accuracies * weight)
    return np.asarray(columns @ parts)
