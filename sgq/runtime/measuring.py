"""Read latency off a clock and peak memory off torch's allocator.

Latencies of several calls are taken in interleaved rounds: a machine that slows down for a second slows all
of them, and the ratios of one round stay right. Peak memory is what the tensors hold that are alive before a
call, and the highest sum of what the call allocates less what it frees, from the profiler's memory events.
What is allocated outside torch (a BLAS library's scratch, say) is not in it.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.autograd.profiler_util import MEMORY_EVENT_NAME
from torch.profiler import ProfilerActivity, profile

from sgq.errors import UsageError

LEAST_REPEATS = 2
"""Quartiles need two rounds."""

UNDISTURBED = 0.05
"""A run is undisturbed when our threads waited for a processor at most this part of it."""

KINETO_LOG_LEVEL, KINETO_SILENT = "KINETO_LOG_LEVEL", "6"
"""Below this level torch's profiler writes a line to stderr whenever it starts and stops."""


@dataclass(frozen=True)
class Latency:
    """Seconds of every round of one call, in order, and where they were taken.

    `waited_s` are those in which threads of this process were kept from running, where that was asked for.
    """

    rounds_s: tuple[float, ...]
    threads: int
    device: str
    waited_s: tuple[float, ...] = ()

    @property
    def median_s(self) -> float:
        """The median round."""
        return statistics.median(self.rounds_s)

    @property
    def lower_quartile_s(self) -> float:
        """A quarter of the rounds were at most this long."""
        return statistics.quantiles(self.rounds_s, n=4, method="inclusive")[0]

    @property
    def upper_quartile_s(self) -> float:
        """Three quarters of the rounds were at most this long."""
        return statistics.quantiles(self.rounds_s, n=4, method="inclusive")[2]

    @property
    def repeats(self) -> int:
        """How many rounds were counted."""
        return len(self.rounds_s)

    def ratio_to(self, base: Latency) -> float:
        """Return the median over rounds of this time over that of `base`, taken in the same rounds."""
        return statistics.median(own / other for own, other in zip(self.rounds_s, base.rounds_s, strict=True))


def interleaved_latency(
    calls: Mapping[str, Callable[[], object]],
    *,
    repeats: int,
    warmup: int,
    device: str | torch.device = "cpu",
    clock: Callable[[], float] = time.perf_counter,
    waiting: Callable[[], float] | None = None,
    retries: int = 0,
) -> dict[str, Latency]:
    """Return each call's latency: `warmup` rounds that do not count, then `repeats` rounds of all in turn.

    On an accelerator every call is waited for. Gradients are as the caller set them. `clock` tells seconds,
    `waiting` how many of them this process has waited for a processor so far: a call that was disturbed is
    run again at once, up to `retries` times, and the least disturbed run counts. Raises UsageError below two
    repeats.
    """
    if repeats < LEAST_REPEATS:
        raise UsageError(f"expected at least {LEAST_REPEATS} repeats (got {repeats})")
    where = torch.device(device)
    taken: dict[str, list[float]] = {name: [] for name in calls}
    waited: dict[str, list[float]] = {name: [] for name in calls}

    def run(call: Callable[[], object]) -> tuple[float, float]:
        """Return the seconds of one run, and how many of them were waited."""
        _wait_for(where)
        before = waiting() if waiting is not None else 0.0
        start = clock()
        result = call()
        _wait_for(where)
        seconds = clock() - start
        del result  # freeing a large output is no part of the next call's time
        return seconds, waiting() - before if waiting is not None else 0.0

    for count in range(warmup + repeats):
        for name, call in calls.items():
            seconds, waits = run(call)
            for _ in range(retries):
                if waits <= UNDISTURBED * seconds:
                    break
                again = run(call)
                seconds, waits = min((seconds, waits), again, key=lambda one: one[1] / max(one[0], 1e-9))
            if count >= warmup:
                taken[name].append(seconds)
                waited[name].append(waits)
    threads = torch.get_num_threads()
    return {
        name: Latency(tuple(seconds), threads, str(where), tuple(waited[name]))
        for name, seconds in taken.items()
    }


@dataclass(frozen=True)
class PeakMemory:
    """Bytes of all tensors alive at the worst moment of one call.

    `peak_bytes` is `resident_bytes`, held before and after the call, plus what the call needs on top;
    `feature_bytes` is the part of the resident ones that are input features.
    """

    peak_bytes: int
    resident_bytes: int
    feature_bytes: int

    @property
    def without_features_bytes(self) -> int:
        """The peak less the input features."""
        return self.peak_bytes - self.feature_bytes


def measure_peak(
    call: Callable[[], object],
    *,
    resident_bytes: int,
    feature_bytes: int = 0,
    device: str | torch.device = "cpu",
) -> PeakMemory:
    """Return the peak of one call; call it once before, so that what it keeps for later is there already.

    `resident_bytes` are those of the tensors that the call reads and nobody frees: `stored_bytes` of
    parameters, buffers, adjacency and features. `feature_bytes` is how much of it are input features.
    """
    where = torch.device(device)
    activities = [ProfilerActivity.CPU]
    with _silent_profiler(), profile(activities=activities, profile_memory=True, acc_events=True) as run:
        _wait_for(where)
        result = call()
        _wait_for(where)
        del result
    assert run.profiler is not None
    events = [
        event
        for event in run.profiler.kineto_results.events()
        if event.name() == MEMORY_EVENT_NAME and event.device_type().name == where.type.upper()
    ]
    events.sort(key=lambda event: event.start_ns())
    alive = highest = 0
    for event in events:
        alive += event.nbytes()
        highest = max(highest, alive)
    return PeakMemory(resident_bytes + highest, resident_bytes, feature_bytes)


def stored_bytes(tensors: Iterable[Tensor]) -> int:
    """Return the bytes of the tensors' storages, each counted once, those of a sparse tensor's parts too."""
    sizes: dict[tuple[str, int], int] = {}
    for tensor in tensors:
        for part in _parts(tensor):
            storage = part.untyped_storage()
            sizes[str(storage.device), storage.data_ptr()] = storage.nbytes()
    return sum(sizes.values())


@runtime_checkable
class HoldsTensors(Protocol):
    """What says itself which tensors it holds in memory."""

    def tensors(self) -> Iterable[Tensor]:
        """Yield what it holds in memory."""
        ...


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield the tensors of a tensor, of what has `tensors()`, or of a nest of tuples, lists and mappings.

    All else holds none.
    """
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, HoldsTensors):
        yield from value.tensors()
    elif isinstance(value, Mapping):
        for member in value.values():
            yield from tensors_in(member)
    elif isinstance(value, tuple | list):
        for member in value:
            yield from tensors_in(member)


def _parts(tensor: Tensor) -> tuple[Tensor, ...]:
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return tensor.crow_indices(), tensor.col_indices(), tensor.values()
    if tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        return tensor.ccol_indices(), tensor.row_indices(), tensor.values()
    if tensor.layout == torch.sparse_coo:
        return tensor._indices(), tensor._values()
    return (tensor,)


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def _silent_profiler() -> Iterator[None]:
    """Keep torch's profiler quiet unless the user has set its log level; it reads that when first used."""
    if KINETO_LOG_LEVEL in os.environ:
        yield
        return
    os.environ[KINETO_LOG_LEVEL] = KINETO_SILENT
    try:
        yield
    finally:
        del os.environ[KINETO_LOG_LEVEL]
