"""The look-up table: measured times of operations, interpolated between the sizes that were measured.

Between the points of a grid times are interpolated in the logarithms of sizes and seconds; along every axis
they only grow, as more work never takes less time (what noise says otherwise is averaged out). Past the
grid's ends they grow with the work, and are marked as extrapolated.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sgq.cost.categories import AXES, GROWTH, Category, category_of, coordinates, repetitions
from sgq.cost.measurements import Measurement, read_measurements
from sgq.cost.space_operations import COLUMNS, work_of
from sgq.cost.work import Work
from sgq.errors import ProfileError, nearest_name

FREE = ("random",)
"""Kinds that take no time on integers: random neighbours are drawn once."""


class Entry(NamedTuple):
    """What the table says of a work: seconds, and whether its size is outside of what was measured."""

    seconds: float
    extrapolated: bool = False


@dataclass(frozen=True)
class Grid:
    """Log-seconds of one category, of all points with the last axis fastest; `axes` are logarithms of sizes.

    Past its ends time grows with the power `growth` of each size.
    """

    axes: tuple[tuple[float, ...], ...]
    log_seconds: tuple[float, ...]
    growth: tuple[float, ...]

    def at(self, place: tuple[float, ...]) -> Entry:
        """Return the time at a place, multilinear in logarithms."""
        extrapolated = False
        beyond = 0.0
        corners = [(0, 1.0)]
        for axis, size, power in zip(self.axes, place, self.growth, strict=True):
            coordinate = math.log(size)
            inside = min(max(coordinate, axis[0]), axis[-1])
            if abs(inside - coordinate) > 1e-9:
                extrapolated = True
                beyond += power * max(0.0, coordinate - inside)
            upper = min(max(bisect_left(axis, inside), 1), len(axis) - 1)
            if upper == 0:
                continue
            share = (inside - axis[upper - 1]) / (axis[upper] - axis[upper - 1])
            corners = [
                (corner * len(axis) + at, weight * part)
                for corner, weight in corners
                for at, part in ((upper - 1, 1.0 - share), (upper, share))
                if part
            ]
        logs = sum([weight * self.log_seconds[corner] for corner, weight in corners])
        return Entry(math.exp(logs + beyond), extrapolated)


class LookUpTable:
    """Times of works by category; built of measurements."""

    def __init__(self, grids: dict[Category, Grid]) -> None:
        self.grids = grids
        self._known: dict[Work, Entry] = {}

    @classmethod
    def read(cls, path: Path) -> LookUpTable:
        """Return the table of a file; raise ProfileError, with the line, where it is damaged."""
        return cls.of(read_measurements(path, COLUMNS), file=str(path))

    @classmethod
    def of(cls, measurements: Iterable[Measurement], *, file: str = "look-up table") -> LookUpTable:
        """Return the table of measured works; `file` names them in messages, the first on line 2."""
        found: dict[Category, dict[tuple[float, ...], list[float]]] = {}
        for line, measurement in enumerate(measurements, start=2):
            try:
                work = work_of(measurement)
            except ProfileError as error:
                raise ProfileError(f"{file}:{line}: {error}") from None
            places = found.setdefault(category_of(work), {})
            if measurement.timing.median_s <= 0.0:
                raise ProfileError(f"{file}:{line}: expected a time above 0 (got 0 s for {work})")
            places.setdefault(coordinates(work), []).append(measurement.timing.median_s)
        return cls({category: _grid(category, places) for category, places in found.items()})

    def entry(self, work: Work) -> Entry:
        """Return the time of a work; raise ProfileError, with the nearest entries, for one of no category."""
        known = self._known.get(work)
        if known is None:
            known = self._known[work] = self._computed(work)
        return known

    def _computed(self, work: Work) -> Entry:
        if work.runtime == "integer" and work.kind in FREE:
            return Entry(0.0)
        category = category_of(work)
        grid = self.grids.get(category)
        if grid is None:
            raise ProfileError(self._missing(category))
        found = grid.at(coordinates(work))
        return Entry(found.seconds * repetitions(work), found.extrapolated)

    def _missing(self, category: Category) -> str:
        names = sorted(map(str, self.grids))
        kind = (category.runtime, category.kind)
        same = [str(one) for one in sorted(self.grids) if (one.runtime, one.kind) == kind]
        near = ", ".join(same[:4]) or "none of its kind"
        return (
            f'the profile has no operation "{category}".{nearest_name(str(category), names)} '
            f"Nearest entries: {near}. Measure it with sgq profile"
        )


def _grid(category: Category, places: dict[tuple[float, ...], list[float]]) -> Grid:
    """Return the grid of measured places; other points of it are filled in from their neighbours."""
    axes = tuple(np.array(sorted(set(axis))) for axis in zip(*places, strict=True))
    values = np.full([len(axis) for axis in axes], np.nan)
    for place, seconds in places.items():
        index = tuple(int(np.searchsorted(axis, at)) for axis, at in zip(axes, place, strict=True))
        values[index] = np.log(np.median(seconds))
    logs = tuple(np.log(axis) for axis in axes)
    growth = tuple(GROWTH.get((category.kind, axis), 1.0) for axis in AXES[category.kind])
    growing = _growing(_filled(values, logs))
    return Grid(tuple(tuple(axis.tolist()) for axis in logs), tuple(growing.ravel().tolist()), growth)


def _filled(values: np.ndarray, axes: tuple[np.ndarray, ...]) -> np.ndarray:
    """Return values without gaps: each grows along an axis in proportion to its size, from the last known."""
    filled = values.copy()
    for dimension, axis in enumerate(axes):
        along = np.moveaxis(filled, dimension, 0)
        for at in range(1, len(axis)):
            missing = np.isnan(along[at])
            along[at][missing] = (along[at - 1] + axis[at] - axis[at - 1])[missing]
    for dimension, axis in enumerate(axes):
        along = np.moveaxis(filled, dimension, 0)
        for at in reversed(range(len(axis) - 1)):
            missing = np.isnan(along[at])
            along[at][missing] = (along[at + 1] + axis[at] - axis[at + 1])[missing]
    return filled


def _growing(values: np.ndarray) -> np.ndarray:
    """Return values that never fall along an axis: the mean of the least above and the greatest below."""
    above, below = values, values
    for dimension in range(values.ndim):
        above = np.maximum.accumulate(above, axis=dimension)
        below = np.flip(np.minimum.accumulate(np.flip(below, dimension), axis=dimension), dimension)
    return (above + below) / 2
