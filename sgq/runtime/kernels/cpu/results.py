"""Room for a kernel's result, and what its finish takes: numbers and addresses of tensors that are kept."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from quantizers.spec import FLOAT_BITS
from sgq.runtime.finish import Finish
from sgq.runtime.kernels.cpu import finishing
from sgq.runtime.kernels.cpu.finishing import FLOATS, MODES, SLOPES, STREAM
from sgq.runtime.kernels.cpu.row_codes import STREAM_ALIGNMENT
from sgq.runtime.kernels.cpu.threads import whole_vectors
from sgq.runtime.packed import VECTOR, Layout, PackedTensor
from sgq.runtime.workspace import Workspace

NEUTRAL = np.array([[1.0, 0.0]], np.float32)
"""Parameters that leave codes alone."""
STREAMED_BYTES = 2**25
"""Size from which fp32 results are written past the caches, which they would only flush."""


@dataclass(frozen=True)
class Target:
    """A result to be filled, the address of what `finish_row` takes, and what that has addresses of.

    `lanes` are the channels that a row of sums takes, the result's padding included.
    """

    result: Tensor | PackedTensor
    lanes: int
    record: int
    held: tuple[Any, ...]


def target_of(rows: int, width: int, finish: Finish, workspace: Workspace) -> Target:
    """Return room for a result [rows, width], finished."""
    quantization = finish.quantization
    result: Tensor | PackedTensor
    if quantization is None:
        result = workspace.empty(rows, width)
        lanes = whole_vectors(width)
    else:
        layout = quantization.layout(finish.rows or (rows,), width // finish.heads, heads=finish.heads)
        codes = workspace.empty(layout.nbytes, dtype=torch.uint8)
        stored = quantization.stored_parameters(layout)
        parameters = workspace.empty(rows, 2) if stored is None else stored
        result = PackedTensor(codes, parameters, quantization.per, layout)
        lanes = reach(layout)
    factors = _factors(finish, width, lanes)
    record = np.zeros(finishing.FIELDS, np.int64)
    numbers = record.view(np.float32)
    row, first = factors.strides[0], factors.ctypes.data
    record[finishing.WIDTH], record[finishing.LANES] = width, lanes
    record[finishing.MULTIPLY], record[finishing.ADD] = first, first + row
    record[finishing.NEUTRAL] = first + 2 * row
    elu = finish.activation == "elu"
    record[finishing.ELU], numbers[2 * finishing.ALPHA] = elu, finish.slope
    slope = SLOPES.get(finish.activation, 1.0 if elu else finish.slope)
    numbers[2 * finishing.SLOPE] = slope
    held: tuple[Any, ...] = (result, factors, record)
    if isinstance(result, Tensor):
        streamed = rows * width * 4 >= STREAMED_BYTES and width % VECTOR == 0
        aligned = result.data_ptr() % STREAM_ALIGNMENT == 0
        record[finishing.MODE] = STREAM if streamed and aligned else FLOATS
        record[finishing.OUT] = result.data_ptr()
        workspace.movable(result, partial(record.__setitem__, finishing.OUT))
        return Target(result, lanes, record.ctypes.data, held)
    assert quantization is not None
    own = result.parameters if quantization.parameters is None else quantization.parameters
    ranges = quantization.range_table
    record[finishing.MODE] = MODES[quantization.per]
    record[finishing.CODES] = result.codes.data_ptr()
    record[finishing.SEGMENTS], record[finishing.COUNT] = segment_arguments(result.layout)
    record[finishing.PARAMETERS] = own.data_ptr()
    record[finishing.ROW_PARAMETERS] = result.parameters.data_ptr()
    record[finishing.RANGES] = ranges.data_ptr()
    return Target(result, lanes, record.ctypes.data, (*held, own, ranges))


def _factors(finish: Finish, width: int, lanes: int) -> Any:
    """Return [4, lanes]: what multiplies and is added, and for rows that are finished already, 1 and 0."""
    # Past the last channel sums may be anything: times 0 they leave ranges alone.
    factors = np.zeros((4, lanes), np.float32)
    factors[0, :width] = 1.0 if finish.multiply is None else finish.multiply.numpy()
    if finish.add is not None:
        factors[1, :width] = finish.add.numpy()
    factors[2] = 1.0
    return factors


def segment_arguments(layout: Layout) -> tuple[int, int]:
    """Return the address of a layout's segments, which lives as long as the layout, and their count."""
    return layout.table.data_ptr(), len(layout.segments)


@lru_cache(maxsize=256)
def reach(layout: Layout) -> int:
    """Return how many channels the rows of a layout take at most, padding included."""
    return max(
        (
            segment.row_bytes // 4 if segment.bits == FLOAT_BITS else segment.row_bytes * 8 // segment.bits
            for segment in layout.segments
        ),
        default=0,
    )


def padded(numbers: Tensor, room: int) -> Tensor:
    """Return fp32 numbers with zeros behind them, in a tensor of their own."""
    return torch.nn.functional.pad(numbers.float(), (0, room - numbers.numel())).contiguous()


def channel_factors(x: PackedTensor, room: int) -> tuple[int, int, Any]:
    """Return the addresses of what unpacks rows: parameters, and factors by channel or 0; what holds them.

    The factors are what multiplies and is added to the codes of each channel, [2, room].
    """
    if x.per != "channel":
        return x.parameters.data_ptr(), 0, x.parameters
    factors = np.zeros((2, room), np.float32)
    scale, zero_point = x.parameters.numpy().T
    factors[0, : x.layout.width], factors[1, : x.layout.width] = scale, -zero_point * scale
    return NEUTRAL.ctypes.data, factors.ctypes.data, factors
