"""Aggregation over CSR from packed rows: sum, weighted sum, mean, extremes and attention by head."""

from __future__ import annotations

import numpy as np
from numba import get_thread_id, njit, prange

from sgq.runtime.kernels.cpu import lanes as lane
from sgq.runtime.kernels.cpu import vectors as v
from sgq.runtime.kernels.cpu.compiling import parallel_kernel, row_function
from sgq.runtime.kernels.cpu.finishing import (
    BITS,
    FIRST_BYTE,
    FIRST_ROW,
    ONE,
    ROW_BYTES,
    ZERO,
    encode_row,
    score_row,
    segment_field,
    settle_row,
)
from sgq.runtime.kernels.cpu.gather import gatherer
from sgq.runtime.kernels.cpu.memory import load_int, load_number

ROW_COST = 16
"""What a row costs beside its edges, in edges."""
LOWEST, HIGHEST = np.float32(-3.0e38), np.float32(3.0e38)

gather_sum, gather_max, gather_min = gatherer("sum"), gatherer("max"), gatherer("min")
gather_coded, gather_heads = gatherer("sum", weight=v.I8), gatherer("heads", weight=v.I8)
gather_short = gatherer("sum", v.I16, v.I8, widths=(8, 4))
gather_long = gatherer("sum", v.I32, v.I8, widths=(8, 4))


def _over_segments(gather):  # fmt: skip
    """Return the function that gathers one row from all segments, whatever their widths."""

    @njit(nogil=True, inline="always")
    def gather_row(
        codes, segments, count, columns, pointers, step, row, weights, weight_stride, weight_zero, parameters,
        parameter_step, parameter_stride, heads, factor_room, scratch,
    ):  # fmt: skip
        offset = ZERO
        first_pointer = row * step
        for s in range(count):
            last = step if s == count - 1 else s + 1
            start, end = load_int(pointers, first_pointer + s), load_int(pointers, first_pointer + last)
            bits, size = segment_field(segments, s, BITS), segment_field(segments, s, ROW_BYTES)
            first = codes + segment_field(segments, s, FIRST_BYTE)
            first -= segment_field(segments, s, FIRST_ROW) * size
            pairs = parameters + 4 * s * parameter_step
            lanes = size // 4 if bits == 32 else size
            offset += gather(bits, first, size, columns, weights, weight_stride, weight_zero, pairs,
                parameter_stride, heads, factor_room, start, end, scratch, lanes)  # fmt: skip
        return offset

    return gather_row


sum_row, max_row, min_row = (_over_segments(one) for one in (gather_sum, gather_max, gather_min))
coded_row, heads_row = _over_segments(gather_coded), _over_segments(gather_heads)


@row_function
def part_start(part, parts, rows, pointers, step):  # fmt: skip
    """Return the first row of a part, where parts have about equal numbers of edges and rows together."""
    edges = load_int(pointers, rows * step)
    wanted = part * (edges + ROW_COST * rows) // parts
    low, high = 0, rows
    while low < high:
        middle = (low + high) // 2
        if load_int(pointers, middle * step) + ROW_COST * middle < wanted:
            low = middle + 1
        else:
            high = middle
    return low


@row_function
def edges_of(pointers, step, row):  # fmt: skip
    """Return how many edges a row has."""
    return load_int(pointers, (row + 1) * step) - load_int(pointers, row * step)


@row_function
def encode_previous(base, room, start, row, finish):  # fmt: skip
    """Encode the row before this one, if it belongs to the part that begins at row `start`.

    Rows take turns in two rooms: what a row's codes wait for is ready when the next row is summed up.
    """
    if row > start:
        encode_row(base + 4 * room * ((row - 1) & 1), row - 1, finish)


@parallel_kernel
def aggregate_sum(
    parts, rows, codes, segments, count, columns, pointers, step, weights, weight_stride, parameters,
    parameter_step, parameter_stride, channel_zeros, mean, scratch, apart, room, finish,
):  # fmt: skip
    """Sum rows over the edges into each node, weighted by edge; `mean` divides by their number.

    Row r of the pointers begins at pointers[r · step], and its edges go by segment of their source.
    """
    for part in prange(parts):
        base = scratch + get_thread_id() * apart
        start = part_start(part, parts, rows, pointers, step)
        last = part_start(part + 1, parts, rows, pointers, step)
        for row in range(start, last):
            here = base + 4 * room * (row & 1)
            lane.fill_lanes(room, here, ZERO)
            offset = sum_row(codes, segments, count, columns, pointers, step, row, weights, weight_stride,
                ZERO, parameters, parameter_step, parameter_stride, 0, 0, here)  # fmt: skip
            if channel_zeros:
                lane.subtract_scaled_lanes(room, here, offset, channel_zeros)
                offset = ZERO
            factor = ONE
            if mean:
                factor /= np.float32(max(edges_of(pointers, step, row), 1))
            settle_row(here, row, factor, offset, finish)
            encode_previous(base, room, start, row, finish)
        encode_previous(base, room, start, last, finish)


@parallel_kernel
def aggregate_extreme(
    parts, rows, codes, segments, count, columns, pointers, step, parameters, parameter_step,
    parameter_stride, channel_zeros, least, scratch, apart, room, finish,
):  # fmt: skip
    """Take the maximum, or the `least`, of each channel over the edges into each node; 0 without edges."""
    for part in prange(parts):
        base = scratch + get_thread_id() * apart
        start = part_start(part, parts, rows, pointers, step)
        last = part_start(part + 1, parts, rows, pointers, step)
        for row in range(start, last):
            here = base + 4 * room * (row & 1)
            empty = edges_of(pointers, step, row) == 0
            if least:
                lane.fill_lanes(room, here, ZERO if empty else HIGHEST)
                min_row(codes, segments, count, columns, pointers, step, row, 0, 0, ZERO, parameters,
                    parameter_step, parameter_stride, 0, 0, here)  # fmt: skip
            else:
                lane.fill_lanes(room, here, ZERO if empty else LOWEST)
                max_row(codes, segments, count, columns, pointers, step, row, 0, 0, ZERO, parameters,
                    parameter_step, parameter_stride, 0, 0, here)  # fmt: skip
            if channel_zeros and not empty:
                lane.subtract_scaled_lanes(room, here, ONE, channel_zeros)
            settle_row(here, row, ONE, ZERO, finish)
            encode_previous(base, room, start, row, finish)
        encode_previous(base, room, start, last, finish)


@parallel_kernel
def aggregate_heads(
    parts, rows, codes, segments, count, columns, pointers, step, weights, heads, weight_zero, weight_scale,
    parameters, parameter_step, parameter_stride, head_table, scratch, apart, room, finish,
):  # fmt: skip
    """Sum rows over the edges into each node, weighted by edge and head; weights are codes [edges, heads].

    The scratch has room for 2 · heads numbers behind its two rows, in whole vectors; see `gatherer`.
    """
    for part in prange(parts):
        base = scratch + get_thread_id() * apart
        start = part_start(part, parts, rows, pointers, step)
        last = part_start(part + 1, parts, rows, pointers, step)
        for row in range(start, last):
            here = base + 4 * room * (row & 1)
            lane.fill_lanes(room, here, ZERO)
            offset = ZERO
            if heads == 1:
                offset = coded_row(codes, segments, count, columns, pointers, step, row, weights, 1,
                    weight_zero, parameters, parameter_step, parameter_stride, 0, 0, here)  # fmt: skip
            else:
                heads_row(codes, segments, count, columns, pointers, step, row, weights, heads, weight_zero,
                    parameters, parameter_step, parameter_stride, head_table, base + 8 * room,
                    here)  # fmt: skip
            settle_row(here, row, weight_scale, offset, finish)
            encode_previous(base, room, start, row, finish)
        encode_previous(base, room, start, last, finish)


@parallel_kernel
def combine_sparse(
    parts, rows, pointers, short, columns, codes, code_stride, row_parameters, row_stride, weights, bits,
    row_bytes, weight_parameters, channel_zeros, scratch, apart, room, scores, finish,
):  # fmt: skip
    """Multiply sparse features by weights [features, channels] of 8 or 4 bits: sum the weight rows of each.

    A feature's value is (code − zero point) · scale with the row's parameters; channel scales of the weight
    are the finish's. `channel_zeros` is the address of the weight's zero points [room].
    """
    for part in prange(parts):
        base = scratch + get_thread_id() * apart
        start = part_start(part, parts, rows, pointers, 1)
        last = part_start(part + 1, parts, rows, pointers, 1)
        for row in range(start, last):
            here = base + 4 * room * (row & 1)
            lane.fill_lanes(room, here, ZERO)
            pair = row_parameters + 4 * row_stride * row
            scale, zero = load_number(pair, 0), load_number(pair, 1)
            first, end = load_int(pointers, row), load_int(pointers, row + 1)
            if short:
                offset = gather_short(bits, weights, row_bytes, columns, codes, code_stride, zero,
                    weight_parameters, 0, 0, 0, first, end, here, row_bytes)  # fmt: skip
            else:
                offset = gather_long(bits, weights, row_bytes, columns, codes, code_stride, zero,
                    weight_parameters, 0, 0, 0, first, end, here, row_bytes)  # fmt: skip
            lane.subtract_scaled_lanes(room, here, offset, channel_zeros)
            score_row(here, row, scale, scores)
            settle_row(here, row, scale, ZERO, finish)
            encode_previous(base, room, start, row, finish)
        encode_previous(base, room, start, last, finish)
