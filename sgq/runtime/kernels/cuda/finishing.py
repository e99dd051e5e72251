"""The end of every kernel: a tile of fp32 sums becomes rows of the result while it is in registers.

A tile is [rows, planes, lanes], and lane k of plane p is channel p · stride + k: the planes of a packed row
lie side by side, so that packing is a sum over planes, and results in fp32 take any such tile.
"""

from __future__ import annotations

import triton
import triton.language as tl

MODES = {"segment": 1, "channel": 2, "row": 3}
"""How codes share parameters, as `finish_tile` takes it; 0 is for results in fp32."""
ACTIVATIONS = {"none": 0, "relu": 1, "leaky_relu": 2, "elu": 3}
RANGES = {"asymmetric": 0, "symmetric": 1, "symmetric_unsigned": 2}

ROUNDER = tl.constexpr(12582912.0)  # 1.5 · 2^23: added and taken away, it rounds |x| < 2^22, half to even
TINY = tl.constexpr(1.1754943508222875e-38)  # the least normal fp32


@triton.jit
def rounded(x, least, most):
    """Return x rounded half to even, within whole bounds of at most 17 bits."""
    x = tl.minimum(tl.maximum(x, least - 1.0), most + 1.0)
    x = (x + ROUNDER) - ROUNDER
    return tl.minimum(tl.maximum(x, least), most)


@triton.jit
def activated(y, slope, ACTIVATION: tl.constexpr):
    """Return an activation's values."""
    if ACTIVATION == 1:
        y = tl.maximum(y, 0.0)
    elif ACTIVATION == 2:
        y = tl.maximum(y, 0.0) + slope * tl.minimum(y, 0.0)
    elif ACTIVATION == 3:
        x = tl.minimum(y, 0.0)
        # e^x − 1 by its series where the difference would cancel.
        series = x * (
            1.0 + x * (0.5 + x * (0.16666667 + x * (0.041666668 + x * (0.008333334 + x * 0.0013888889))))
        )
        y = tl.maximum(y, 0.0) + slope * tl.where(x > -0.25, series, tl.exp(x) - 1.0)
    return y


@triton.jit
def row_range(y, least, levels, divisor, offset, RANGE: tl.constexpr):
    """Return (scale, zero point − least code) of each row's own range, as `affine_parameters` finds them."""
    low = tl.minimum(tl.min(tl.min(y, axis=2), axis=1), 0.0)
    high = tl.maximum(tl.max(tl.max(y, axis=2), axis=1), 0.0)
    if RANGE == 0:
        span = high - low
    elif RANGE == 1:
        span = tl.maximum(-low, high)
    else:
        span = high
    scale = tl.div_rn(span, tl.zeros_like(span) + divisor)
    usable = scale >= TINY
    scale = tl.where(usable, scale, 1.0)
    if RANGE == 0:
        zero = rounded(tl.div_rn(-low, scale), 0.0, levels)
    else:
        zero = tl.where(usable, offset, 0.0) - least
    return scale, zero


@triton.jit
def write_scores(y, rows, there, channel, inside, vectors, values, count, heads, apart, width):
    """Write the dot products of rows with `count` vectors [width], head by head, [rows, heads] for each.

    `apart` is the distance between the numbers of two vectors.
    """
    head = channel // (width // heads)
    for n in range(count):
        vector = tl.load(vectors + n * width + channel, mask=inside, other=0.0)
        products = y * vector[None, :, :]
        for h in range(heads):
            own = tl.where((inside & (head == h))[None, :, :], products, 0.0)
            total = tl.sum(tl.sum(own, axis=2), axis=1)
            tl.store(values + n * apart + rows * heads + h, total, mask=there)


@triton.jit
def finish_tile(
    y, rows, there, channel, lane, stride, addend, multiply, add, slope, out, first_row, out_stride,
    out_width, width, row_parameters, parameters, scale, zero, least, levels, divisor, offset,
    ACTIVATION: tl.constexpr, MODE: tl.constexpr, BITS: tl.constexpr, RANGE: tl.constexpr,
    PLANES: tl.constexpr,
):  # fmt: skip
    """Scale, shift, activate and round a tile of rows [rows] (where `there`), and write it at `out`.

    `channel` [planes, lanes] and `lane` [lanes] say which channels; `out` begins at row `first_row`, in fp32
    where `BITS` is 32, with `out_stride` numbers or bytes a row. The padding of rows is written as 0.
    """
    real = lane < stride
    inside = real[None, :] & (channel < width)
    if multiply is not None:
        y *= tl.load(multiply + channel, mask=inside, other=0.0)[None, :, :]
    if addend is not None:
        at = rows[:, None, None] * width + channel[None, :, :]
        y += tl.load(addend + at, mask=there[:, None, None] & inside[None, :, :], other=0.0)
    if add is not None:
        y += tl.load(add + channel, mask=inside, other=0.0)[None, :, :]
    y = tl.where(inside[None, :, :], activated(y, slope, ACTIVATION), 0.0)
    if MODE != 0:
        if MODE == 2:
            scale = tl.load(parameters + 2 * channel, mask=inside, other=1.0)[None, :, :]
            zero = tl.load(parameters + 2 * channel + 1, mask=inside, other=0.0)[None, :, :]
        elif MODE == 3:
            own_scale, own_zero = row_range(y, least, levels, divisor, offset, RANGE)
            # Rows held in fp32 are values: they get parameters that leave them so.
            pair = row_parameters + 2 * rows
            tl.store(pair, tl.zeros_like(own_scale) + 1.0 if BITS == 32 else own_scale, mask=there)
            tl.store(pair + 1, tl.zeros_like(own_zero) if BITS == 32 else own_zero, mask=there)
            scale, zero = own_scale[:, None, None], own_zero[:, None, None]
        y = rounded(tl.div_rn(y, tl.zeros_like(y) + scale) + (zero + least), least, least + levels) - least
        if BITS == 32:
            y = (y - zero) * scale
        y = tl.where(inside[None, :, :], y, 0.0)
    start = (rows - first_row) * out_stride
    if BITS == 32:
        kept_here = real[None, :] & (channel < out_width)
        mask = there[:, None, None] & kept_here[None, :, :]
        tl.store(out + start[:, None, None] + channel[None, :, :], y, mask=mask)
    else:
        shift = tl.arange(0, PLANES) * BITS
        packed = tl.sum(y.to(tl.int32) << shift[None, :, None], axis=1)
        tl.store(
            out + start[:, None] + lane[None, :], packed.to(tl.uint8), mask=there[:, None] & real[None, :]
        )
