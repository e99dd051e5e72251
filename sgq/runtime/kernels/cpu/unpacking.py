"""Unpacking one row of any segment of a packed tensor to fp32."""

from __future__ import annotations

from sgq.runtime.kernels.cpu import lanes as lane
from sgq.runtime.kernels.cpu import row_codes
from sgq.runtime.kernels.cpu.compiling import row_function
from sgq.runtime.kernels.cpu.finishing import (
    BITS,
    FIRST_BYTE,
    FIRST_ROW,
    ROW_BYTES,
    segment_field,
    segment_of,
)
from sgq.runtime.kernels.cpu.memory import load_number


@row_function
def row_start(codes, segments, s, row):  # fmt: skip
    """Return the address of a packed row of segment `s`."""
    size = segment_field(segments, s, ROW_BYTES)
    return (
        codes + segment_field(segments, s, FIRST_BYTE) + (row - segment_field(segments, s, FIRST_ROW)) * size
    )


@row_function
def unpack_row(codes, segments, count, parameters, per_row, row, out):  # fmt: skip
    """Write the values of one packed row, its padding included, at an address."""
    s = segment_of(segments, count, row)
    bits, size = segment_field(segments, s, BITS), segment_field(segments, s, ROW_BYTES)
    first = row_start(codes, segments, s, row)
    place = 2 * (row if per_row else s)
    scale, zero = load_number(parameters, place), load_number(parameters, place + 1)
    if bits == 8:
        row_codes.read_8(size, first, scale, zero, out)
    elif bits == 4:
        row_codes.read_4(size, first, scale, zero, out)
    elif bits == 2:
        row_codes.read_2(size, first, scale, zero, out)
    elif bits == 1:
        row_codes.read_1(size, first, scale, zero, out)
    else:
        lane.copy_lanes(size // 4, first, out)
