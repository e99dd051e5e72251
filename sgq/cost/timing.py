"""How long calls take on a machine that does other things as well.

Calls are timed in interleaved rounds. Two kinds of samples are dropped: those during which other processes
kept ours from running, which make a call on several threads ten times slower as evenly as it may be fast,
and outliers past the whiskers of a box plot (1.5 interquartile ranges from the quartiles), as GCoDE's look-up
tables do (arXiv 2404.05605). Where the machine's usual pace is known, samples are divided by how slow it is
around them. What still spreads is measured again in twice the rounds; what spreads to the end is marked as
noisy, and never an error.
"""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING

from sgq.cost.pace import Call, Pace, reference_calls
from sgq.errors import UsageError

if TYPE_CHECKING:
    from sgq.runtime.measuring import Latency

Clock = Callable[[], float]

WHISKER = 1.5
"""Samples further from the quartiles than so many interquartile ranges are outliers."""
LEAST_SAMPLES = 4
"""With fewer there is no telling outliers from the rest."""
MOST_LOOPS = 10**6
HALFWAY_S = 100e-6
"""A kernel's call so long goes by the pace of one thread as much as by that of all, a shorter one by more."""


@dataclass(frozen=True)
class TimingSettings:
    """How calls are measured.

    `attempts` bounds how often a call is measured, each time in twice as many rounds and added to what is
    there, while it is noisy: too few samples were undisturbed, or the error of their median is above
    `wide_error` of it. A call that has been measured for `most_s` is not measured again. Calls shorter than
    `least_sample_s` are looped; a disturbed sample is taken again at once, up to `retries` times.
    """

    rounds: int = 11
    warmup: int = 1
    attempts: int = 3
    wide_error: float = 0.03
    most_s: float = 1.0
    least_sample_s: float = 200e-6
    retries: int = 5

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        if self.rounds < 2 or self.attempts < 1:
            raise UsageError(
                f"expected at least 2 rounds and 1 attempt (got {self.rounds=}, {self.attempts=})"
            )


THOROUGH = TimingSettings()
QUICK = TimingSettings(rounds=5, attempts=2)


@dataclass(frozen=True)
class Sample:
    """Seconds of one call, and the part of them that threads of this process waited for a processor."""

    seconds: float
    waited_share: float = 0.0


@dataclass(frozen=True)
class Timing:
    """Seconds of one call: median and quartiles of `count` samples; `noisy` when they do not agree."""

    count: int
    median_s: float
    lower_quartile_s: float
    upper_quartile_s: float
    noisy: bool = False

    @property
    def spread(self) -> float:
        """The interquartile range, as a share of the median."""
        if self.median_s <= 0.0:
            return 0.0
        return (self.upper_quartile_s - self.lower_quartile_s) / self.median_s

    @property
    def error(self) -> float:
        """The spread over the root of the count: about the standard error of the median, as a share of it."""
        return self.spread / math.sqrt(self.count)


def time_calls(
    calls: Mapping[str, Call],
    settings: TimingSettings = THOROUGH,
    *,
    device: str = "cpu",
    clock: Clock = time.perf_counter,
    waiting: Clock | None = None,
    pace: Pace | None = None,
    halfway_s: float = HALFWAY_S,
) -> dict[str, Timing]:
    """Return the timing of each call, all of them measured in turn.

    A call's first run does not count: it may compile, or make what later runs read. `waiting` tells how many
    seconds this process has been kept from running so far (default: what the system says). With a `pace`,
    seconds are those at that pace (see `sgq.cost.pace`); without, as they were. A call of `halfway_s` goes by
    the pace of one thread as much as by that of all, a shorter one by more.
    """
    from sgq.runtime.measuring import interleaved_latency

    waiting = waiting or WaitingClock()
    loops = {name: _loops(call, settings, device, clock) for name, call in calls.items()}
    looped = {name: _looped(call, loops[name]) for name, call in calls.items()}
    samples: dict[str, list[Sample]] = {name: [] for name in calls}
    spent_s = dict.fromkeys(calls, 0.0)
    timings: dict[str, Timing] = {}
    rounds = settings.rounds
    for _ in range(settings.attempts):
        open_calls = {
            name: call
            for name, call in looped.items()
            if name not in timings or (timings[name].noisy and spent_s[name] < settings.most_s)
        }
        if not open_calls:
            break
        taken = interleaved_latency(
            open_calls if pace is None else _between_looks(open_calls),
            repeats=rounds,
            warmup=settings.warmup,
            device=device,
            clock=clock,
            waiting=waiting,
            retries=settings.retries,
        )
        for place, name in enumerate(open_calls):
            spent_s[name] += sum(taken[name].rounds_s)
            usual_s = statistics.median(taken[name].rounds_s) / loops[name]
            alone = halfway_s / (halfway_s + usual_s)
            slowness = repeat(1.0) if pace is None else _slowness(pace, taken, place, alone)
            samples[name] += [
                Sample(seconds / loops[name] / slow, waited / seconds if seconds > 0.0 else 0.0)
                for seconds, waited, slow in zip(
                    taken[name].rounds_s, taken[name].waited_s, slowness, strict=False
                )
            ]
            timings[name] = timing_of(samples[name], settings)
        rounds *= 2
    return timings


def _between_looks(calls: Mapping[str, Call]) -> dict[str, Call]:
    """Return the calls in order, with a look at the machine's pace before each and after the last."""
    references = reference_calls()

    def look(place: int) -> dict[str, Call]:
        return {_look_name(place, field): call for field, call in references.items()}

    every: dict[str, Call] = {}
    for place, (name, call) in enumerate(calls.items()):
        every |= look(place)
        every[name] = call
    return every | look(len(calls))


def _slowness(pace: Pace, taken: Mapping[str, Latency], place: int, alone: float) -> Iterator[float]:
    """Yield, round by round, how much slower than at its pace the machine was around the call at a place."""
    looks = [
        taken[_look_name(at, field.name)].rounds_s for at in (place, place + 1) for field in fields(Pace)
    ]
    count = len(fields(Pace))
    for seconds in zip(*looks, strict=True):
        before, after = Pace(*seconds[:count]), Pace(*seconds[count:])
        yield math.sqrt(pace.slowness(before, alone=alone) * pace.slowness(after, alone=alone))


def _look_name(place: int, field: str) -> str:
    return f"\0{place} {field}"


def timing_of(samples: Sequence[Sample], settings: TimingSettings = THOROUGH) -> Timing:
    """Return the timing of what was measured undisturbed, less outliers.

    Where that is less than half a round's worth, the least disturbed samples stand in, and it is noisy.
    """
    from sgq.runtime.measuring import UNDISTURBED

    enough = (settings.rounds + 1) // 2
    clean = [sample.seconds for sample in samples if sample.waited_share <= UNDISTURBED]
    disturbed = len(clean) < min(enough, len(samples))
    if disturbed:
        least = sorted(samples, key=lambda sample: sample.waited_share)[:enough]
        clean = [sample.seconds for sample in least]
    kept = without_outliers(clean)
    lower, median, upper = statistics.quantiles(kept, n=4, method="inclusive") if len(kept) > 1 else kept * 3
    timing = Timing(len(kept), median, lower, upper)
    return replace(timing, noisy=disturbed or timing.error > settings.wide_error)


def without_outliers(samples: Sequence[float]) -> list[float]:
    """Return the samples, in order, that lie within 1.5 interquartile ranges of the quartiles."""
    if len(samples) < LEAST_SAMPLES:
        return list(samples)
    lower, _, upper = statistics.quantiles(samples, n=4, method="inclusive")
    reach = WHISKER * (upper - lower)
    return [sample for sample in samples if lower - reach <= sample <= upper + reach]


class WaitingClock:
    """Tells how many seconds the threads of this process were ready to run and not let, all added up.

    It is what Linux counts for each thread; elsewhere it stays at 0.
    """

    def __init__(self, tasks: Path = Path("/proc/self/task")) -> None:
        self._tasks = tasks

    def __call__(self) -> float:
        """Return the seconds so far."""
        waited_ns = 0
        try:
            for task in os.listdir(self._tasks):
                waited_ns += self._waited_ns(task)
        except OSError:
            return 0.0
        return waited_ns / 1e9

    def _waited_ns(self, task: str) -> int:
        try:
            with open(f"{self._tasks}/{task}/schedstat", "rb", buffering=0) as file:
                return int(file.read().split()[1])
        except (OSError, ValueError, IndexError):
            return 0  # The thread has ended, or the system does not count.


@contextmanager
def on_threads(threads: int) -> Iterator[None]:
    """Run torch, and the kernels that follow it, on so many threads; what was set before comes back."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _looped(call: Call, loops: int) -> Call:
    if loops == 1:
        return call

    def run() -> object:
        result: object = None
        for _ in repeat(None, loops):
            result = call()
        return result

    return run


def _loops(call: Call, settings: TimingSettings, device: str, clock: Clock) -> int:
    """Return how often to run a call so that a sample is long enough for the clock."""
    from sgq.runtime.measuring import interleaved_latency

    call()
    loops = 1
    while loops < MOST_LOOPS:
        look = interleaved_latency(
            {"": _looped(call, loops)}, repeats=2, warmup=0, device=device, clock=clock
        )
        elapsed_s = min(look[""].rounds_s)
        if elapsed_s >= settings.least_sample_s:
            return loops
        # At most tenfold at once: the first runs of a loop are slower than those that follow.
        missing = settings.least_sample_s / elapsed_s if elapsed_s > 0.0 else math.inf
        loops = min(MOST_LOOPS, math.ceil(loops * min(10.0, 1.2 * missing)))
    return loops
