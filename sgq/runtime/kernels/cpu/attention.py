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
from sgq.runtime.kernels.cpu.finishing import ONE, ZERO
from sgq.runtime.kernels.cpu.memory import load_int, load_number, store_byte, store_number
from sgq.runtime.kernels.cpu.unpacking import unpack_row
from sgq.runtime.packed import VECTOR

KINDS = {"additive": 0, "dynamic": 1, "cosine": 2}
"""GAT's scores (source + target), GATv2's (attention of source and target together), AGNN's (dot product)."""

ROW_BLOCK = 256


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
def additive_scores(count, columns, source, here, size, heads, lanes, slope, scores):  # fmt: skip
    """Write LeakyReLU(source + target) of each edge; `here` is the target's row of scores."""
    if heads > 1:
        for edge in range(count):
            other = source + size * load_int(columns, edge)
            lane.additive_lanes(lanes, other, here, scores + 4 * edge * lanes, slope)
        return
    own = load_number(here, 0)
    for edge in range(count):
        score = load_number(source + size * load_int(columns, edge), 0) + own
        store_number(scores, edge, max(score, ZERO) + slope * min(score, ZERO))


@parallel_kernel
def edge_attention(
    parts, kind, rows, sources, columns, pointers, step, source, target, unpacked, heads, width,
    head_lanes, vector, slope, scale, zero, least, levels, scratch, apart, room, coefficients, in_float,
):  # fmt: skip
    """Write the attention of each edge and head at `coefficients`: codes [edges, heads] uint8, or fp32.

    `source` and `target` are (codes, segments, their count, parameters, per_row) of packed node tensors;
    `vector` is the address of GATv2's attention [heads · head_lanes], or of AGNN's beta [1]. The scratch has
    room for two rows of `room` numbers and the scores of the longest row of edges. Additive scores, of which
    there are as many as sources on either side, are unpacked at `unpacked` [2, sources, room] first.
    """
    source_codes, source_segments, source_count, source_parameters, source_per_row = source
    target_codes, target_segments, target_count, target_parameters, target_per_row = target
    lanes = 1 if heads == 1 else (heads + VECTOR - 1) // VECTOR * VECTOR
    size = 4 * room
    of_targets = unpacked + size * sources
    blocks = (sources + ROW_BLOCK - 1) // ROW_BLOCK if kind == 0 else 0
    for block in prange(blocks):
        for row in range(block * ROW_BLOCK, min(sources, block * ROW_BLOCK + ROW_BLOCK)):
            unpack_row(source_codes, source_segments, source_count, source_parameters, source_per_row,
                row, unpacked + row * size)  # fmt: skip
            unpack_row(target_codes, target_segments, target_count, target_parameters, target_per_row,
                row, of_targets + row * size)  # fmt: skip
    for part in prange(parts):
        here = scratch + get_thread_id() * apart
        other = here + 4 * room
        scores = other + 4 * room
        last = part_start(part + 1, parts, rows, pointers, step)
        for row in range(part_start(part, parts, rows, pointers, step), last):
            start = load_int(pointers, row * step)
            count = load_int(pointers, (row + 1) * step) - start
            if count == 0:
                continue
            neighbours = columns + 4 * start
            if kind == 0:
                own = of_targets + row * size
                additive_scores(count, neighbours, unpacked, own, size, heads, lanes, slope, scores)
            else:
                unpack_row(target_codes, target_segments, target_count, target_parameters, target_per_row,
                    row, here)  # fmt: skip
                for k in range(width, (width + VECTOR - 1) // VECTOR * VECTOR):
                    store_number(here, k, ZERO)
                for edge in range(count):
                    unpack_row(source_codes, source_segments, source_count, source_parameters,
                        source_per_row, load_int(neighbours, edge), other)  # fmt: skip
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
            if in_float:
                for edge in range(count):
                    for h in range(heads):
                        score = load_number(scores, edge * lanes + h)
                        store_number(coefficients, first + edge * heads + h, score)
                continue
            whole = (count * lanes + VECTOR - 1) // VECTOR * VECTOR
            lane.round_lanes(whole, scores, scale, zero + least, least, levels)
            if lanes == heads:
                lane.byte_lanes(count * lanes // VECTOR * VECTOR, scores, coefficients + first)
                rest = count * lanes // VECTOR * VECTOR
                for k in range(rest, count * lanes):
                    store_byte(coefficients, first + k, np.int64(load_number(scores, k)))
            else:
                for edge in range(count):
                    for h in range(heads):
                        code = np.int64(load_number(scores, edge * lanes + h))
                        store_byte(coefficients, first + edge * heads + h, code)


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
        store_number(scores, k, ZERO)
    total = lane.sum_lanes(whole, scores) + np.float32(1e-16)
    lane.scale_lanes(whole, scores, ONE / total)
