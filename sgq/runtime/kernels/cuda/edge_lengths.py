"""Lengths of edges: the distance of the rows at their ends, brought together over the edges into each row."""

from __future__ import annotations

import triton
import triton.language as tl

from sgq.runtime.kernels.cuda.attention import either_values
from sgq.runtime.kernels.cuda.finishing import finish_tile
from sgq.runtime.kernels.cuda.gathering import codes_of, edges_of


@triton.jit
def reduce_lengths(
    first, stride, pointers, columns, step, channels, codes, floats, table, parameters, multiply, addend, add,
    slope, out, first_row, out_stride, out_width, width, row_parameters, out_parameters, scale, zero, least,
    levels, divisor, offset,
    ACTIVATION: tl.constexpr, MODE: tl.constexpr, BITS: tl.constexpr, RANGE: tl.constexpr,
    SEGMENTS: tl.constexpr, HELD: tl.constexpr, PER: tl.constexpr, EXACT: tl.constexpr,
    REDUCTION: tl.constexpr, PLANES: tl.constexpr, LANES: tl.constexpr, CHANNELS: tl.constexpr,
    EDGES: tl.constexpr,
):  # fmt: skip
    """Bring the lengths of the edges into row `first` + program together, and finish them.

    Sums of squares of `EXACT` rows are those of codes, in 32-bit integers; others are in fp32. See
    `aggregation.REDUCTIONS`.
    """
    row = first + tl.program_id(0)
    own = row.to(tl.int64) + tl.arange(0, 1)
    from_lane = tl.arange(0, CHANNELS)
    from_channel = from_lane[None, :]
    from_inside = from_channel < channels
    if EXACT:
        target = codes_of(codes, floats, table, 0, own, own >= 0, from_channel, from_lane, from_inside, False,
            False, 1)  # fmt: skip
    else:
        segment = 0
        for s in range(1, SEGMENTS):
            segment += (row >= tl.load(table + 5 * s + 3)).to(tl.int32)
        target = either_values(codes, floats, table, parameters, segment, own, own >= 0, from_channel,
            from_lane, from_inside, HELD, PER, 1)  # fmt: skip
    # A length is not negative.
    best = tl.full([EDGES], float("inf") if REDUCTION == 3 else 0.0, tl.float32)
    count = 0
    for s in range(SEGMENTS):
        start, end = edges_of(pointers, step, row, s, SEGMENTS)
        count += end - start
        for at in range(start, end, EDGES):
            edge = at + tl.arange(0, EDGES)
            there = edge < end
            rows = tl.load(columns + edge, mask=there, other=0).to(tl.int64)
            if EXACT:
                apart = codes_of(codes, floats, table, 0, rows, there, from_channel, from_lane, from_inside,
                    False, False, 1)  # fmt: skip
                whole = tl.where(from_inside[None, :, :], apart - target, 0.0).to(tl.int32)
                squares = tl.sum(tl.sum(whole * whole, axis=2), axis=1).to(tl.float32)
            else:
                apart = target - either_values(codes, floats, table, parameters, s, rows, there, from_channel,
                    from_lane, from_inside, HELD, PER, 1)  # fmt: skip
                squares = tl.sum(tl.sum(apart * apart, axis=2), axis=1)
            length = tl.sqrt_rn(squares)
            if REDUCTION == 3:
                best = tl.minimum(best, tl.where(there, length, float("inf")))
            elif REDUCTION == 2:
                best = tl.maximum(best, tl.where(there, length, 0.0))
            else:
                best += tl.where(there, length, 0.0)
    if REDUCTION == 3:
        total = tl.where(count > 0, tl.min(best, axis=0), 0.0)
    elif REDUCTION == 2:
        total = tl.max(best, axis=0)
    else:
        total = tl.sum(best, axis=0)
        if REDUCTION == 1:
            total = total / tl.maximum(count, 1).to(tl.float32)
    if EXACT:
        total *= tl.load(parameters)
    lane = tl.arange(0, LANES)
    channel = tl.arange(0, PLANES)[:, None] * stride + lane[None, :]
    y = tl.where(channel == 0, total, 0.0)[None, :, :]
    finish_tile(y, own, own >= 0, channel, lane, stride, addend, multiply, add, slope, out, first_row,
        out_stride, out_width, width, row_parameters, out_parameters, scale, zero, least, levels, divisor,
        offset, ACTIVATION, MODE, BITS, RANGE, PLANES)  # fmt: skip
