"""The rows of a cloud that are nearest to each of its rows: a program a row, without a matrix of distances.

A key is a distance above, a row below: keys in order are neighbours by distance, then by index.
"""

from __future__ import annotations

import triton
import triton.language as tl

from sgq.runtime.kernels.cuda.gathering import codes_of, values_of

LAST_KEY = tl.constexpr(2**63 - 1)
LARGEST = tl.constexpr(2**31 - 2)


@triton.jit
def nearest_rows(
    size, k, width, codes, floats, table, parameters, pointers, columns,
    FLOATS: tl.constexpr, PER: tl.constexpr, EXACT: tl.constexpr, KEPT: tl.constexpr, COLUMNS: tl.constexpr,
    CHANNELS: tl.constexpr,
):  # fmt: skip
    """Write the k nearest rows of row `program`, of its own cloud of `size` rows, in order.

    Distances of `EXACT` rows are those of codes, in 32-bit integers; others are in fp32.
    """
    row = tl.program_id(0)
    first = row // size * size
    own = row.to(tl.int64) + tl.arange(0, 1)
    lane, place = tl.arange(0, CHANNELS), tl.arange(0, KEPT)
    kept = tl.full([KEPT], LAST_KEY, tl.int64)
    for at in range(0, size, COLUMNS):
        column = at + tl.arange(0, COLUMNS)
        there = column < size
        rows = (first + column).to(tl.int64)
        distances = tl.zeros([COLUMNS], tl.int32 if EXACT else tl.float32)
        for start in range(0, width, CHANNELS):
            channel = start + lane[None, :]
            inside = channel < width
            if EXACT:
                apart = codes_of(codes, floats, table, 0, rows, there, channel, lane, inside, False, False, 1)
                apart -= codes_of(codes, floats, table, 0, own, own >= 0, channel, lane, inside, False, False,
                    1)  # fmt: skip
                whole = tl.where(inside[None, :, :], apart, 0.0).to(tl.int32)
                distances += tl.sum(tl.sum(whole * whole, axis=2), axis=1)
            else:
                apart = values_of(codes, floats, table, parameters, 0, rows, there, channel, lane, inside,
                    FLOATS, False, PER, 1)  # fmt: skip
                apart -= values_of(codes, floats, table, parameters, 0, own, own >= 0, channel, lane, inside,
                    FLOATS, False, PER, 1)  # fmt: skip
                apart = tl.where(inside[None, :, :], apart, 0.0)
                distances += tl.sum(tl.sum(apart * apart, axis=2), axis=1)
        bits = distances
        if not EXACT:
            bits = tl.minimum(distances.to(tl.int32, bitcast=True) & 0x7FFFFFFF, LARGEST)
        keys = tl.where(there, (bits.to(tl.int64) << 32) | rows, LAST_KEY)
        merged = tl.full([KEPT], LAST_KEY, tl.int64)
        last = tl.full([1], -1, tl.int64)
        for n in range(k):
            nearer = tl.min(tl.where(kept > last, kept, LAST_KEY), axis=0)
            last = tl.minimum(nearer, tl.min(tl.where(keys > last, keys, LAST_KEY), axis=0)) + tl.zeros(
                [1], tl.int64
            )
            merged = tl.where(place == n, last, merged)
        kept = merged
    edge = row.to(tl.int64) * k
    tl.store(columns + edge + place, kept.to(tl.int32), mask=place < k)
    tl.store(pointers + row, edge.to(tl.int32))
