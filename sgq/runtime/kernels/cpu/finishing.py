"""The end of every kernel: one row of fp32 sums becomes a row of the result, while it is in the cache.

Scale and bias a channel, activation, then either fp32 values or codes packed into planes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import types
from numba.extending import intrinsic

from sgq.runtime.kernels.cpu import lanes as row
from sgq.runtime.kernels.cpu.compiling import row_function

MODES = {"segment": 1, "channel": 2, "row": 3}
"""How codes share parameters, as `finish_row` takes it; 0 is for results in fp32."""
ACTIVATIONS = {"none": 0, "relu": 1, "leaky_relu": 2, "elu": 3}

TINY = np.float32(np.finfo(np.float32).tiny)


@intrinsic
def store_number(typing: Any, address: Any, at: Any, value: Any) -> Any:
    """Store one fp32 number at an index from an address."""
    from sgq.runtime.kernels.cpu import vectors as v

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        place = b.gep(v.at_address(b, arguments[0], v.F32), [arguments[1]])
        b.store(arguments[2], place)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.float32), generate


@intrinsic
def load_number(typing: Any, address: Any, at: Any) -> Any:
    """Load one fp32 number at an index from an address."""
    from sgq.runtime.kernels.cpu import vectors as v

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        return b.load(b.gep(v.at_address(b, arguments[0], v.F32), [arguments[1]]))

    return types.float32(types.int64, types.int64), generate


@row_function
def finish_row(here: Any, at: Any, factor: Any, finish: Any) -> None:
    """Turn the sums at address `here` into row `at` of the result; the scratch is spent.

    `factor` multiplies the whole row first.
    """
    (width, lanes, multiply, add, activation, slope, mode, out, codes, segments, parameters, row_parameters,
     ranges) = finish  # fmt: skip
    row.affine_lanes(lanes, here, factor, multiply, add)
    if activation == 1:
        row.relu_lanes(lanes, here)
    elif activation == 2:
        row.leaky_lanes(lanes, here, slope)
    elif activation == 3:
        row.elu_lanes(lanes, here, slope)
    if mode == 0:
        whole = width // 8 * 8
        start = out + 4 * at * width
        row.copy_lanes(whole, here, start)
        for k in range(whole, width):
            store_number(start, k, load_number(here, k))
        return
    s = 0
    while s < segments.shape[0] - 1 and at >= segments[s + 1, 3]:
        s += 1
    bits, size = segments[s, 1], segments[s, 2]
    start = codes + segments[s, 4] + (at - segments[s, 3]) * size
    least, levels = ranges[s, 0], ranges[s, 1]
    if ranges[s, 2] != 0.0:
        if mode == 3:
            store_number(row_parameters, 2 * at, np.float32(1.0))
            store_number(row_parameters, 2 * at + 1, np.float32(0.0))
    elif mode == 2:
        for k in range(width):
            scale, zero_point = load_number(parameters, 2 * k), load_number(parameters, 2 * k + 1)
            code = np.rint(load_number(here, k) / scale + (zero_point + least)) - least
            code = min(max(code, np.float32(0.0)), levels)
            store_number(here, k, (code - zero_point) * scale if bits == 32 else code)
    else:
        scale, zero_point = ranges[s, 5], ranges[s, 6]
        if mode == 3:
            low, high = row.least_lanes(lanes, here), row.most_lanes(lanes, here)
            scale, zero_point = row_range(low, high, least, levels, ranges[s, 3], ranges[s, 4])
            store_number(row_parameters, 2 * at, np.float32(1.0) if bits == 32 else scale)
            store_number(row_parameters, 2 * at + 1, np.float32(0.0) if bits == 32 else zero_point)
        row.round_lanes(lanes, here, scale, zero_point + least, least, levels)
        if bits == 32:
            row.value_lanes(lanes, here, scale, zero_point)
    if bits == 8:
        row.write_8(size, here, start)
    elif bits == 4:
        row.write_4(size, here, start)
    elif bits == 2:
        row.write_2(size, here, start)
    elif bits == 1:
        row.write_1(size, here, start)
    else:
        row.copy_lanes(size // 4, here, start)


@row_function
def row_range(low: Any, high: Any, least: Any, levels: Any, symmetric: Any, signed: Any) -> Any:
    """Return (scale, zero point − least code) of a row's own range, as `affine_parameters` finds them."""
    if symmetric != 0.0:
        offset = np.float32(0.5) if signed != 0.0 and levels == 1.0 else np.float32(0.0)
        largest = max(-low, high) if signed != 0.0 else high
        scale = largest / (least + levels - offset)
        if not scale >= TINY:
            return np.float32(1.0), -least
        return scale, offset - least
    scale = (high - low) / levels
    if not scale >= TINY:
        scale = np.float32(1.0)
    zero_point = min(max(np.rint(-low / scale) + least, least), least + levels)
    return scale, zero_point - least


@row_function
def score_row(here: Any, at: Any, factor: Any, scores: Any) -> None:
    """Write the dot products of a row of sums, times `factor`, with each vector, head by head.

    `scores` are the vectors' address [count, heads, lanes], their count, lanes and channels a head, the
    address of the results, and the heads; past a head's channels its vectors are 0.
    """
    vectors, count, lanes, channels, values, heads = scores
    for n in range(count):
        for h in range(heads):
            vector = vectors + 4 * (n * heads + h) * lanes
            total = row.dot_lanes(lanes, here + 4 * h * channels, vector)
            store_number(values, (at * count + n) * heads + h, total * factor)
