"""Aggregation over CSR from packed rows: sum, weighted sum, mean, maximum and attention by head."""

from __future__ import annotations

import numpy as np
from numba import get_thread_id, njit, prange

from sgq.runtime.kernels.cpu import lanes as lane
from sgq.runtime.kernels.cpu import vectors as v
from sgq.runtime.kernels.cpu.compiling import parallel_kernel, row_function
from sgq.runtime.kernels.cpu.finishing import finish_row, load_number, score_row, store_number
from sgq.runtime.kernels.cpu.gather import gatherer

ROW_COST = 16
"""What a row costs beside its edges, in edges."""
LOWEST = np.float32(-3.0e38)

sum_8, sum_4, sum_2, sum_1, sum_32 = (gatherer("sum", bits) for bits in (8, 4, 2, 1, 32))
max_8, max_4, max_2, max_1, max_32 = (gatherer("max", bits) for bits in (8, 4, 2, 1, 32))
bag_short = gatherer("sum", 8, v.I16, v.I8)
bag_long = gatherer("sum", 8, v.I32, v.I8)
heads_8, heads_4, heads_2, heads_1, heads_32 = (
    gatherer("heads", bits, weight=v.I8) for bits in (8, 4, 2, 1, 32)
)


def _by_width(gather_8, gather_4, gather_2, gather_1, gather_32):  # fmt: skip
    """Return the function that gathers one row from all segments, whatever their widths."""

    @njit(nogil=True, forceinline=True)
    def gather_row(
        codes, segments, columns, pointers, step, row, weights, weight_stride, weight_zero, parameters,
        parameter_step, parameter_stride, heads, scratch,
    ):  # fmt: skip
        offset = np.float32(0.0)
        count = segments.shape[0]
        first_pointer = row * step
        for s in range(count):
            last = step if s == count - 1 else s + 1
            start, end = pointers[first_pointer + s], pointers[first_pointer + last]
            bits, size = segments[s, 1], segments[s, 2]
            first = codes + segments[s, 4] - segments[s, 3] * size
            pairs = parameters + 4 * s * parameter_step
            if bits == 8:
                offset += gather_8(first, size, columns, weights, weight_stride, weight_zero, pairs,
                    parameter_stride, heads, start, end, scratch, size)  # fmt: skip
            elif bits == 4:
                offset += gather_4(first, size, columns, weights, weight_stride, weight_zero, pairs,
                    parameter_stride, heads, start, end, scratch, size)  # fmt: skip
            elif bits == 2:
                offset += gather_2(first, size, columns, weights, weight_stride, weight_zero, pairs,
                    parameter_stride, heads, start, end, scratch, size)  # fmt: skip
            elif bits == 1:
                offset += gather_1(first, size, columns, weights, weight_stride, weight_zero, pairs,
                    parameter_stride, heads, start, end, scratch, size)  # fmt: skip
            else:
                offset += gather_32(first, size, columns, weights, weight_stride, weight_zero, pairs,
                    parameter_stride, heads, start, end, scratch, size // 4)  # fmt: skip
        return offset

    return gather_row


sum_row = _by_width(sum_8, sum_4, sum_2, sum_1, sum_32)
max_row = _by_width(max_8, max_4, max_2, max_1, max_32)
heads_row = _by_width(heads_8, heads_4, heads_2, heads_1, heads_32)


@row_function
def part_start(part, parts, rows, pointers, step):  # fmt: skip
    """Return the first row of a part, where parts have about equal numbers of edges and rows together."""
    edges = np.int64(pointers[rows * step])
    wanted = part * (edges + ROW_COST * rows) // parts
    low, high = 0, rows
    while low < high:
        middle = (low + high) // 2
        if pointers[middle * step] + ROW_COST * middle < wanted:
            low = middle + 1
        else:
            high = middle
    return low


@row_function
def subtract_zeros(here, offset, zeros):  # fmt: skip
    """Subtract offset · zeros[k] from a row, channel by channel."""
    for k in range(zeros.shape[0]):
        store_number(here, k, load_number(here, k) - offset * zeros[k])


@parallel_kernel
def aggregate_sum(
    parts, rows, codes, segments, columns, pointers, step, weights, weight_stride, parameters, parameter_step,
    parameter_stride, channel_zeros, mean, scratch, apart, room, finish,
):  # fmt: skip
    """Sum rows over the edges into each node, weighted by edge; `mean` divides by their number.

    Row r of the pointers begins at `pointers[r · step]`, and its edges go by segment of their source.
    """
    for part in prange(parts):
        here = scratch + get_thread_id() * apart
        last = part_start(part + 1, parts, rows, pointers, step)
        for row in range(part_start(part, parts, rows, pointers, step), last):
            lane.fill_lanes(room, here, np.float32(0.0))
            offset = sum_row(codes, segments, columns, pointers, step, row, weights, weight_stride,
                np.float32(0.0), parameters, parameter_step, parameter_stride, 0, here)  # fmt: skip
            if channel_zeros.shape[0]:
                subtract_zeros(here, offset, channel_zeros)
            elif offset != np.float32(0.0):
                lane.subtract_lanes(room, here, offset)
            factor = np.float32(1.0)
            if mean:
                factor /= np.float32(max(pointers[(row + 1) * step] - pointers[row * step], 1))
            finish_row(here, row, factor, finish)


@parallel_kernel
def aggregate_max(
    parts, rows, codes, segments, columns, pointers, step, parameters, parameter_step, parameter_stride,
    channel_zeros, scratch, apart, room, finish,
):  # fmt: skip
    """Take the maximum of each channel over the edges into each node; 0 without edges."""
    for part in prange(parts):
        here = scratch + get_thread_id() * apart
        last = part_start(part + 1, parts, rows, pointers, step)
        for row in range(part_start(part, parts, rows, pointers, step), last):
            empty = pointers[(row + 1) * step] == pointers[row * step]
            lane.fill_lanes(room, here, np.float32(0.0) if empty else LOWEST)
            max_row(codes, segments, columns, pointers, step, row, 0, 0, np.float32(0.0), parameters,
                parameter_step, parameter_stride, 0, here)  # fmt: skip
            if not empty:
                subtract_zeros(here, np.float32(1.0), channel_zeros)
            finish_row(here, row, np.float32(1.0), finish)


@parallel_kernel
def aggregate_heads(
    parts, rows, codes, segments, columns, pointers, step, weights, weight_stride, weight_zero, weight_scale,
    parameters, parameter_step, parameter_stride, heads, scratch, apart, room, finish,
):  # fmt: skip
    """Sum rows over the edges into each node, weighted by edge and head; weights are codes."""
    for part in prange(parts):
        here = scratch + get_thread_id() * apart
        last = part_start(part + 1, parts, rows, pointers, step)
        for row in range(part_start(part, parts, rows, pointers, step), last):
            lane.fill_lanes(room, here, np.float32(0.0))
            heads_row(codes, segments, columns, pointers, step, row, weights, weight_stride, weight_zero,
                parameters, parameter_step, parameter_stride, heads, here)  # fmt: skip
            finish_row(here, row, weight_scale, finish)


@njit(nogil=True, forceinline=True)
def bag_row(
    short, weights, size, columns, codes, code_stride, zero, parameters, start, end, scratch
):  # fmt: skip
    """Sum the weight rows of one row of sparse features, for either width of its indices."""
    if short:
        return bag_short(weights, size, columns, codes, code_stride, zero, parameters, 0, 0, start, end,
            scratch, size)  # fmt: skip
    return bag_long(weights, size, columns, codes, code_stride, zero, parameters, 0, 0, start, end,
        scratch, size)  # fmt: skip


@parallel_kernel
def combine_sparse(
    parts, rows, pointers, short, columns, codes, code_stride, row_parameters, weights, row_bytes,
    weight_parameters, channel_zeros, scratch, apart, room, scores, finish,
):  # fmt: skip
    """Multiply sparse features by 8-bit weights [features, channels]: sum the weight rows of each row.

    A feature's value is (code − zero point) · scale with the row's parameters; channel scales of the weight
    are the finish's.
    """
    for part in prange(parts):
        here = scratch + get_thread_id() * apart
        last = part_start(part + 1, parts, rows, pointers, 1)
        for row in range(part_start(part, parts, rows, pointers, 1), last):
            lane.fill_lanes(room, here, np.float32(0.0))
            scale, zero = row_parameters[row, 0], row_parameters[row, 1]
            offset = bag_row(short, weights, row_bytes, columns, codes, code_stride, zero, weight_parameters,
                pointers[row], pointers[row + 1], here)  # fmt: skip
            subtract_zeros(here, offset, channel_zeros)
            score_row(here, row, scale, scores)
            finish_row(here, row, scale, finish)
