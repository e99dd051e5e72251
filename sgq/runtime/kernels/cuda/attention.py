"""Attention over CSR: scores of edges, softmax over the edges into each node, and their codes.

A program makes the edges into one node. Scores are computed twice, for the sum and for the result, rather
than kept.
"""

from __future__ import annotations

import triton
import triton.language as tl

from sgq.runtime.kernels.cuda.finishing import rounded
from sgq.runtime.kernels.cuda.gathering import edges_of, values_of

KINDS = {"additive": 0, "dynamic": 1, "cosine": 2}
"""GAT's scores (source + target), GATv2's (attention of source and target together), AGNN's (dot product)."""


@triton.jit
def either_values(
    codes, floats, table, parameters, s, rows, there, channel, lane, inside, HELD: tl.constexpr,
    PER: tl.constexpr, HEADS: tl.constexpr,
):  # fmt: skip
    """Return the values of rows of segment s, whether in codes or fp32: [rows, heads, channels]."""
    if HELD == 3:
        if tl.load(table + 5 * s + 1) == 32:
            values = values_of(codes, floats, table, parameters, s, rows, there, channel, lane, inside, True,
                False, PER, HEADS)  # fmt: skip
        else:
            values = values_of(codes, floats, table, parameters, s, rows, there, channel, lane, inside, False,
                False, PER, HEADS)  # fmt: skip
    else:
        values = values_of(codes, floats, table, parameters, s, rows, there, channel, lane, inside, HELD == 2,
            False, PER, HEADS)  # fmt: skip
    return tl.where(inside[None, :, :], values, 0.0)


@triton.jit
def scores_of(
    target, edge, there, columns, codes, floats, table, parameters, s, vector, slope, channel, lane, inside,
    KIND: tl.constexpr, HELD: tl.constexpr, PER: tl.constexpr, HEADS: tl.constexpr,
):  # fmt: skip
    """Return the scores of edges [edges] and heads; −∞ where there is no edge."""
    rows = tl.load(columns + edge, mask=there, other=0).to(tl.int64)
    source = either_values(
        codes, floats, table, parameters, s, rows, there, channel, lane, inside, HELD, PER, HEADS
    )
    if KIND == 2:
        scores = tl.sum(source * target, axis=2) * tl.load(vector)
    else:
        both = source + target
        both = tl.maximum(both, 0.0) + slope * tl.minimum(both, 0.0)
        if KIND == 1:
            both *= tl.load(vector + channel, mask=inside, other=0.0)[None, :, :]
        scores = tl.sum(both, axis=2)
    return tl.where(there[:, None], scores, -float("inf"))


@triton.jit
def edge_attention(
    pointers, columns, step, codes, floats, table, parameters, target_codes, target_floats, target_table,
    target_parameters, vector, slope, heads, per_head, out, scale, zero, least, levels,
    KIND: tl.constexpr, SEGMENTS: tl.constexpr, HELD: tl.constexpr, PER: tl.constexpr,
    TARGET_SEGMENTS: tl.constexpr, TARGET_HELD: tl.constexpr, TARGET_PER: tl.constexpr,
    QUANTIZED: tl.constexpr, HEADS: tl.constexpr, CHANNELS: tl.constexpr, EDGES: tl.constexpr,
):  # fmt: skip
    """Write the attention of the edges into row `program`, a head each: codes [edges, heads] uint8, or fp32.

    `vector` is GATv2's attention [heads · per_head], or AGNN's [1]. Codes have one scale and zero point.
    """
    row = tl.program_id(0)
    head, lane = tl.arange(0, HEADS), tl.arange(0, CHANNELS)
    channel = head[:, None] * per_head + lane[None, :]
    inside = (head < heads)[:, None] & (lane < per_head)[None, :]
    own = row.to(tl.int64) + tl.arange(0, 1)
    segment = 0
    for s in range(1, TARGET_SEGMENTS):
        segment += (row >= tl.load(target_table + 5 * s + 3)).to(tl.int32)
    target = either_values(target_codes, target_floats, target_table, target_parameters, segment, own,
        own >= 0, channel, lane, inside, TARGET_HELD, TARGET_PER, HEADS)  # fmt: skip
    best = tl.full([HEADS], -float("inf"), tl.float32)
    total = tl.zeros([HEADS], tl.float32)
    for s in range(SEGMENTS):
        start, end = edges_of(pointers, step, row, s, SEGMENTS)
        for at in range(start, end, EDGES):
            edge = at + tl.arange(0, EDGES)
            scores = scores_of(target, edge, edge < end, columns, codes, floats, table, parameters, s, vector,
                slope, channel, lane, inside, KIND, HELD, PER, HEADS)  # fmt: skip
            higher = tl.maximum(best, tl.max(scores, axis=0))
            total = total * tl.exp(best - higher) + tl.sum(tl.exp(scores - higher[None, :]), axis=0)
            best = higher
    share = 1.0 / (total + 1e-16)
    for s in range(SEGMENTS):
        start, end = edges_of(pointers, step, row, s, SEGMENTS)
        for at in range(start, end, EDGES):
            edge = at + tl.arange(0, EDGES)
            there = edge < end
            scores = scores_of(target, edge, there, columns, codes, floats, table, parameters, s, vector,
                slope, channel, lane, inside, KIND, HELD, PER, HEADS)  # fmt: skip
            weights = tl.exp(scores - best[None, :]) * share[None, :]
            place = out + edge.to(tl.int64)[:, None] * heads + head[None, :]
            mask = there[:, None] & (head < heads)[None, :]
            if QUANTIZED:
                shifted = tl.div_rn(weights, tl.zeros_like(weights) + scale) + (zero + least)
                code = rounded(shifted, least, least + levels) - least
                tl.store(place, code.to(tl.int32).to(tl.uint8), mask=mask)
            else:
                tl.store(place, weights, mask=mask)
