"""Rows put together from others: blocks side by side, each a sum of multiples of packed or fp32 rows."""

from __future__ import annotations

from numba import get_thread_id, prange

from sgq.runtime.kernels.cpu import lanes as lane
from sgq.runtime.kernels.cpu import term_lanes as terms_of
from sgq.runtime.kernels.cpu.compiling import parallel_kernel, row_function
from sgq.runtime.kernels.cpu.finishing import (
    BITS,
    ONE,
    ROW_BYTES,
    ZERO,
    encode_row,
    segment_field,
    segment_of,
    settle_row,
)
from sgq.runtime.kernels.cpu.memory import load_long, load_number
from sgq.runtime.kernels.cpu.unpacking import row_start

ROW_BLOCK = 32
CODES, SEGMENTS, COUNT, PARAMETERS, PER_ROW, BY_CHANNEL, ROOM, OFFSET, WIDTH, KEPT, FACTOR, FIELDS = range(12)
"""Fields of a term's record, 64 bits each: where its codes, segments and parameters are; the address of its
channels' scales, times the factor, and zero points [2, room], or 0; its place in the row; whether it is added
to what is there (−1) or is the first (0). FACTOR is fp32."""


@row_function
def add_term(term, row, here):  # fmt: skip
    """Add a term's row to the sums at an address; the first term of a block sets them."""
    codes, segments = load_long(term, CODES), load_long(term, SEGMENTS)
    s = segment_of(segments, load_long(term, COUNT), row)
    bits, size = segment_field(segments, s, BITS), segment_field(segments, s, ROW_BYTES)
    start, kept = row_start(codes, segments, s, row), load_long(term, KEPT)
    out = here + 4 * load_long(term, OFFSET)
    factor, by_channel = load_number(term, 2 * FACTOR), load_long(term, BY_CHANNEL)
    if bits == 32:
        terms_of.add_values(load_long(term, WIDTH), start, factor, kept, out)
    elif by_channel:
        zeros = by_channel + 4 * load_long(term, ROOM)
        if bits == 8:
            terms_of.add_channels_8(size, start, by_channel, zeros, kept, out)
        elif bits == 4:
            terms_of.add_channels_4(size, start, by_channel, zeros, kept, out)
        elif bits == 2:
            terms_of.add_channels_2(size, start, by_channel, zeros, kept, out)
        else:
            terms_of.add_channels_1(size, start, by_channel, zeros, kept, out)
    else:
        pair = load_long(term, PARAMETERS) + 8 * (row if load_long(term, PER_ROW) else s)
        scale, zero = load_number(pair, 0) * factor, load_number(pair, 1)
        if bits == 8:
            terms_of.add_8(size, start, scale, zero, kept, out)
        elif bits == 4:
            terms_of.add_4(size, start, scale, zero, kept, out)
        elif bits == 2:
            terms_of.add_2(size, start, scale, zero, kept, out)
        else:
            terms_of.add_1(size, start, scale, zero, kept, out)


@parallel_kernel
def assemble_rows(rows, terms, count, width, lanes, scratch, apart, room, finish):  # fmt: skip
    """Put each row together from its terms, block after block, and finish it.

    `terms` is the address of `count` records; see the names of their fields. A term may write past its block,
    where the next one begins: that one's first term sets what it takes. Rows take turns in two rooms.
    """
    for block in prange((rows + ROW_BLOCK - 1) // ROW_BLOCK):
        base = scratch + get_thread_id() * apart
        first, last = block * ROW_BLOCK, min(rows, (block + 1) * ROW_BLOCK)
        for row in range(first, last):
            here = base + 4 * room * (row & 1)
            for t in range(count):
                add_term(terms + 8 * FIELDS * t, row, here)
            lane.fill_lanes(lanes - width // 8 * 8, here + 4 * width, ZERO)
            settle_row(here, row, ONE, ZERO, finish)
            if row > first:
                encode_row(base + 4 * room * ((row - 1) & 1), row - 1, finish)
        if last > first:
            encode_row(base + 4 * room * ((last - 1) & 1), last - 1, finish)
