"""Where kernels put their results, and when they compute them: at once, or bound to places in one arena.

A model that runs on the same graph again allocates nothing and looks nothing up: its first run records how
large all results are and how long they live; later ones launch kernels that are bound to places in an arena.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

from sgq.runtime.huge_pages import large_empty

ALIGNMENT = 64
"""Of places in an arena, in bytes: a cache line."""
CONSTANTS = (int, float, bool, str, type(None), torch.Size, torch.dtype, torch.device)
"""What a step may make besides tensors: it is the same in every run on the same graph."""
PLACED = object()
"""Stands in a record for a tensor, which has a place."""


class Workspace:
    """Fresh tensors on a device, computed at once."""

    def __init__(self, device: torch.device | None = None) -> None:
        self.device = device or torch.device("cpu")

    def empty(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return room for a result, uninitialised."""
        if self.device.type != "cpu":
            return torch.empty(*shape, dtype=dtype, device=self.device)
        return large_empty(*shape, dtype=dtype)

    def launch(self, call: Callable[[], object]) -> None:
        """Compute: `call` fills room that it has the addresses of, and holds what they belong to."""
        call()

    def movable(self, room: Tensor, move: Callable[[int], None]) -> None:
        """Take note that `move(address)` lets later launches fill other room of the same shape instead."""

    def computed(self, function: Callable[[], Any]) -> Any:
        """Return what torch computes: a tensor, a tuple of tensors, or a constant."""
        return function()

    def end_step(self, alive: Iterable[Tensor]) -> None:
        """Take note that from here on only the tensors in `alive` are needed."""


@dataclass
class Request:
    """Room asked for: what it is, and the first and last steps that need it.

    `fresh` room is the result of the whole computation: it is new in every run.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    first: int
    last: int
    fresh: bool = False

    @property
    def size(self) -> int:
        """Its bytes."""
        return prod(self.shape) * self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """What it takes of an arena, to the next multiple of the alignment."""
        return 0 if self.fresh else -(-self.size // ALIGNMENT) * ALIGNMENT


class Recording(Workspace):
    """Fresh tensors, computed at once, on record. `placeable` tells whether all could lie in an arena."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Request] = []
        self.constants: list[Any] = []
        self.placeable = True
        self._step = 0
        self._alive: dict[int, list[Request]] = {}
        # Kept until the step ends, so that no storage gets the address of another one of the same step.
        self._held: list[Tensor] = []
        self._movable: set[int] = set()

    def empty(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return room, and note its size."""
        room = large_empty(*shape, dtype=dtype)
        self._note(room)
        return room

    def movable(self, room: Tensor, move: Callable[[int], None]) -> None:
        """Note that room need not have a place."""
        self._movable.add(_storage(room))

    def returned(self, result: Tensor) -> Tensor:
        """Close the record, and return the result in a tensor of its own.

        It needs no place in an arena if it may be anywhere and nothing else reads it.
        """
        storage = _storage(result)
        requests = self._alive.get(storage, [])
        own = len(requests) == 1 and requests[0].first == self._step - 1
        if own and storage in self._movable and requests[0].shape == tuple(result.shape):
            requests[0].fresh = True
        for each in self._alive.values():
            self._end(each)
        # What torch has computed may be an argument, or a view of one.
        return result if storage in self._movable else result.clone()

    def computed(self, function: Callable[[], Any]) -> Any:
        """Return what torch computes, and note what it is; tensors contiguous, as they are in an arena."""
        result = function()
        several = type(result) in (tuple, list)
        parts = [_contiguous(part) for part in (result if several else [result])]
        known = [self._known(part) for part in parts]
        self.constants.append(type(result)(known) if several else known[0])
        return type(result)(parts) if several else parts[0]

    def end_step(self, alive: Iterable[Tensor]) -> None:
        """Close a step: room that belongs to no tensor in `alive` is free for the next one."""
        storages = {_storage(tensor) for tensor in alive if tensor.layout == torch.strided}
        for storage in [one for one in self._alive if one not in storages]:
            self._end(self._alive.pop(storage))
        self._held.clear()
        self._movable &= storages
        self._step += 1

    def places(self) -> tuple[list[int], int]:
        """Return the offset of each request in an arena, and the arena's size, in bytes.

        The largest are placed first, each at the lowest offset that is free as long as it lives.
        """
        offsets = [0] * len(self.requests)
        placed: list[int] = []
        for number in sorted(range(len(self.requests)), key=lambda n: -self.requests[n].nbytes):
            one = self.requests[number]
            offset = 0
            beside = (n for n in placed if _overlap(one, self.requests[n]))
            for other in sorted(beside, key=lambda n: offsets[n]):
                if offset + one.nbytes <= offsets[other]:
                    break
                offset = max(offset, offsets[other] + self.requests[other].nbytes)
            offsets[number] = offset
            placed.append(number)
        sizes = (offset + one.nbytes for offset, one in zip(offsets, self.requests, strict=True))
        return offsets, max(sizes, default=0)

    def _known(self, part: Any) -> Any:
        """Return what the record keeps of one result."""
        if isinstance(part, Tensor) and part.layout == torch.strided:
            self._note(part)
            return PLACED
        self.placeable &= isinstance(part, CONSTANTS)
        return part

    def _note(self, room: Tensor) -> None:
        request = Request(tuple(room.shape), room.dtype, self._step, self._step)
        self.requests.append(request)
        self._held.append(room)
        if room.numel():
            self._alive.setdefault(_storage(room), []).append(request)

    def _end(self, requests: list[Request]) -> None:
        for request in requests:
            request.last = self._step


class Bound(Workspace):
    """Places in one arena, by a recording; what is to be computed is collected, not done."""

    def __init__(self, recording: Recording) -> None:
        super().__init__()
        offsets, size = recording.places()
        self._requests = iter(zip(recording.requests, offsets, strict=True))
        self._constants = iter(recording.constants)
        # A tensor made in inference mode could not be written outside of it.
        with torch.inference_mode(mode=False):
            self.arena = large_empty(size, dtype=torch.uint8)
        self.launches: list[Callable[[], object]] = []
        self._fresh: Request | None = None
        self._stand_in: Tensor | None = None
        self._move: Callable[[int], None] | None = None

    def run(self, result: Tensor) -> Tensor:
        """Compute; return the result, whose place is given, in a tensor of its own."""
        if self._fresh is None or self._move is None:
            for launch in self.launches:
                launch()
            return result.clone()
        fresh = large_empty(*self._fresh.shape, dtype=self._fresh.dtype)
        self._move(fresh.data_ptr())
        for launch in self.launches:
            launch()
        return fresh

    def check(self) -> None:
        """Raise AssertionError where the recorded run asked for more."""
        left = [*self._requests, *self._constants]
        assert not left, "another run than the recorded one"

    def movable(self, room: Tensor, move: Callable[[int], None]) -> None:
        """Keep what moves the result of the whole computation."""
        if room is self._stand_in:
            self._move = move

    def empty(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the place of the next room on record."""
        request, offset = next(self._requests, (None, 0))
        assert request is not None, "another run than the recorded one"
        assert (request.shape, request.dtype) == (shape, dtype), "another run than the recorded one"
        return self._place(request, offset)

    def launch(self, call: Callable[[], object]) -> None:
        """Keep the call for every run."""
        self.launches.append(call)

    def computed(self, function: Callable[[], Any]) -> Any:
        """Keep a call that copies what torch computes to its place; return the place, or a constant."""
        known = next(self._constants)
        if known is PLACED:
            place = self._next()
            self.launches.append(lambda: place.copy_(function()))
            return place
        if type(known) not in (tuple, list):
            return known
        parts = type(known)(self._next() if part is PLACED else part for part in known)

        def fill() -> None:
            for place, part in zip(parts, function(), strict=True):
                if isinstance(part, Tensor):
                    place.copy_(part)

        self.launches.append(fill)
        return parts

    def _next(self) -> Tensor:
        return self._place(*next(self._requests))

    def _place(self, request: Request, offset: int) -> Tensor:
        with torch.inference_mode(mode=False):
            if request.fresh:
                # As all of torch's tensors, it is aligned like what will be in its place.
                self._fresh = request
                self._stand_in = torch.empty(1, dtype=request.dtype).expand(request.shape)
                return self._stand_in
            return self.arena[offset : offset + request.size].view(request.dtype).view(request.shape)


class Schedule:
    """Runs of one model on the same arguments: recorded, then bound. One run at a time.

    Another model, or another number of threads, is recorded anew; so is a copy of the schedule.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made_for: tuple[Any, int] = (lambda: None, 0)
        self._recording: Recording | None = None
        self._bound: Bound | None = None
        self._result: Tensor | None = None

    def __reduce__(self) -> tuple[type[Schedule], tuple[()]]:
        """Copies and pickles hold no arena."""
        return Schedule, ()

    def run(self, model: object, compute: Callable[[Workspace], Tensor]) -> Tensor:
        """Return what `compute`, a method of the model, makes in a workspace, in a tensor of its own."""
        with self._lock:
            threads = torch.get_num_threads()
            known, known_threads = self._made_for
            if known() is not model or known_threads != threads:
                self._made_for = (weakref.ref(model), threads)
                self._recording, self._bound, self._result = None, None, None
            if self._recording is None:
                recording = Recording()
                result = recording.returned(compute(recording))
                self._recording = recording
                return result
            if not self._recording.placeable:
                return compute(Workspace())
            if self._bound is None:
                bound = Bound(self._recording)
                self._result = compute(bound)
                bound.check()
                self._bound = bound
            assert self._result is not None
            return self._bound.run(self._result)

    def tensors(self) -> Iterator[Tensor]:
        """Yield the arena, once there is one."""
        if self._bound is not None:
            yield self._bound.arena


AT_ONCE = Workspace()


def _contiguous(part: Any) -> Any:
    return part.contiguous() if isinstance(part, Tensor) and part.layout == torch.strided else part


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage().data_ptr())


def _overlap(one: Request, other: Request) -> bool:
    return one.first <= other.last and other.first <= one.last
