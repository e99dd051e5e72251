"""How fast the machine is at the moment: on shared hardware that changes by the second.

Three fixed calls tell: a matrix product, the nearest neighbours of some points on integers, both on all
threads, and a loop of the interpreter on one. They run before and after a sample; by how much they take
longer than usual, so does the sample, and dividing by that gives what it takes at the machine's usual pace.
Where neighbours on the same hardware slow a machine down by half, and no counter of the system says so, what
is measured twice agrees several times better than without.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

Call = Callable[[], object]

PRODUCT_SIZE = 256
POINTS, POINT_CHANNELS, POINT_BITS, NEIGHBOURS = 512, 16, 8, 20
ADDITIONS = 3000
WATCHED_S = 10.0
"""How long the machine is watched for its usual pace."""
LEAST_ROUNDS, MOST_ROUNDS = 20, 2000


@dataclass(frozen=True)
class Pace:
    """Seconds of the reference calls: a matrix product, nearest neighbours, and a loop of the interpreter."""

    product_s: float
    neighbours_s: float
    interpreter_s: float

    def slowness(self, now: Pace) -> float:
        """Return how many times longer than in this pace calls take in another one."""
        ratios = [getattr(now, field.name) / getattr(self, field.name) for field in fields(self)]
        return math.prod(ratios) ** (1.0 / len(ratios))


def reference_calls() -> Mapping[str, Call]:
    """Return the calls that a pace is taken from, by the names of its fields."""
    import torch

    from sgq.cost.running import runnable
    from sgq.cost.work import Work

    left, right = torch.ones(2, PRODUCT_SIZE, PRODUCT_SIZE)
    result = torch.empty(PRODUCT_SIZE, PRODUCT_SIZE)

    def product() -> None:
        torch.mm(left, right, out=result)

    def interpreter() -> int:
        total = 0
        for number in range(ADDITIONS):
            total += number
        return total

    nearest = Work("integer", "knn", "knn", POINTS, POINTS * NEIGHBOURS, POINT_CHANNELS, 0, POINT_BITS)
    return {"product_s": product, "neighbours_s": runnable(nearest), "interpreter_s": interpreter}


def usual_pace(seconds: float = WATCHED_S) -> Pace:
    """Watch this machine for so long, on as many threads as torch is set to; return its median pace."""
    from sgq.runtime.measuring import interleaved_latency

    calls = reference_calls()
    for call in calls.values():
        call()
    start = time.perf_counter()
    rounds: dict[str, list[float]] = {name: [] for name in calls}
    counted = rounds["interpreter_s"]
    while len(counted) < LEAST_ROUNDS or (
        time.perf_counter() - start < seconds and len(counted) < MOST_ROUNDS
    ):
        taken = interleaved_latency(calls, repeats=LEAST_ROUNDS, warmup=1)
        for name, latency in taken.items():
            rounds[name] += latency.rounds_s
        time.sleep(seconds / (MOST_ROUNDS / LEAST_ROUNDS))
    medians = {name: sorted(found)[len(found) // 2] for name, found in rounds.items()}
    return Pace(**medians)
