"""A Gaussian process over assignments: additive in the axes, with pairwise interactions and a common trend.

Bits of an axis become a narrowness t from 0 (widest) to 1 (narrowest), linear in 1/bits. Over it every axis
has a Brownian prior, min(t, t'): effects start at 0 for the widest choice and move by steps of their own. The
kernel

    k(x, x') = trend · mean(t) mean(t') + main · mean_i k_i + pairs · mean_{i<j} k_i k_j + constant

is the second-order additive kernel of Duvenaud et al. (Additive Gaussian Processes, NeurIPS 2011); the trend
says that narrow choices cost accuracy on average, also on axes not yet tried.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.optimize import minimize

from sgq.bits.space import Space

CONSTANT = 4.0
START = np.log([1.0, 0.5, 0.5, 0.05])
"""Where the logarithms of trend, main, pairs and noise start, in units of the accuracies' variance."""
BOUNDS = ((-5.0, 4.0), (-6.0, 4.0), (-8.0, 4.0), (-8.0, 1.0))
PRIOR_SPREAD = 2.0
JITTER = 1e-8
FEWEST_TO_TUNE = 5
TUNING_STEPS = 30

Parts: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Trend, main and pairwise part of a kernel: matrices [left, right], or vectors of the diagonal."""


def features_of(space: Space) -> tuple[np.ndarray, ...]:
    """Return for every axis how narrow each of its choices is, 0 (widest) to 1; zeros for an axis without
    order."""
    levels = []
    for axis in space.axes:
        inverse = np.array([1.0 / int(bits) for bits in axis.choices]) if axis.ordered else np.zeros(1)
        spread = inverse[0] - inverse[-1]
        levels.append((inverse - inverse[-1]) / spread if spread else np.zeros(len(axis.choices)))
    return tuple(levels)


class GaussianProcess:
    """A posterior over the accuracy of all assignments of a space, given noisy measurements of some."""

    def __init__(self, space: Space) -> None:
        self._levels = features_of(space)
        steps = [
            _steps(level) if axis.ordered else np.eye(len(axis.choices))
            for axis, level in zip(space.axes, self._levels, strict=True)
        ]
        squares = [
            _steps(level**2) if axis.ordered else np.eye(len(axis.choices))
            for axis, level in zip(space.axes, self._levels, strict=True)
        ]
        self._steps, self._squares = tuple(steps), tuple(squares)
        self._logarithms = START

    def fit(self, codes: np.ndarray, values: np.ndarray, *, tune: bool = True) -> None:
        """Condition on measurements: codes [trials, axes], values [trials].

        `tune` finds the kernel's three sizes and the noise anew by their marginal likelihood.
        """
        self._centre, self._spread = float(values.mean()), float(values.std()) or 1.0
        scaled = (values - self._centre) / self._spread
        self._known = self._features(codes)
        parts = _parts(self._known, self._known)
        if tune and len(values) >= FEWEST_TO_TUNE:
            self._logarithms = minimize(
                _negative_evidence,
                self._logarithms,
                args=(parts, scaled),
                jac=True,
                method="L-BFGS-B",
                bounds=BOUNDS,
                options={"maxiter": TUNING_STEPS},
            ).x
        kernel = _kernel(self._logarithms, parts)
        kernel[np.diag_indices_from(kernel)] += np.exp(self._logarithms[3]) + JITTER
        self._factor = cho_factor(kernel, lower=True, check_finite=False)
        self._weights = cho_solve(self._factor, scaled, check_finite=False)

    @property
    def noise(self) -> float:
        """The standard deviation of a measurement around its mean, as fitted."""
        return self._spread * float(np.exp(self._logarithms[3] / 2))

    def predict(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation [assignments] of the accuracy without measuring noise."""
        # Single precision: the matrix [assignments, trials] is what a prediction costs.
        features = self._features(codes).single()
        across = _kernel(self._logarithms, _parts(features, self._known.single()))
        factor, weights = self._factor[0].astype(np.float32), self._weights.astype(np.float32)
        reduced = solve_triangular(factor, across.T, lower=True, check_finite=False)
        variance = _kernel(self._logarithms, _own_parts(features)) - np.einsum("ij,ij->j", reduced, reduced)
        mean = (across @ weights).astype(np.float64)
        return self._centre + self._spread * mean, self._spread * np.sqrt(np.maximum(variance, JITTER))

    def _features(self, codes: np.ndarray) -> Features:
        columns = [codes[:, axis] for axis in range(codes.shape[1])]
        return Features(
            trend=np.mean(
                [level[column] for level, column in zip(self._levels, columns, strict=True)], axis=0
            ),
            main=np.hstack([step[column] for step, column in zip(self._steps, columns, strict=True)]),
            square=np.hstack([step[column] for step, column in zip(self._squares, columns, strict=True)]),
            axes=codes.shape[1],
        )


@dataclass(frozen=True)
class Features:
    """What the kernel's parts are inner products of: mean narrowness, sums of k_i and of its squares."""

    trend: np.ndarray
    main: np.ndarray
    square: np.ndarray
    axes: int

    def single(self) -> Features:
        """Return the features in single precision."""
        trend, main, square = (part.astype(np.float32) for part in (self.trend, self.main, self.square))
        return Features(trend, main, square, self.axes)


def _steps(levels: np.ndarray) -> np.ndarray:
    """Return a row a choice such that the product of two rows is the smaller of their two levels."""
    ascending = np.sort(levels)
    rises = np.sqrt(np.diff(ascending, prepend=0.0))
    return np.where(levels[:, None] >= ascending[None, :], rises, 0.0)


def _parts(left: Features, right: Features) -> Parts:
    return _combined(
        np.outer(left.trend, right.trend), left.main @ right.main.T, left.square @ right.square.T, left.axes
    )


def _own_parts(features: Features) -> Parts:
    main, square = (np.einsum("ij,ij->i", rows, rows) for rows in (features.main, features.square))
    return _combined(features.trend**2, main, square, features.axes)


def _combined(trend: np.ndarray, total: np.ndarray, squares: np.ndarray, axes: int) -> Parts:
    """Return trend, main and pairwise part of the kernel from the sums over axes of k_i and of its square."""
    pairs = total * total
    pairs -= squares
    pairs /= max(axes * (axes - 1), 1)
    total /= axes
    return trend, total, pairs


def _kernel(logarithms: np.ndarray, parts: Parts) -> np.ndarray:
    trend, main, pairs = np.exp(logarithms[:3]).astype(parts[0].dtype)
    kernel = trend * parts[0]
    kernel += main * parts[1]
    kernel += pairs * parts[2]
    kernel += CONSTANT
    return kernel


def _negative_evidence(logarithms: np.ndarray, parts: Parts, values: np.ndarray) -> tuple[float, np.ndarray]:
    """Return minus the logarithm of the evidence, with a wide prior around `START`, and its gradient."""
    noise = np.exp(logarithms[3])
    kernel = _kernel(logarithms, parts)
    kernel[np.diag_indices_from(kernel)] += noise + JITTER
    factor = cho_factor(kernel, lower=True, check_finite=False)
    inverse = cho_solve(factor, np.eye(len(values)), check_finite=False)
    weights = inverse @ values
    away = (logarithms - START) / PRIOR_SPREAD
    evidence = 0.5 * values @ weights + np.log(np.diag(factor[0])).sum() + 0.5 * away @ away
    slope = inverse - np.outer(weights, weights)
    gradient = [0.5 * np.exp(logarithms[i]) * np.sum(slope * parts[i]) for i in range(3)]
    gradient.append(0.5 * noise * np.trace(slope))
    return float(evidence), np.array(gradient) + away / PRIOR_SPREAD
