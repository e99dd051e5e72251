"""Measure several callables against each other in interleaved rounds.

A machine that slows down for a second then slows all of them, and the ratios of one round stay right.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """Seconds of every round, in order."""

    rounds_s: tuple[float, ...]

    @property
    def median_s(self) -> float:
        """The median round."""
        return statistics.median(self.rounds_s)

    @property
    def quartiles_s(self) -> tuple[float, float]:
        """The first and the third quartile."""
        first, _, third = statistics.quantiles(self.rounds_s, n=4, method="inclusive")
        return first, third

    def ratio_to(self, base: Timing) -> float:
        """Return the median over rounds of this time over that of `base`."""
        return statistics.median(own / other for own, other in zip(self.rounds_s, base.rounds_s, strict=True))


def measure(steps: Mapping[str, Callable[[], object]], *, rounds: int, warm_up: int) -> dict[str, Timing]:
    """Return the timing of each step: `warm_up` rounds that do not count, then `rounds` interleaved ones."""
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for count in range(warm_up + rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if count >= warm_up:
                taken[name].append(time.perf_counter() - start)
    return {name: Timing(tuple(seconds)) for name, seconds in taken.items()}
