"""Spaces of bits whose every assignment is known, so that a search can be held against the best there is.

`synthetic` is drawn: 9 axes of 2, 4 or 8 bits, and a third of the variance of accuracy in pairs of axes.
`trained` is read: all 3^6 assignments of a GCN on Cora, which tools/record_table.py finetuned, seed by seed.
A search sees noisy measurements; what it found is judged by accuracies without noise, or, where there are
measurements only, by the mean over their seeds.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from math import prod, sqrt
from pathlib import Path

import numpy as np

from sgq.bits.front import Frame, hypervolume
from sgq.bits.limits import ROUNDING
from sgq.bits.space import Assignment, Space
from sgq.errors import DataError

TRAINED_CSV = Path(__file__).with_name("gcn-cora-729.csv")
BYTES_COLUMN, FLOAT_COLUMN, ACCURACY_COLUMN = "packed_bytes", "float_val", "val_seed_{}"

LIMIT_DROP = 0.01
"""The accuracy limit of the searches: so far below the float model."""
FLOAT_ACCURACY = 0.82
NOISE = 0.01
"""Standard deviation of a measurement of the synthetic table."""
LEAST_PAIR_SHARE = 0.32
AIMED_PAIR_SHARE = 0.325
"""Pairs of products reach at most 0.348 with these choices of bits: their main effects are there too."""
EFFECT_SPREAD = 0.6
"""Of the logarithms of effects of axes and of pairs; bytes spread by 1."""
DEEP_QUANTILE, DEEP_DROP = 0.9, 0.2
CONSTANT_BYTES, SHARED_BYTES = 1e5, 1e6


@dataclass(frozen=True, eq=False)
class RecordedTable:
    """All assignments of a space in the order of `Space.every`: bytes and accuracies (0 to 1), arrays [size].

    `accuracy` is what results are judged by: free of noise, or the mean over `repeats` [size, seeds], the
    recorded measurements (None: one is drawn). `noise` is the standard deviation of a measurement.
    """

    space: Space
    memory: np.ndarray
    accuracy: np.ndarray
    repeats: np.ndarray | None
    noise: float
    float_accuracy: float

    def places(self, codes: Sequence[Sequence[int]] | np.ndarray) -> np.ndarray:
        """Return where assignments [assignments, axes] stand in the arrays."""
        return np.asarray(codes, dtype=np.int64).reshape(-1, len(self._strides)) @ self._strides

    def of_codes(self, codes: np.ndarray) -> np.ndarray:
        """Return bytes [assignments] of codes [assignments, axes]."""
        return self.memory[self.places(codes)]

    def __call__(self, assignment: Assignment) -> float:
        """Return the bytes of one assignment: a table is the `memory` of a search."""
        return float(self.memory[self.place(assignment)])

    def place(self, assignment: Assignment) -> int:
        """Return where an assignment stands in the arrays."""
        return int(self.places([self.space.codes(assignment)])[0])

    def measured(self, place: int, *, seed: int) -> float:
        """Return the accuracy that a search with a seed measures, always the same one of an assignment."""
        generator = np.random.default_rng((seed, place))
        if self.repeats is not None:
            return float(self.repeats[place, generator.integers(self.repeats.shape[1])])
        return float(np.clip(self.accuracy[place] + generator.normal(0.0, self.noise), 0.0, 1.0))

    @property
    def least_accuracy(self) -> float:
        """The accuracy limit of a search."""
        return self.float_accuracy - LIMIT_DROP

    @cached_property
    def frame(self) -> Frame:
        """Where hypervolumes are measured: 10 points below float, from the narrowest to the widest."""
        return Frame.below(self.float_accuracy, float(self.memory[0]), float(self.memory[-1]))

    @cached_property
    def best_hypervolume(self) -> float:
        """The hypervolume of all assignments together."""
        return hypervolume(self.memory, self.accuracy, self.frame)

    @cached_property
    def inside(self) -> np.ndarray:
        """Which assignments [size] hold the accuracy limit."""
        return self.accuracy >= self.least_accuracy - ROUNDING

    @cached_property
    def best_saving_bytes(self) -> float:
        """How many bytes below the widest assignment the least one inside the limit is."""
        return float(self.memory[-1] - self.memory[self.inside].min())

    @cached_property
    def _strides(self) -> np.ndarray:
        counts = self.space.counts
        return np.array([prod(counts[axis + 1 :]) for axis in range(len(counts))], dtype=np.int64)


def synthetic_table(seed: int = 0, *, axes: int = 9, bits: Sequence[int] = (2, 4, 8)) -> RecordedTable:
    """Return a drawn table: more bits never hurt, and pairs alone carry at least 0.32 of the variance.

    Over errors e = 2^-bits, scaled to 0 (widest) to 1, the drop is a sum of every axis's own effect and of
    products e_i e_j of disjoint pairs; one axis may be left over. 90 % of the drops are within 20 points.
    """
    generator = np.random.default_rng(seed)
    space = Space.of({f"axis-{axis}": tuple(bits) for axis in range(axes)})
    codes = np.array(list(space.every()))
    error = 2.0 ** -np.array(space.axes[0].choices, dtype=float)
    errors = ((error - error[-1]) / (error[0] - error[-1]))[codes]
    main = errors @ generator.lognormal(0.0, EFFECT_SPREAD, axes)
    order = generator.permutation(axes)
    pairs = np.zeros(space.size)
    for left, right in zip(order[:-1:2], order[1::2], strict=True):
        pairs += generator.lognormal(0.0, EFFECT_SPREAD) * errors[:, left] * errors[:, right]
    drop = main + _weight_of_pairs(space, main, pairs) * pairs
    share = pair_share(space, drop)
    assert share >= LEAST_PAIR_SHARE, (
        f"expected pairs to carry {LEAST_PAIR_SHARE} of the variance (got {share})"
    )
    sizes = generator.lognormal(0.0, 1.0, axes)
    width_bytes = np.array(space.axes[0].choices)[codes] / 8
    return RecordedTable(
        space=space,
        memory=CONSTANT_BYTES + SHARED_BYTES * (width_bytes @ (sizes / sizes.sum())),
        accuracy=FLOAT_ACCURACY - drop * DEEP_DROP / np.quantile(drop, DEEP_QUANTILE),
        repeats=None,
        noise=NOISE,
        float_accuracy=FLOAT_ACCURACY,
    )


def _weight_of_pairs(space: Space, main: np.ndarray, pairs: np.ndarray) -> float:
    """Return the w at which pure interactions carry the aimed share of the variance of main + w pairs.

    With v their variance in `pairs`, w solves w^2 v = share (var main + 2 w cov + w^2 var pairs).
    """
    covariance = float(np.cov(main, pairs, bias=True)[0, 1])
    square = pair_share(space, pairs) * pairs.var() - AIMED_PAIR_SHARE * pairs.var()
    half = AIMED_PAIR_SHARE * covariance
    return (half + sqrt(half**2 + square * AIMED_PAIR_SHARE * main.var())) / square


def pair_share(space: Space, values: np.ndarray) -> float:
    """Return which share (0 to 1) of the variance of values [size] two axes have only together.

    It is that of the functional ANOVA over the full factorial: means over a pair of axes, less those over
    each of the two.
    """
    cube = np.asarray(values, dtype=float).reshape(space.counts)
    cube = cube - cube.mean()
    axes = range(len(space.counts))

    def mean_over(*kept: int) -> np.ndarray:
        return cube.mean(axis=tuple(axis for axis in axes if axis not in kept))

    single = [mean_over(axis) for axis in axes]
    pure = sum(
        float((mean_over(left, right) - single[left][:, None] - single[right][None, :]).var())
        for left, right in combinations(axes, 2)
    )
    return pure / float(cube.var())


def trained_table(file: Path = TRAINED_CSV) -> RecordedTable:
    """Return the table that tools/record_table.py wrote; raise DataError where a file is no such table."""
    try:
        header, *rows = csv.reader(file.read_text(encoding="utf-8").splitlines())
        place = header.index(BYTES_COLUMN)
        seeds = len(header) - place - 2
        expected = [BYTES_COLUMN, FLOAT_COLUMN, *(ACCURACY_COLUMN.format(seed) for seed in range(seeds))]
        bits = np.array([[int(field) for field in row[:place]] for row in rows])
        fields = np.array([[float(field) for field in row[place:]] for row in rows])
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: expected a table of tools/record_table.py (got {error})") from error
    if header[place:] != expected or not seeds:
        raise DataError(f"{file}: expected columns {', '.join(expected)} (got {', '.join(header[place:])})")
    space = Space.of({name: sorted(set(bits[:, axis].tolist())) for axis, name in enumerate(header[:place])})
    every = [[*space.assignment(codes).values()] for codes in space.every()]
    if bits.tolist() != every:
        raise DataError(f"{file}: expected all {space.size} assignments in order (got {len(rows)} rows)")
    repeats = fields[:, 2:]
    return RecordedTable(
        space=space,
        memory=fields[:, 0],
        accuracy=repeats.mean(axis=1),
        repeats=repeats,
        noise=float(np.sqrt(repeats.var(axis=1, ddof=1).mean())) if seeds > 1 else 0.0,
        float_accuracy=float(fields[0, 1]),
    )
