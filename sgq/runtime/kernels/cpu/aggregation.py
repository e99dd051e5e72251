"""Aggregation over CSR from packed rows: sum, weighted sum, mean, maximum and attention by head."""

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
    finish_row,
    score_row,
    segment_field,
)
from sgq.runtime.kernels.cpu.gather import gatherer
from sgq.runtime.kernels.cpu.memory import load_int, load_number

ROW_COST = 16
"""What a row costs beside its edges, in edges."""
LOWEST = np.float32(-3.0e38)

sum_8, sum_4, sum_2, sum_1, sum_32 = (gatherer("sum", bits) for bits in (8, 4, 2, 1, 32))
max_8, max_4, max_2, max_1, max_32 = (gatherer("max", bits) for bits in (8, 4, 2, 1, 32))
bag_8, bag_4 = (gatherer("sum", bits, v.I16, v.I8) for bits in (8, 4))
coded_8, coded_4, coded_2, coded_1, coded_32 = (
    gatherer("sum", bits, weight=v.I8) for bits in (8, 4, 2, 1, 32)
)
heads_8, heads_4, heads_2, heads_1, heads_32 = (
    gatherer("heads", bits, weight=v.I8) for bits in (8, 4, 2, 1, 32)
)


def _by_width(gather_8, gather_4, gather_2, gather_1, gather_32):  # fmt: skip
    """Return the function that gathers one row from all segments, whatever their widths."""

    @njit(nogil=True, forceinline=True)
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
            if bits == 8:
                offset += gather_8(first, size, columns, weights, weight_stride, weight_zero, pairs,
                    parameter_stride, heads, factor_room, start, end, scratch, size)  # fmt: skip
            elif bits == 4:
                offset += gather_4(first, size, columns, weights, weight_stride, weight_zero, pairs,
                    parameter_stride, heads, factor_room, start, end, scratch, size)  # fmt: skip
            elif bits == 2:
                offset += gather_2(first, size, columns, weights, weight_stride, weight_zero, pairs,
                    parameter_stride, heads, factor_room, start, end, scratch, size)  # fmt: skip
            elif bits == 1:
                offset += gather_1(first, size, columns, weights, weight_stride, weight_zero, pairs,
                    parameter_stride, heads, factor_room, start, end, scratch, size)  # fmt: skip
            else:
                offset += gather_32(first, size, columns, weights, weight_stride, weight_zero, pairs,
                    parameter_stride, heads, factor_room, start, end, scratch, size // 4)  # fmt: skip
        return offset

    return gather_row


sum_row = _by_width(sum_8, sum_4, sum_2, sum_1, sum_32)
max_row = _by_width(max_8, max_4, max_2, max_1, max_32)
coded_row = _by_width(coded_8, coded_4, coded_2, coded_1, coded_32)
heads_row = _by_width(heads_8, heads_4, heads_2, heads_1, heads_32)


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


@parallel_kernel
def aggregate_sum(
    parts, rows, codes, segments, count, columns, pointers, step, weights, weight_stride, parameters,
    parameter_step, parameter_stride, channel_zeros, mean, scratch, apart, room, finish,
):  # fmt: skip
    """Sum rows over the edges into each node, weighted by edge; `mean` divides by their number.

    Row r of the pointers begins at pointers[r · step], and its edges go by segment of their source.
    """
    for part in prange(parts):
        here = scratch + get_thread_id() * apart
        last = part_start(part + 1, parts, rows, pointers, step)
        for row in range(part_start(part, parts, rows, pointers, step), last):
            lane.fill_lanes(room, here, ZERO)
            offset = sum_row(codes, segments, count, columns, pointers, step, row, weights, weight_stride,
                ZERO, parameters, parameter_step, parameter_stride, 0, 0, here)  # fmt: skip
            if channel_zeros:
                lane.subtract_scaled_lanes(room, here, offset, channel_zeros)
                offset = ZERO
            factor = ONE
            if mean:
                factor /= np.float32(max(edges_of(pointers, step, row), 1))
            finish_row(here, row, factor, offset, finish)


@parallel_kernel
def aggregate_max(
    parts, rows, codes, segments, count, columns, pointers, step, parameters, parameter_step,
    parameter_stride, channel_zeros, scratch, apart, room, finish,
):  # fmt: skip
    """Take the maximum of each channel over the edges into each node; 0 without edges."""
    for part in prange(parts):
        here = scratch + get_thread_id() * apart
        last = part_start(part + 1, parts, rows, pointers, step)
        for row in range(part_start(part, parts, rows, pointers, step), last):
            empty = edges_of(pointers, step, row) == 0
            lane.fill_lanes(room, here, ZERO if empty else LOWEST)
            max_row(codes, segments, count, columns, pointers, step, row, 0, 0, ZERO, parameters,
                parameter_step, parameter_stride, 0, 0, here)  # fmt: skip
            if channel_zeros and not empty:
                lane.subtract_scaled_lanes(room, here, ONE, channel_zeros)
            finish_row(here, row, ONE, ZERO, finish)


@parallel_kernel
def aggregate_heads(
    parts, rows, codes, segments, count, columns, pointers, step, weights, heads, weight_zero, weight_scale,
    parameters, parameter_step, parameter_stride, head_table, scratch, apart, room, finish,
):  # fmt: skip
    """Sum rows over the edges into each node, weighted by edge and head; weights are codes [edges, heads].

    The scratch has room for 2 · heads numbers more, in whole vectors; see `gatherer`.
    """
    for part in prange(parts):
        here = scratch + get_thread_id() * apart
        last = part_start(part + 1, parts, rows, pointers, step)
        for row in range(part_start(part, parts, rows, pointers, step), last):
            lane.fill_lanes(room, here, ZERO)
            offset = ZERO
            if heads == 1:
                offset = coded_row(codes, segments, count, columns, pointers, step, row, weights, 1,
                    weight_zero, parameters, parameter_step, parameter_stride, 0, 0, here)  # fmt: skip
            else:
                heads_row(codes, segments, count, columns, pointers, step, row, weights, heads, weight_zero,
                    parameters, parameter_step, parameter_stride, head_table, here + 4 * room,
                    here)  # fmt: skip
            finish_row(here, row, weight_scale, offset, finish)


@njit(nogil=True, forceinline=True)
def bag_row(
    short, bits, weights, size, columns, codes, code_stride, zero, parameters, start, end, scratch
):  # fmt: skip
    """Sum the weight rows of one row of sparse features, for either width of its indices and of weights."""
    if short and bits == 8:
        return bag_8(weights, size, columns, codes, code_stride, zero, parameters, 0, 0, 0, start, end,
            scratch, size)  # fmt: skip
    if short:
        return bag_4(weights, size, columns, codes, code_stride, zero, parameters, 0, 0, 0, start, end,
            scratch, size)  # fmt: skip
    if bits == 8:
        return coded_8(weights, size, columns, codes, code_stride, zero, parameters, 0, 0, 0, start, end,
            scratch, size)  # fmt: skip
    return coded_4(weights, size, columns, codes, code_stride, zero, parameters, 0, 0, 0, start, end,
        scratch, size)  # fmt: skip


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
        here = scratch + get_thread_id() * apart
        last = part_start(part + 1, parts, rows, pointers, 1)
        for row in range(part_start(part, parts, rows, pointers, 1), last):
            lane.fill_lanes(room, here, ZERO)
            pair = row_parameters + 4 * row_stride * row
            scale, zero = load_number(pair, 0), load_number(pair, 1)
            offset = bag_row(short, bits, weights, row_bytes, columns, codes, code_stride, zero,
                weight_parameters, load_int(pointers, row), load_int(pointers, row + 1), here)  # fmt: skip
            lane.subtract_scaled_lanes(room, here, offset, channel_zeros)
            score_row(here, row, scale, scores)
            finish_row(here, row, scale, ZERO, finish)
