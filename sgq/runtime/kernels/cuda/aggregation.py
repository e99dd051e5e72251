"""Aggregation over CSR from packed rows: sum, mean, extremes, weighted by edge or by edge and head.

A program makes one row, or some lanes of it, and reads the rows of several edges at a time.
"""

from __future__ import annotations

import triton
import triton.language as tl

from sgq.runtime.kernels.cuda.finishing import finish_tile, write_scores
from sgq.runtime.kernels.cuda.gathering import edges_of, values_of

REDUCTIONS = {"sum": 0, "mean": 1, "max": 2, "min": 3}
WEIGHTS = {"none": 0, "edge": 1, "head": 2}


@triton.jit
def gather_edges(
    best, start, end, columns, codes, floats, table, parameters, s, weights, weight_stride, weight_zero,
    weight_scale, head, channel, lane, inside, FLOATS: tl.constexpr, UNIFORM: tl.constexpr, PER: tl.constexpr,
    WEIGHT: tl.constexpr, REDUCTION: tl.constexpr, PLANES: tl.constexpr, EDGES: tl.constexpr,
):  # fmt: skip
    """Bring the rows of edges start … end − 1, of segment s, into `best` [edges at a time, planes, lanes]."""
    for at in range(start, end, EDGES):
        edge = at + tl.arange(0, EDGES)
        there = edge < end
        rows = tl.load(columns + edge, mask=there, other=0).to(tl.int64)
        values = values_of(codes, floats, table, parameters, s, rows, there, channel, lane, inside, FLOATS,
            UNIFORM, PER, PLANES)  # fmt: skip
        if WEIGHT == 1:
            weight = tl.load(weights + edge * weight_stride, mask=there, other=0).to(tl.float32)
            values *= ((weight - weight_zero) * weight_scale)[:, None, None]
        elif WEIGHT == 2:
            place = edge.to(tl.int64)[:, None, None] * weight_stride + head[None, :, :]
            mask = there[:, None, None] & inside[None, :, :]
            weight = tl.load(weights + place, mask=mask, other=0).to(tl.float32)
            values *= (weight - weight_zero) * weight_scale
        if REDUCTION == 2:
            best = tl.maximum(best, tl.where(there[:, None, None], values, -float("inf")))
        elif REDUCTION == 3:
            best = tl.minimum(best, tl.where(there[:, None, None], values, float("inf")))
        else:
            best += tl.where(there[:, None, None], values, 0.0)
    return best


@triton.jit
def aggregate_rows(
    first, stride, pointers, columns, step, codes, floats, table, parameters, weights, weight_stride,
    weight_pairs, weight_pair_stride, head_channels, column_scale, vectors, score_values, score_count,
    score_heads, score_apart, addend, multiply, add, slope, out, first_row, out_stride, out_width, width,
    row_parameters, out_parameters, scale, zero, least, levels, divisor, offset,
    ACTIVATION: tl.constexpr, MODE: tl.constexpr, BITS: tl.constexpr, RANGE: tl.constexpr,
    SEGMENTS: tl.constexpr, HELD: tl.constexpr, UNIFORM: tl.constexpr, PER: tl.constexpr,
    WEIGHT: tl.constexpr, REDUCTION: tl.constexpr, PLANES: tl.constexpr, LANES: tl.constexpr,
    EDGES: tl.constexpr,
):  # fmt: skip
    """Bring the rows of the edges into row `first` + program together, and finish them.

    A weight is (number − zero) · scale: `weights` at edge · `weight_stride`, plus the head where `WEIGHT` is
    2, with the (scale, zero) pair at row · `weight_pair_stride`. `column_scale` [width] scales sums before
    their scores.
    """
    row = first + tl.program_id(0)
    lane = tl.program_id(1) * LANES + tl.arange(0, LANES)
    channel = tl.arange(0, PLANES)[:, None] * stride + lane[None, :]
    inside = (lane < stride)[None, :] & (channel < width)
    head = channel // head_channels
    weight_scale, weight_zero = 1.0, 0.0
    if WEIGHT != 0:
        pair = weight_pairs + row.to(tl.int64) * weight_pair_stride
        weight_scale, weight_zero = tl.load(pair), tl.load(pair + 1)
    if REDUCTION == 2:
        best = tl.full([EDGES, PLANES, LANES], -float("inf"), tl.float32)
    elif REDUCTION == 3:
        best = tl.full([EDGES, PLANES, LANES], float("inf"), tl.float32)
    else:
        best = tl.zeros([EDGES, PLANES, LANES], tl.float32)
    count = 0
    for s in range(SEGMENTS):
        start, end = edges_of(pointers, step, row, s, SEGMENTS)
        count += end - start
        if HELD == 3:
            if tl.load(table + 5 * s + 1) == 32:
                best = gather_edges(best, start, end, columns, codes, floats, table, parameters, s, weights,
                    weight_stride, weight_zero, weight_scale, head, channel, lane, inside, True, False, PER,
                    WEIGHT, REDUCTION, PLANES, EDGES)  # fmt: skip
            else:
                best = gather_edges(best, start, end, columns, codes, floats, table, parameters, s, weights,
                    weight_stride, weight_zero, weight_scale, head, channel, lane, inside, False, UNIFORM,
                    PER, WEIGHT, REDUCTION, PLANES, EDGES)  # fmt: skip
        else:
            best = gather_edges(best, start, end, columns, codes, floats, table, parameters, s, weights,
                weight_stride, weight_zero, weight_scale, head, channel, lane, inside, HELD == 2, UNIFORM,
                PER, WEIGHT, REDUCTION, PLANES, EDGES)  # fmt: skip
    if REDUCTION == 2:
        sums = tl.where(count > 0, tl.max(best, axis=0), 0.0)
    elif REDUCTION == 3:
        sums = tl.where(count > 0, tl.min(best, axis=0), 0.0)
    else:
        sums = tl.sum(best, axis=0)
        if REDUCTION == 1:
            sums = sums / tl.maximum(count, 1).to(tl.float32)
    if column_scale is not None:
        sums *= tl.load(column_scale + channel, mask=inside, other=0.0)
    y = sums[None, :, :]
    rows = row.to(tl.int64) + tl.arange(0, 1)
    there = rows >= 0
    if vectors is not None:
        write_scores(
            y,
            rows,
            there,
            channel,
            inside,
            vectors,
            score_values,
            score_count,
            score_heads,
            score_apart,
            width,
        )
    finish_tile(y, rows, there, channel, lane, stride, addend, multiply, add, slope, out, first_row,
        out_stride, out_width, width, row_parameters, out_parameters, scale, zero, least, levels, divisor,
        offset, ACTIVATION, MODE, BITS, RANGE, PLANES)  # fmt: skip
