"""The memory and the work of a lowered program, step by step, without running a kernel.

A lowered model keeps its results in one arena, which it lays out in its first run. Here that run is
rehearsed: every step asks for room as it does in earnest, so that results, scratch and padding are counted to
the byte, but no kernel is launched, and what torch computes between kernels is traced instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sgq.cost.roofline import Demand
from sgq.cost.step_work import check_priced, demand_of
from sgq.cost.traced_operators import OperatorTrace, trace_operators
from sgq.runtime.lowering.graphs import rows_tensors
from sgq.runtime.lowering.model import LoweredModel
from sgq.runtime.lowering.steps import Step, Values
from sgq.runtime.measuring import stored_bytes
from sgq.runtime.packed import PackedTensor
from sgq.runtime.workspace import Recording


@dataclass(frozen=True)
class StepTrace:
    """One step: its kind, and what its kernel and the operators of torch in it ask of a device."""

    name: str
    demands: tuple[Demand, ...]


@dataclass(frozen=True)
class ProgramTrace:
    """A lowered program on prepared data, as all its calls but the first two are.

    `resident_bytes` are those of packed weights, features and edges, `arena_bytes` those of the arena, and
    `on_top_bytes` what a call allocates beside it: its result, and what torch computes.
    """

    steps: tuple[StepTrace, ...]
    resident_bytes: int
    arena_bytes: int
    on_top_bytes: int

    @property
    def peak_bytes(self) -> int:
        """Bytes at the worst moment."""
        return self.resident_bytes + self.arena_bytes + self.on_top_bytes

    @property
    def demands(self) -> tuple[Demand, ...]:
        """What all steps ask of a device, in order."""
        return tuple(demand for step in self.steps for demand in step.demands)


def trace_program(lowered: LoweredModel) -> ProgramTrace:
    """Return what a lowered model holds and does on the data that it was lowered on.

    Scratch is that of as many threads as torch is set to. Raise ModelError for a step without a price, and
    where torch computes what cannot be traced (see `trace_operators`).
    """
    for step in lowered.steps:
        check_priced(step)
    inputs = lowered.inputs
    assert inputs is not None
    rehearsal = Rehearsal(lowered)
    steps: list[StepTrace] = []

    def watch(step: Step, values: Values) -> None:
        own = demand_of(step, values, inputs)
        demands = [demand for trace in rehearsal.taken() for demand in trace.demands]
        steps.append(StepTrace(type(step).__name__, tuple(demands if own is None else [*demands, own])))

    with torch.no_grad():
        result = rehearsal.returned(lowered.compute(inputs, rehearsal, watch=watch))
    fresh = any(request.fresh for request in rehearsal.requests)
    made = result.numel() * result.element_size()
    arena, on_top = 0, 0
    if rehearsal.placeable:
        _, arena = rehearsal.places()
        on_top = max(made, rehearsal.torch_bytes + (made if fresh else 0))
    else:
        on_top = rehearsal.alive_bytes
    if lowered.reorders(inputs, result):
        on_top = max(on_top, 2 * made)
    resident = lowered.nbytes + inputs.nbytes - stored_bytes(inputs.schedule.tensors())
    return ProgramTrace(tuple(steps), resident, arena, on_top)


class Rehearsal(Recording):
    """Keeps record of the room that a program asks for; nothing is computed in it.

    Room is reserved and never written, which takes no memory.
    """

    def __init__(self, lowered: LoweredModel) -> None:
        super().__init__()
        assert lowered.inputs is not None
        features = lowered.inputs.features
        given = rows_tensors(features) if isinstance(features, (Tensor, PackedTensor)) else ()
        self.unknown: list[Tensor] = [*lowered.tensors(), *given]
        self.torch_bytes = 0
        self._traces: list[OperatorTrace] = []
        # By step, what torch holds beside results, which are on record.
        self._beside_bytes: dict[int, int] = {}

    def empty(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return room whose numbers are not known."""
        room = super().empty(*shape, dtype=dtype)
        self.unknown.append(room)
        return room

    def launch(self, call: Callable[[], object]) -> None:
        """Leave the kernel out."""

    def computed(self, function: Callable[[], Any]) -> Any:
        """Trace what torch would compute; return room of its shape."""
        made: list[Any] = []

        def call() -> None:
            made.append(function())
            made[:] = [_shapes(made[0])]

        trace = trace_operators(call, unknown=self.unknown)
        self._traces.append(trace)
        self.torch_bytes = max(self.torch_bytes, trace.on_top_bytes)
        known = len(self.requests)
        result = super().computed(lambda: self._room(made[0]))
        noted = sum(request.size for request in self.requests[known:])
        before = self._beside_bytes.get(self._step, 0)
        self._beside_bytes[self._step] = max(before, trace.on_top_bytes - noted)
        return result

    def taken(self) -> list[OperatorTrace]:
        """Return the traces since this was last asked for."""
        taken, self._traces = self._traces, []
        return taken

    @property
    def alive_bytes(self) -> int:
        """The most that is alive in a step, for a program whose results have no places in an arena."""
        return max(
            sum(one.size for one in self.requests if one.first <= at <= one.last)
            + self._beside_bytes.get(at, 0)
            for at in range(self._step + 1)
        )

    def _room(self, shapes: Any) -> Any:
        if isinstance(shapes, _Shape):
            room = torch.empty(shapes.sizes, dtype=shapes.dtype)
            self.unknown.append(room)
            return room
        # Named results of torch (of `max`, say) are made of one sequence, as tuples and lists are.
        return type(shapes)([*map(self._room, shapes)]) if isinstance(shapes, (tuple, list)) else shapes


@dataclass(frozen=True)
class _Shape:
    """What is kept of a tensor that was not computed."""

    sizes: tuple[int, ...]
    dtype: torch.dtype


def _shapes(value: Any) -> Any:
    if isinstance(value, Tensor) and value.layout == torch.strided:
        return _Shape(tuple(value.shape), value.dtype)
    return type(value)([*map(_shapes, value)]) if isinstance(value, (tuple, list)) else value
