"""How fast the machine is at the moment: on shared hardware that changes by the second.

Two fixed calls tell: the nearest neighbours of some points on integers, on all threads, and small torch
operations and a loop of the interpreter, on one. They run before and after a sample; by how much they take
longer than usual, so does the sample, and dividing by that gives what it takes at the machine's usual pace.
They are told apart because what slows a machine down is: while one thread has a core to itself, it runs up to
twice as fast as usual, and in the same seconds what both threads share may be slower. A short call goes by
the one, a long one by the other. No counter of the system says any of this.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Call = Callable[[], object]

POINTS, POINT_CHANNELS, POINT_BITS, NEIGHBOURS = 512, 16, 8, 20
SMALL, LAUNCHES, ADDITIONS = 64, 40, 1000
"""Numbers that a small operation adds to, how many of those there are, and what the interpreter adds up."""
WATCHED_S = 10.0
"""How long the machine is watched for its usual pace."""
LEAST_ROUNDS, MOST_ROUNDS = 20, 2000


@dataclass(frozen=True)
class Pace:
    """Seconds of the reference calls: nearest neighbours on all threads, small operations on one."""

    all_threads_s: float
    one_thread_s: float

    def slowness(self, now: Pace, *, alone: float) -> float:
        """Return how many times longer than in this pace a call takes in another one.

        `alone` is the part of it, 0 to 1, that goes by the pace of one thread.
        """
        all_threads, one_thread = now.all_threads_s / self.all_threads_s, now.one_thread_s / self.one_thread_s
        slowness: float = all_threads ** (1.0 - alone) * one_thread**alone
        return slowness


def reference_calls() -> Mapping[str, Call]:
    """Return the calls that a pace is taken from, by the names of its fields."""
    import torch

    from sgq.cost.running import runnable
    from sgq.cost.work import Work

    few = torch.ones(SMALL)

    def one_thread() -> int:
        for _ in range(LAUNCHES):
            torch.add(few, 1.0)
        total = 0
        for number in range(ADDITIONS):
            total += number
        return total

    nearest = Work("integer", "knn", "knn", POINTS, POINTS * NEIGHBOURS, POINT_CHANNELS, 0, POINT_BITS)
    return {"all_threads_s": runnable(nearest), "one_thread_s": one_thread}


def usual_pace(seconds: float = WATCHED_S) -> Pace:
    """Watch this machine for so long, on as many threads as torch is set to; return its median pace."""
    from sgq.runtime.measuring import interleaved_latency

    calls = reference_calls()
    for call in calls.values():
        call()
    start = time.perf_counter()
    rounds: dict[str, list[float]] = {name: [] for name in calls}
    counted = rounds["one_thread_s"]
    while len(counted) < LEAST_ROUNDS or (
        time.perf_counter() - start < seconds and len(counted) < MOST_ROUNDS
    ):
        taken = interleaved_latency(calls, repeats=LEAST_ROUNDS, warmup=1)
        for name, latency in taken.items():
            rounds[name] += latency.rounds_s
        time.sleep(seconds / (MOST_ROUNDS / LEAST_ROUNDS))
    medians = {name: sorted(found)[len(found) // 2] for name, found in rounds.items()}
    return Pace(**medians)
