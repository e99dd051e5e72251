"""The end of every kernel: one row of fp32 sums becomes a row of the result, while it is in the cache.

Scale and bias a channel, activation, then either fp32 values or codes packed into planes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sgq.runtime.kernels.cpu import lanes as lane
from sgq.runtime.kernels.cpu import row_codes
from sgq.runtime.kernels.cpu.compiling import row_function
from sgq.runtime.kernels.cpu.memory import load_long, load_number, store_number

FLOATS, SEGMENT, CHANNEL, ROW, STREAM = range(5)
MODES = {"segment": SEGMENT, "channel": CHANNEL, "row": ROW}
"""How codes share parameters; results in fp32 are FLOATS, or STREAM where they go past the caches."""
SLOPES = {"none": 1.0, "relu": 0.0}
"""Slopes below 0 that activations without one of their own stand for."""

WIDTH, LANES, MULTIPLY, ADD, ELU, MODE, OUT, CODES, SEGMENTS, COUNT = range(10)
NEUTRAL, PARAMETERS, ROW_PARAMETERS, RANGES, SLOPE, ALPHA, FIELDS = range(10, 17)
"""Fields of the record that `finish_row` takes, 64 bits each; SLOPE and ALPHA are fp32."""
ROWS, BITS, ROW_BYTES, FIRST_ROW, FIRST_BYTE, SEGMENT_FIELDS = range(6)
"""Fields of a segment, 64 bits each."""
LEAST, LEVELS, IN_FLOAT, SYMMETRIC, SIGNED, SCALE, ZERO_POINT, RANGE_FIELDS = range(8)
"""Fields of a segment's range, fp32."""
VECTORS, VECTOR_COUNT, VECTOR_LANES, HEAD_CHANNELS, SCORES, APART, HEADS = range(7)
"""Fields of the record that `score_row` takes, 64 bits each."""

TINY = np.float32(np.finfo(np.float32).tiny)
ZERO, ONE = np.float32(0.0), np.float32(1.0)


@row_function
def segment_field(segments: Any, s: Any, field: Any) -> Any:
    """Return a field of segment `s` of a table [segments, 5], an address."""
    return load_long(segments, SEGMENT_FIELDS * s + field)


@row_function
def segment_of(segments: Any, count: Any, row: Any) -> Any:
    """Return the segment that a row lies in."""
    s = 0
    while s < count - 1 and row >= segment_field(segments, s + 1, FIRST_ROW):
        s += 1
    return s


@row_function
def finish_row(here: Any, at: Any, factor: Any, offset: Any, finish: Any) -> None:
    """Turn the sums at address `here` into row `at` of the result; the scratch is spent.

    `offset` is subtracted from the whole row first, then `factor` multiplies it. `finish` is the address of
    a record; see the names of its fields.
    """
    settle_row(here, at, factor, offset, finish)
    encode_row(here, at, finish)


@row_function
def settle_row(here: Any, at: Any, factor: Any, offset: Any, finish: Any) -> None:
    """Do the first half of `finish_row`: all but codes, for which values and the row's range are left.

    A row's range takes a while to be found: where several rows are settled before they are encoded, that
    of one is found during the sums of the next.
    """
    width, mode = load_long(finish, WIDTH), load_long(finish, MODE)
    multiply, add, slope = load_long(finish, MULTIPLY), load_long(finish, ADD), load_number(finish, 2 * SLOPE)
    lanes, elu = load_long(finish, LANES), load_long(finish, ELU)
    if elu:
        row_codes.float_lanes(lanes, here, factor, offset, multiply, add, slope, here)
        lane.elu_lanes(lanes, here, load_number(finish, 2 * ALPHA))
        factor, offset = ONE, ZERO
        multiply = load_long(finish, NEUTRAL)
        add = multiply + 4 * lanes
    if mode in (FLOATS, STREAM):
        start = load_long(finish, OUT) + 4 * at * width
        whole = width // 8 * 8
        if mode == STREAM:
            row_codes.stream_lanes(whole, here, factor, offset, multiply, add, slope, start)
        else:
            row_codes.float_lanes(whole, here, factor, offset, multiply, add, slope, start)
        if whole < width:
            rest = here + 4 * whole
            row_codes.float_lanes(8, rest, factor, offset, multiply + 4 * whole, add + 4 * whole, slope, rest)
            for k in range(whole, width):
                store_number(start, k, load_number(here, k))
        return
    if mode != ROW:
        row_codes.float_lanes(lanes, here, factor, offset, multiply, add, slope, here)
        return
    low, high = row_codes.ranged_lanes(lanes, here, factor, offset, multiply, add, slope)
    s = segment_of(load_long(finish, SEGMENTS), load_long(finish, COUNT), at)
    ranges = load_long(finish, RANGES) + 4 * RANGE_FIELDS * s
    scale, zero_point = ONE, ZERO
    if load_number(ranges, IN_FLOAT) == ZERO:
        least, levels = load_number(ranges, LEAST), load_number(ranges, LEVELS)
        symmetric, signed = load_number(ranges, SYMMETRIC), load_number(ranges, SIGNED)
        scale, zero_point = row_range(low, high, least, levels, symmetric, signed)
    own = load_long(finish, ROW_PARAMETERS) + 8 * at
    store_number(own, 0, scale)
    store_number(own, 1, zero_point)


@row_function
def encode_row(here: Any, at: Any, finish: Any) -> None:
    """Do the second half of `finish_row`: write the codes of a settled row."""
    mode = load_long(finish, MODE)
    if mode in (FLOATS, STREAM):
        return
    segments = load_long(finish, SEGMENTS)
    s = segment_of(segments, load_long(finish, COUNT), at)
    bits, size = segment_field(segments, s, BITS), segment_field(segments, s, ROW_BYTES)
    first = load_long(finish, CODES) + segment_field(segments, s, FIRST_BYTE)
    start = first + (at - segment_field(segments, s, FIRST_ROW)) * size
    ranges = load_long(finish, RANGES) + 4 * RANGE_FIELDS * s
    if load_number(ranges, IN_FLOAT) != ZERO:
        lane.copy_lanes(size // 4, here, start)
        return
    least, levels = load_number(ranges, LEAST), load_number(ranges, LEVELS)
    scale, zero_point = load_number(ranges, SCALE), load_number(ranges, ZERO_POINT)
    own = load_long(finish, ROW_PARAMETERS) + 8 * at
    if mode == ROW:
        scale, zero_point = load_number(own, 0), load_number(own, 1)
        if bits == 32:
            store_number(own, 0, ONE)
            store_number(own, 1, ZERO)
    elif mode == CHANNEL:
        parameters = load_long(finish, PARAMETERS)
        for k in range(load_long(finish, WIDTH)):
            scale, zero_point = load_number(parameters, 2 * k), load_number(parameters, 2 * k + 1)
            code = np.rint(load_number(here, k) / scale + (zero_point + least)) - least
            code = min(max(code, ZERO), levels)
            store_number(here, k, (code - zero_point) * scale if bits == 32 else code)
        scale, zero_point, least = ONE, ZERO, ZERO
    shift = zero_point + least
    if bits == 8:
        row_codes.code_lanes_8(size, here, scale, shift, least, levels, start)
    elif bits == 4:
        row_codes.code_lanes_4(size, here, scale, shift, least, levels, start)
    elif bits == 2:
        row_codes.code_lanes_2(size, here, scale, shift, least, levels, start)
    elif bits == 1:
        row_codes.code_lanes_1(size, here, scale, shift, least, levels, start)
    else:
        if mode != CHANNEL:
            lanes = load_long(finish, LANES)
            lane.round_lanes(lanes, here, scale, shift, least, levels)
            lane.value_lanes(lanes, here, scale, zero_point)
        lane.copy_lanes(size // 4, here, start)


@row_function
def row_range(low: Any, high: Any, least: Any, levels: Any, symmetric: Any, signed: Any) -> Any:
    """Return (scale, zero point − least code) of a row's own range, as `affine_parameters` finds them."""
    if symmetric != 0.0:
        offset = np.float32(0.5) if signed != 0.0 and levels == 1.0 else ZERO
        largest = max(-low, high) if signed != 0.0 else high
        scale = largest / (least + levels - offset)
        if not scale >= TINY:
            return ONE, -least
        return scale, offset - least
    scale = (high - low) / levels
    if not scale >= TINY:
        scale = ONE
    zero_point = min(max(np.rint(-low / scale) + least, least), least + levels)
    return scale, zero_point - least


@row_function
def score_row(here: Any, at: Any, factor: Any, scores: Any) -> None:
    """Write the dot products of a row of sums, times `factor`, with each vector, head by head.

    `scores` is the address of a record: the vectors' address [count, heads, lanes], their count, lanes and
    channels a head, the address of the results [count, rows, heads], the numbers of each count, and the
    heads; past a head's channels its vectors are 0. An address of 0 asks for none.
    """
    if scores == 0:
        return
    vectors, lanes, heads = (
        load_long(scores, VECTORS),
        load_long(scores, VECTOR_LANES),
        load_long(scores, HEADS),
    )
    channels, values = load_long(scores, HEAD_CHANNELS), load_long(scores, SCORES)
    for n in range(load_long(scores, VECTOR_COUNT)):
        out = values + 4 * (n * load_long(scores, APART) + at * heads)
        for h in range(heads):
            total = lane.dot_lanes(lanes, here + 4 * h * channels, vectors)
            store_number(out, h, total * factor)
            vectors += 4 * lanes
