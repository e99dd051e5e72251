"""Lengths of edges: the distance of the rows at their ends, brought together over the edges into each row."""

from __future__ import annotations

import numpy as np
from numba import get_thread_id, prange

from sgq.runtime.kernels.cpu import lanes as lane
from sgq.runtime.kernels.cpu.aggregation import part_start
from sgq.runtime.kernels.cpu.compiling import parallel_kernel, row_function
from sgq.runtime.kernels.cpu.distance_lanes import (
    prefetch_line,
    square_1,
    square_2,
    square_4,
    square_8,
    square_values,
)
from sgq.runtime.kernels.cpu.finishing import BITS, ONE, ROW_BYTES, ZERO, finish_row, segment_field
from sgq.runtime.kernels.cpu.gather import AHEAD
from sgq.runtime.kernels.cpu.memory import load_int, load_number, store_number
from sgq.runtime.kernels.cpu.products import widen_row
from sgq.runtime.kernels.cpu.unpacking import row_start, unpack_row

SUM, MEAN, MAX, MIN = range(4)
REDUCTIONS = {"sum": SUM, "mean": MEAN, "max": MAX, "min": MIN}


@row_function
def squared_codes(bits, size, codes, own, keep):  # fmt: skip
    """Return the sum of squared differences of a packed row and a row `own` of 16-bit codes."""
    if bits == 8:
        return square_8(size, codes, own, keep)
    if bits == 4:
        return square_4(size, codes, own, keep)
    if bits == 2:
        return square_2(size, codes, own, keep)
    return square_1(size, codes, own, keep)


@parallel_kernel
def reduce_lengths(
    parts, rows, codes, segments, count, columns, pointers, step, exact, parameters, per_row, scales, keep,
    reduction, wide, wide_apart, wide_room, scratch, apart, room, finish,
):  # fmt: skip
    """Bring the lengths of the edges into each row together, and finish them; 0 without edges.

    `exact` rows are codes that share a scale; others are unpacked, and their differences multiplied by
    `scales` [wide_room]. `keep` is as for `distance_lanes`: 16 bits a channel of exact rows, else 32.
    """
    for part in prange(parts):
        thread = get_thread_id()
        here, own = scratch + thread * apart, wide + thread * wide_apart
        other = own + 4 * wide_room
        bits, size = segment_field(segments, 0, BITS), segment_field(segments, 0, ROW_BYTES)
        start = part_start(part, parts, rows, pointers, step)
        last = part_start(part + 1, parts, rows, pointers, step)
        for row in range(start, last):
            first, end = load_int(pointers, row * step), load_int(pointers, (row + 1) * step)
            if exact:
                widen_row(row_start(codes, segments, 0, row), size, bits, 0, 0, own)
            else:
                unpack_row(codes, segments, count, parameters, per_row, row, own)
            total = ZERO
            for edge in range(first, end):
                source = load_int(columns, edge)
                if exact:
                    prefetch_line(row_start(codes, segments, 0, load_int(columns, edge + AHEAD)))
                    start_of_source = row_start(codes, segments, 0, source)
                    square = np.float32(squared_codes(bits, size, start_of_source, own, keep))
                else:
                    unpack_row(codes, segments, count, parameters, per_row, source, other)
                    square = square_values(wide_room, own, other, keep, scales)
                if reduction <= MEAN:
                    total += np.sqrt(square)
                elif edge == first:
                    total = square
                else:
                    total = max(total, square) if reduction == MAX else min(total, square)
            if reduction >= MAX:
                total = np.sqrt(total)
            factor = load_number(parameters, 0) if exact else ONE
            if reduction == MEAN:
                factor /= np.float32(max(end - first, 1))
            lane.fill_lanes(room, here, ZERO)
            store_number(here, 0, total)
            finish_row(here, row, factor, ZERO, finish)
