"""What `sgq profile` measures: sources of operations, each kept in a file of its own.

A source yields what to measure as pairs of a key and a call. The rates of the machine are one source; the
operations of the design space are another. A source registers a function that makes it:

    @operation_source("operations")
    def space_operations(extent: Extent) -> OperationSource: ...
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from sgq.cost.measurements import Key, MeasurementStore
from sgq.cost.pace import Pace
from sgq.cost.timing import THOROUGH, Call, TimingSettings, time_calls
from sgq.errors import ProfileError, nearest_name

TOGETHER = 32
"""How many operations are measured in turn with one another: the more, the longer their rounds are spread
over, in which the machine is fast and slow; but their inputs are in memory together."""

MODULES = ("sgq.cost.rates", "sgq.cost.space_operations")
"""Where the sources are registered, in the order in which they are measured."""


@dataclass(frozen=True)
class Extent:
    """How much of a source is wanted: on a machine of so many bytes, and all sizes or a quick few."""

    memory_bytes: int
    quick: bool = False


class Deferred:
    """A call that is made only when it is measured: `build` makes its inputs and returns the call itself."""

    def __init__(self, build: Callable[[], Call]) -> None:
        self._build = build
        self._call: Call | None = None

    def __call__(self) -> object:
        """Run the call."""
        return self.built()()

    def built(self) -> Call:
        """Return the call, made where it was not yet."""
        if self._call is None:
            self._call = self._build()
        return self._call


class OperationSource(Protocol):
    """A number of operations, each with a key by the source's columns.

    Iterating must cost little: wrap a call whose inputs take time or memory in `Deferred`, since a resumed
    run passes by everything that is measured already.
    """

    @property
    def columns(self) -> Sequence[str]:
        """The columns of every key, in the order of the file."""
        ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[tuple[Key, Call]]: ...


SourceMaker = Callable[[Extent], OperationSource]

_MAKERS: dict[str, SourceMaker] = {}


def operation_source(name: str) -> Callable[[SourceMaker], SourceMaker]:
    """Register what makes the source of that name, which its file is named after as well."""

    def register(make: SourceMaker) -> SourceMaker:
        if not name.isidentifier() or _MAKERS.get(name, make) is not make:
            raise ProfileError(f"expected a new identifier as the name of a source (got {name!r})")
        _MAKERS[name] = make
        return make

    return register


def source_names() -> tuple[str, ...]:
    """Return the names of all sources, in the order in which they are measured."""
    for module in MODULES:
        importlib.import_module(module)
    places = {module: place for place, module in enumerate(MODULES)}
    # Whichever was imported first: sources of others come last.
    return tuple(sorted(_MAKERS, key=lambda name: places.get(_MAKERS[name].__module__, len(places))))


def make_source(name: str, extent: Extent) -> OperationSource:
    """Return the source of that name."""
    names = source_names()
    if name not in names:
        hint = nearest_name(name, names)
        raise ProfileError(f'no source of operations "{name}".{hint} Known: {", ".join(names)}')
    return _MAKERS[name](extent)


def measure_operations(
    source: OperationSource,
    store: MeasurementStore,
    settings: TimingSettings = THOROUGH,
    *,
    together: int = TOGETHER,
    device: str = "cpu",
    pace: Pace | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> None:
    """Measure what the store does not have yet, and add it; `on_progress` is told how many are done.

    Operations are measured `together` at a time, in the order of the source and at the machine's `pace`, and
    those are in the file when the next ones start: an interrupt loses nothing else.
    """
    done = 0
    waiting: list[tuple[Key, Call]] = []

    def measure() -> None:
        nonlocal done
        calls = {str(place): _built(call) for place, (_, call) in enumerate(waiting)}
        timings = time_calls(calls, settings, device=device, pace=pace)
        for place, (key, _) in enumerate(waiting):
            store.append(key, timings[str(place)])
        done += len(waiting)
        waiting.clear()
        if on_progress is not None:
            on_progress(done)

    for key, call in source:
        if key in store:
            done += 1
            continue
        waiting.append((key, call))
        if len(waiting) == together:
            measure()
    if waiting:
        measure()
    if on_progress is not None:
        on_progress(done)


def _built(call: Call) -> Call:
    return call.built() if isinstance(call, Deferred) else call
