"""Attention over CSR: scores of edges, softmax over the edges into each node, and their codes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import get_thread_id, prange
from numba.core import types
from numba.extending import intrinsic

from sgq.runtime.kernels.cpu import lanes as lane
from sgq.runtime.kernels.cpu import vectors as v
from sgq.runtime.kernels.cpu.aggregation import part_start
from sgq.runtime.kernels.cpu.compiling import parallel_kernel, row_function
from sgq.runtime.kernels.cpu.finishing import load_number, store_number
from sgq.runtime.packed import VECTOR

KINDS = {"additive": 0, "dynamic": 1, "cosine": 2}
"""GAT's scores (source + target), GATv2's (attention of source and target together), AGNN's (dot product)."""


@intrinsic
def softmax_heads(typing: Any, edges: Any, lanes: Any, scores: Any) -> Any:
    """Turn scores [edges, lanes] into their softmax over the edges, 8 heads at a time."""
    long = types.int64

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        edges_, lanes_, scores_ = arguments
        base = v.at_address(b, scores_, v.F32)

        def heads(first: Any, carried: list[Any]) -> list[Any]:
            def place(edge: Any) -> Any:
                return b.gep(base, [b.add(b.mul(edge, lanes_), first)])

            def highest(edge: Any, so_far: list[Any]) -> list[Any]:
                return [v.larger(b, v.load_vector(b, place(edge), v.FLOATS), so_far[0])]

            def exponentials(edge: Any, so_far: list[Any]) -> list[Any]:
                weight = lane.exponential(b, b.fsub(v.load_vector(b, place(edge), v.FLOATS), top))
                v.store_vector(b, weight, place(edge))
                return [b.fadd(so_far[0], weight)]

            def shares(edge: Any, so_far: list[Any]) -> list[Any]:
                v.store_vector(b, b.fmul(v.load_vector(b, place(edge), v.FLOATS), share), place(edge))
                return so_far

            (top,) = v.loop(b, v.i64(0), edges_, [v.constant(v.FLOATS, -3.0e38)], highest)
            (total,) = v.loop(b, v.i64(0), edges_, [v.constant(v.FLOATS, 1e-16)], exponentials)
            share = b.fdiv(v.constant(v.FLOATS, 1.0), total)
            v.loop(b, v.i64(0), edges_, [], shares)
            return carried

        v.loop(b, v.i64(0), lanes_, [], heads, step=VECTOR)
        return context.get_dummy_value()

    return types.void(long, long, long), generate


@row_function
def unpack_row(codes, segments, parameters, per_row, row, out):  # fmt: skip
    """Write the values of one packed row at an address."""
    s = 0
    while s < segments.shape[0] - 1 and row >= segments[s + 1, 3]:
        s += 1
    bits, size = segments[s, 1], segments[s, 2]
    first = codes + segments[s, 4] + (row - segments[s, 3]) * size
    place = row if per_row else s
    scale, zero = parameters[place, 0], parameters[place, 1]
    if bits == 8:
        lane.read_8(size, first, scale, zero, out)
    elif bits == 4:
        lane.read_4(size, first, scale, zero, out)
    elif bits == 2:
        lane.read_2(size, first, scale, zero, out)
    elif bits == 1:
        lane.read_1(size, first, scale, zero, out)
    else:
        lane.copy_lanes(size // 4, first, out)


@row_function
def additive_scores(count, columns, start, source, here, size, heads, lanes, slope, scores):  # fmt: skip
    """Write LeakyReLU(source + target) of each edge; `here` is the target's row of scores."""
    if heads > 1:
        for edge in range(count):
            other = source + size * np.int64(columns[start + edge])
            lane.additive_lanes(lanes, other, here, scores + 4 * edge * lanes, slope)
        return
    own = load_number(here, 0)
    for edge in range(count):
        score = load_number(source + size * np.int64(columns[start + edge]), 0) + own
        store_number(scores, edge, max(score, np.float32(0.0)) + slope * min(score, np.float32(0.0)))


@parallel_kernel
def edge_attention(
    parts, kind, rows, columns, pointers, step, source, target, heads, width, head_lanes, vector, slope,
    table, scratch, apart, room, coefficients, values,
):  # fmt: skip
    """Write the attention of each edge and head: codes [edges, heads] uint8, or fp32 `values`.

    `source` and `target` are (address, segments, parameters, per_row) of packed node tensors; `vector` is
    the address of GATv2's attention [heads · head_lanes], or of AGNN's beta [1]. `table` is (scale, zero
    point, least code, levels). The scratch has room for two rows of `room` numbers and the scores of the
    longest row of edges.
    """
    source_codes, source_segments, source_parameters, source_per_row = source
    target_codes, target_segments, target_parameters, target_per_row = target
    scale, zero, least, levels = table[0], table[1], table[2], table[3]
    lanes = 1 if heads == 1 else (heads + VECTOR - 1) // VECTOR * VECTOR
    for part in prange(parts):
        here = scratch + get_thread_id() * apart
        other = here + 4 * room
        scores = other + 4 * room
        last = part_start(part + 1, parts, rows, pointers, step)
        for row in range(part_start(part, parts, rows, pointers, step), last):
            start, end = pointers[row * step], pointers[(row + 1) * step]
            count = end - start
            if count == 0:
                continue
            if kind == 0:
                # Rows of scores are held at 32 bits, one as long as the others: read where they lie.
                size = target_segments[0, 2]
                additive_scores(
                    count, columns, start, source_codes, target_codes + row * size, size, heads, lanes, slope,
                    scores,
                )  # fmt: skip
            else:
                unpack_row(target_codes, target_segments, target_parameters, target_per_row, row, here)
                for k in range(width, (width + VECTOR - 1) // VECTOR * VECTOR):
                    store_number(here, k, np.float32(0.0))
                for edge in range(count):
                    unpack_row(
                        source_codes, source_segments, source_parameters, source_per_row,
                        columns[start + edge], other,
                    )  # fmt: skip
                    at = scores + 4 * edge * lanes
                    if kind == 2:
                        score = lane.dot_lanes(head_lanes, other, here) * load_number(vector, 0)
                        store_number(at, 0, score)
                        continue
                    for h in range(heads):
                        shift = 4 * h * head_lanes
                        left, right = other + shift, here + shift
                        score = lane.dynamic_lanes(head_lanes, left, right, vector + shift, slope)
                        store_number(at, h, score)
            if heads == 1:
                softmax_edges(count, scores)
            else:
                softmax_heads(count, lanes, scores)
            first = start * heads
            if values.shape[0]:
                for edge in range(count):
                    for h in range(heads):
                        values[first + edge * heads + h] = load_number(scores, edge * lanes + h)
                continue
            whole = (count * lanes + VECTOR - 1) // VECTOR * VECTOR
            lane.round_lanes(whole, scores, scale, zero + least, least, levels)
            if lanes == heads:
                packed = count * lanes // VECTOR * VECTOR
                lane.write_8(packed, scores, coefficients.ctypes.data + first)
                for k in range(packed, count * lanes):
                    coefficients[first + k] = np.uint8(np.int32(load_number(scores, k)))
            else:
                for edge in range(count):
                    for h in range(heads):
                        code = load_number(scores, edge * lanes + h)
                        coefficients[first + edge * heads + h] = np.uint8(np.int32(code))


@row_function
def softmax_edges(count, scores):  # fmt: skip
    """Turn the scores [count] of one head into their softmax; the scratch goes on to whole vectors."""
    highest = np.float32(-3.0e38)
    for k in range(count):
        highest = max(highest, load_number(scores, k))
    whole = (count + VECTOR - 1) // VECTOR * VECTOR
    for k in range(count, whole):
        store_number(scores, k, np.float32(-3.0e38))
    lane.subtract_lanes(whole, scores, highest)
    lane.exponential_lanes(whole, scores)
    for k in range(count, whole):
        store_number(scores, k, np.float32(0.0))
    total = lane.sum_lanes(whole, scores) + np.float32(1e-16)
    lane.scale_lanes(whole, scores, np.float32(1.0) / total)
