"""A Gaussian process over assignments: additive in the axes, with pairwise interactions and a common trend.

Bits of an axis become a narrowness t from 0 (widest) to 1 (narrowest), linear in 1/bits. Over it every axis
has a Brownian prior, min(t, t'): effects start at 0 for the widest choice and move by steps of their own. The
kernel

    k(x, x') = trend mean(t) mean(t') + main mean_i a_i k_i + pairs mean_{i<j} a_i a_j k_i k_j + constant
             + training [same training]

is the second-order additive kernel of Duvenaud et al. (Additive Gaussian Processes, NeurIPS 2011); the trend
says that narrow choices cost accuracy on average, also on axes not yet tried; a_i is how much axis i matters.
What was measured on one of several trainings has the luck of that one in common, a random effect; predictions
are for the mean of all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.optimize import minimize

from sgq.bits.space import Space

CONSTANT = 4.0
START = np.log([1.0, 0.5, 0.5, 0.05, 0.05])
"""Where the logarithms of trend, main, pairs, training and noise start, in units of the values' variance."""
BOUNDS = ((-5.0, 4.0), (-6.0, 4.0), (-8.0, 4.0), (-8.0, 1.0), (-8.0, 1.0))
NOISE = 4
"""The place of the noise among them."""
ALL_TRAININGS = -1
"""In place of the number of one training: measured on all of them as often."""
PRIOR_SPREAD = 2.0
AXIS_BOUNDS = (-4.0, 4.0)
AXIS_SPREAD = 1.0
"""Of the logarithms of a_i, around 0."""
JITTER = 1e-8
FEWEST_TO_TUNE = 5
TUNING_STEPS = 20
MOST_TO_TUNE = 200
"""Of more measurements the kernel is tuned to so many, taken evenly from first to last."""

Parts: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Trend, main, pairwise and training part of a kernel: matrices [left, right], or vectors of the diagonal."""


def features_of(space: Space) -> tuple[np.ndarray, ...]:
    """Return for every axis how narrow each choice is, 0 (widest) to 1; zeros for one without order."""
    levels = []
    for axis in space.axes:
        inverse = np.array([1.0 / int(bits) for bits in axis.choices]) if axis.ordered else np.zeros(1)
        spread = inverse[0] - inverse[-1]
        levels.append((inverse - inverse[-1]) / spread if spread else np.zeros(len(axis.choices)))
    return tuple(levels)


def training_shares(numbers: Sequence[int] | np.ndarray, trainings: int | None = None) -> np.ndarray:
    """Return the share of each training in measurements [measurements, trainings], each of a single one.

    `numbers` are those of that one, from 0, or `ALL_TRAININGS`; without `trainings` there are as many as the
    numbers tell of.
    """
    places = np.asarray(numbers, dtype=np.int64)  # ALL_TRAININGS is the place of the last row
    if trainings is None:
        trainings = 1 + int(places.max(initial=ALL_TRAININGS))
    every = np.full((1, trainings), 1.0 / max(trainings, 1))
    return np.concatenate((np.eye(trainings), every))[places]


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
        self._axis_logarithms = np.zeros(len(steps))
        self._ends = np.cumsum([step.shape[1] for step in steps])[:-1]
        self._logarithms = START
        self._trainings = 0

    def fit(
        self,
        codes: np.ndarray,
        values: np.ndarray,
        *,
        repeats: np.ndarray | None = None,
        trainings: np.ndarray | None = None,
        tune: bool = True,
    ) -> None:
        """Condition on measurements: codes [trials, axes], values [trials].

        Each value is the mean of so many `repeats` [trials] (default: of one), which share the noise out.
        `trainings` [trials, trainings] are the shares that each training has in a value (default: there is
        one). `tune` finds the kernel's sizes, those of the axes and the noise anew by their marginal
        likelihood.
        """
        shares = 1.0 / np.asarray(np.ones(len(values)) if repeats is None else repeats, dtype=float)
        luck = np.zeros((len(values), 0)) if trainings is None else trainings
        self._trainings = luck.shape[1]
        self._centre, self._spread = float(values.mean()), float(values.std()) or 1.0
        scaled = (values - self._centre) / self._spread
        if tune and len(values) >= FEWEST_TO_TUNE:
            self._tune(codes, scaled, shares, luck)
        self._known = self._features(codes, luck)
        kernel = _kernel(self._logarithms, _parts(self._known, self._known))
        kernel[np.diag_indices_from(kernel)] += np.exp(self._logarithms[NOISE]) * shares + JITTER
        self._factor = cho_factor(kernel, lower=True, check_finite=False)
        self._weights = cho_solve(self._factor, scaled, check_finite=False)

    def _tune(self, codes: np.ndarray, scaled: np.ndarray, shares: np.ndarray, luck: np.ndarray) -> None:
        if len(scaled) > MOST_TO_TUNE:
            taken = np.linspace(0, len(scaled) - 1, MOST_TO_TUNE).astype(np.int64)
            codes, scaled, shares, luck = codes[taken], scaled[taken], shares[taken], luck[taken]
        rows = [step[codes[:, axis]] for axis, step in enumerate(self._steps)]
        found = minimize(
            _negative_evidence,
            np.concatenate((self._logarithms, self._axis_logarithms)),
            args=(self._trend(codes), np.array([row @ row.T for row in rows]), luck @ luck.T, scaled, shares),
            jac=True,
            method="L-BFGS-B",
            bounds=(*BOUNDS, *[AXIS_BOUNDS] * len(rows)),
            options={"maxiter": TUNING_STEPS},
        ).x
        self._logarithms, self._axis_logarithms = found[: len(BOUNDS)], found[len(BOUNDS) :]

    def _trend(self, codes: np.ndarray) -> np.ndarray:
        """Return the mean narrowness [assignments]."""
        levels = [level[codes[:, axis]] for axis, level in enumerate(self._levels)]
        return np.asarray(np.mean(levels, axis=0))

    @property
    def _sized_steps(self) -> tuple[np.ndarray, ...]:
        sizes = np.exp(self._axis_logarithms / 2)
        return tuple(step * size for step, size in zip(self._steps, sizes, strict=True))

    @property
    def _sized_squares(self) -> tuple[np.ndarray, ...]:
        sizes = np.exp(self._axis_logarithms)
        return tuple(square * size for square, size in zip(self._squares, sizes, strict=True))

    @property
    def noise(self) -> float:
        """The standard deviation of one measurement around its mean, as fitted."""
        return self._spread * float(np.exp(self._logarithms[NOISE] / 2))

    def predict(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation [assignments] of the accuracy without measuring noise.

        It is that of the mean over all trainings.
        """
        # Single precision: the matrix [assignments, trials] is what a prediction costs.
        features = self._features(codes).single()
        across = _kernel(self._logarithms, _parts(features, self._known.single()))
        factor, weights = self._factor[0].astype(np.float32), self._weights.astype(np.float32)
        reduced = solve_triangular(factor, across.T, lower=True, check_finite=False)
        variance = _kernel(self._logarithms, _own_parts(features)) - np.einsum("ij,ij->j", reduced, reduced)
        mean = (across @ weights).astype(np.float64)
        return self._centre + self._spread * mean, self._spread * np.sqrt(np.maximum(variance, JITTER))

    def mean(self, codes: np.ndarray) -> np.ndarray:
        """Return the mean [assignments] of `predict` alone, at a cost that does not grow with the trials.

        The sum over trials of weights and of squared inner products is a quadratic form of the features.
        """
        known, weights = self._known, self._weights
        trend, main, pairs, training = np.exp(self._logarithms[:NOISE])
        pairs /= max(known.axes * (known.axes - 1), 1)
        form = pairs * known.main.T @ (weights[:, None] * known.main)
        steps, of_squares = self._sized_steps, self._sized_squares
        features = _looked_up(steps, codes, np.float32)
        mean = np.einsum("ij,ij->i", features @ form.astype(np.float32), features)
        # All else is a sum over axes of what a choice alone decides.
        slopes = np.split(main / known.axes * weights @ known.main, self._ends)
        squares = np.split(pairs * weights @ known.square, self._ends)
        of_trend = trend * (weights @ known.trend) / known.axes
        of_all = CONSTANT + training * known.luck.mean(axis=1) if self._trainings else CONSTANT
        total = np.full(len(codes), np.sum(of_all * weights))
        for axis, level in enumerate(self._levels):
            own = steps[axis] @ slopes[axis] - of_squares[axis] @ squares[axis] + of_trend * level
            total += own[codes[:, axis]]
        return self._centre + self._spread * (total + mean)

    def _features(self, codes: np.ndarray, luck: np.ndarray | None = None) -> Features:
        """Return what the kernel reads; without `luck` of the mean of all trainings."""
        if luck is None:
            luck = training_shares(np.full(len(codes), ALL_TRAININGS), self._trainings)
        return Features(
            trend=self._trend(codes),
            main=_looked_up(self._sized_steps, codes, np.float64),
            square=_looked_up(self._sized_squares, codes, np.float64),
            luck=luck,
            axes=codes.shape[1],
        )


@dataclass(frozen=True)
class Features:
    """What the kernel's parts are inner products of: mean narrowness, sums of k_i and its squares, luck."""

    trend: np.ndarray
    main: np.ndarray
    square: np.ndarray
    luck: np.ndarray
    axes: int

    def single(self) -> Features:
        """Return the features in single precision."""
        arrays = (self.trend, self.main, self.square, self.luck)
        trend, main, square, luck = (part.astype(np.float32) for part in arrays)
        return Features(trend, main, square, luck, self.axes)


def _steps(levels: np.ndarray) -> np.ndarray:
    """Return a row a choice such that the product of two rows is the smaller of their two levels."""
    ascending = np.sort(levels)
    rises = np.sqrt(np.diff(ascending, prepend=0.0))
    return np.where(levels[:, None] >= ascending[None, :], rises, 0.0)


def _looked_up(tables: Sequence[np.ndarray], codes: np.ndarray, dtype: type[np.floating]) -> np.ndarray:
    """Return the rows of all axes' tables that codes choose, side by side: [assignments, columns]."""
    looked_up = np.empty((len(codes), sum(table.shape[1] for table in tables)), dtype)
    start = 0
    for axis, table in enumerate(tables):
        end = start + table.shape[1]
        looked_up[:, start:end] = table.astype(dtype)[codes[:, axis]]
        start = end
    return looked_up


def _parts(left: Features, right: Features) -> Parts:
    trend, main = np.outer(left.trend, right.trend), left.main @ right.main.T
    return *_combined(trend, main, left.square @ right.square.T, left.axes), left.luck @ right.luck.T


def _own_parts(features: Features) -> Parts:
    main, square, luck = (
        np.einsum("ij,ij->i", rows, rows) for rows in (features.main, features.square, features.luck)
    )
    return *_combined(features.trend**2, main, square, features.axes), luck


def _combined(
    trend: np.ndarray, total: np.ndarray, squares: np.ndarray, axes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return trend, main and pairwise part of the kernel from the sums over axes of k_i and of its square."""
    pairs = total * total
    pairs -= squares
    pairs /= max(axes * (axes - 1), 1)
    total /= axes
    return trend, total, pairs


def _kernel(logarithms: np.ndarray, parts: Parts) -> np.ndarray:
    trend, main, pairs, training = np.exp(logarithms[:NOISE]).astype(parts[0].dtype)
    kernel = trend * parts[0]
    kernel += main * parts[1]
    kernel += pairs * parts[2]
    kernel += training * parts[3]
    kernel += CONSTANT
    return kernel


def _negative_evidence(
    logarithms: np.ndarray,
    trend: np.ndarray,
    own: np.ndarray,
    luck: np.ndarray,
    values: np.ndarray,
    shares: np.ndarray,
) -> tuple[float, np.ndarray]:
    """Return minus the logarithm of the evidence, with wide priors, and its gradient.

    logarithms: those of trend, main, pairs, training, noise and of each axis's size; own: k_i [axes, trials,
    trials]; luck: the training part [trials, trials]; shares: how much of the noise each value has [trials]
    """
    axes, trials = own.shape[:2]
    sizes, axis_sizes = np.exp(logarithms[: len(BOUNDS)]), np.exp(logarithms[len(BOUNDS) :])
    flat = own.reshape(axes, -1)
    flat_squares = flat * flat
    total = (axis_sizes @ flat).reshape(trials, trials)
    squares = (axis_sizes**2 @ flat_squares).reshape(trials, trials)
    parts = (*_combined(np.outer(trend, trend), total.copy(), squares, axes), luck)
    kernel = _kernel(logarithms, parts)
    kernel[np.diag_indices_from(kernel)] += sizes[NOISE] * shares + JITTER
    factor = cho_factor(kernel, lower=True, check_finite=False)
    inverse = cho_solve(factor, np.eye(trials), check_finite=False)
    weights = inverse @ values
    prior = np.concatenate((START, np.zeros(axes)))
    spread = np.concatenate((np.full(len(BOUNDS), PRIOR_SPREAD), np.full(axes, AXIS_SPREAD)))
    away = (logarithms - prior) / spread
    evidence = 0.5 * values @ weights + np.log(np.diag(factor[0])).sum() + 0.5 * away @ away
    slope = inverse - np.outer(weights, weights)
    of_sizes = [size * np.vdot(slope, part) for size, part in zip(sizes[:NOISE], parts, strict=True)]
    of_sizes.append(sizes[NOISE] * np.diag(slope) @ shares)
    of_main = flat @ slope.ravel()
    of_pairs = flat @ (slope * total).ravel() - axis_sizes * (flat_squares @ slope.ravel())
    per_pair = 2.0 * sizes[2] / max(axes * (axes - 1), 1)
    of_axes = axis_sizes * (sizes[1] / axes * of_main + per_pair * of_pairs)
    return float(evidence), 0.5 * np.concatenate((of_sizes, of_axes)) + away / spread
