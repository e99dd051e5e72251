"""How fast the machine is at the moment: on shared hardware that changes by the second.

Two fixed calls tell: matrix products on all threads, and a loop of the interpreter on one. They run before
and after a sample; by how much they take longer than usual, so does the sample, and dividing by that gives
what it takes at the machine's usual pace. Where neighbours on the same hardware slow a machine down by half,
and no counter of the system says so, what is measured twice agrees several times better than without.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Call = Callable[[], object]

PRODUCT_SIZE, PRODUCTS = 256, 2
ADDITIONS = 3000
WATCHED_S = 10.0
"""How long the machine is watched for its usual pace."""
LEAST_ROUNDS, MOST_ROUNDS = 20, 2000


@dataclass(frozen=True)
class Pace:
    """Seconds that the reference calls take: some matrix products, and a loop of the interpreter."""

    products_s: float
    interpreter_s: float

    def slowness(self, now: Pace) -> float:
        """Return how many times longer than in this pace calls take in another one."""
        return math.sqrt(now.products_s / self.products_s * now.interpreter_s / self.interpreter_s)


def reference_calls() -> Mapping[str, Call]:
    """Return the calls that a pace is taken from, by the names of its fields."""
    import torch

    left, right = torch.ones(2, PRODUCT_SIZE, PRODUCT_SIZE)
    result = torch.empty(PRODUCT_SIZE, PRODUCT_SIZE)

    def products() -> None:
        for _ in range(PRODUCTS):
            torch.mm(left, right, out=result)

    def interpreter() -> int:
        total = 0
        for number in range(ADDITIONS):
            total += number
        return total

    return {"products_s": products, "interpreter_s": interpreter}


def usual_pace(seconds: float = WATCHED_S) -> Pace:
    """Watch this machine for so long, on as many threads as torch is set to; return its median pace."""
    from sgq.runtime.measuring import interleaved_latency

    calls = reference_calls()
    for call in calls.values():
        call()
    start = time.perf_counter()
    rounds: dict[str, list[float]] = {name: [] for name in calls}
    while len(rounds["products_s"]) < LEAST_ROUNDS or (
        time.perf_counter() - start < seconds and len(rounds["products_s"]) < MOST_ROUNDS
    ):
        taken = interleaved_latency(calls, repeats=LEAST_ROUNDS, warmup=1)
        for name, latency in taken.items():
            rounds[name] += latency.rounds_s
        time.sleep(seconds / (MOST_ROUNDS / LEAST_ROUNDS))
    medians = {name: sorted(found)[len(found) // 2] for name, found in rounds.items()}
    return Pace(**medians)
