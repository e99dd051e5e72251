"""Integer matrix products: packed rows by weights in tiles, rows of bits by weights in tables; exact.

Codes become signed bytes, less 128 at 8 bits; weights are bytes, or sums of 2 or 3 bytes times powers of 256.
The matrix units sum their products in int32, and zero points come in by the column sums of the weight.
"""

from __future__ import annotations

import triton
import triton.language as tl

from sgq.runtime.kernels.cuda.finishing import finish_tile, write_scores

FORMS = {"tiles": 0, "tables": 1}


@triton.jit
def weight_block(weights, extent, key, channel, mask, FORM: tl.constexpr):
    """Return whole numbers [keys, columns] of a weight, 0 where not `mask`; `extent` is its second size.

    A table's entries 1, 2, 4 and 8 are the single weights of its four inputs.
    """
    if FORM == 0:
        tile, place = channel // 16, channel % 16
        at = ((tile[None, :] * extent + (key // 2)[:, None]) * 16 + place[None, :]) * 2 + (key % 2)[:, None]
    else:
        tile, place = channel // 64, channel % 64
        entry = (key // 4) * 16 + (1 << (key % 4))
        at = (tile[None, :] * (extent * 16) + entry[:, None]) * 64 + place[None, :]
    return tl.load(weights + at, mask=mask, other=0).to(tl.int32)


@triton.jit
def whole_product(
    codes, row_bytes, inputs, starts, there, weights, extent, channel, inside, zero,
    BITS: tl.constexpr, FORM: tl.constexpr, PARTS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    KEYS: tl.constexpr,
):  # fmt: skip
    """Return (codes − zero) · weights, fp32 [rows, columns]; `zero` [rows] is a multiple of a half."""
    full: tl.constexpr = (1 << BITS) - 1
    shift: tl.constexpr = 128 if BITS == 8 else 0
    twice_zero = (2.0 * zero).to(tl.int64)
    result = tl.zeros([ROWS, COLUMNS], tl.float32)
    for part in tl.static_range(PARTS):
        sums = tl.zeros([ROWS, COLUMNS], tl.int32)
        column_sums = tl.zeros([COLUMNS], tl.int32)
        for first in range(0, row_bytes, KEYS):
            byte = first + tl.arange(0, KEYS)
            mask = there[:, None] & (byte < row_bytes)[None, :]
            raw = tl.load(codes + starts[:, None] + byte[None, :], mask=mask, other=0).to(tl.int32)
            for plane in range(8 // BITS):
                left = (((raw >> (plane * BITS)) & full) - shift).to(tl.int8)
                key = plane * row_bytes + byte if FORM == 0 else byte * 8 + plane
                real = (byte < row_bytes) & (key < inputs)
                right = weight_block(weights, extent, key, channel, real[:, None] & inside[None, :], FORM)
                for _ in tl.static_range(part):
                    right = (right + 128) >> 8
                if PARTS > 1:
                    right = ((right + 128) & 255) - 128
                sums = tl.dot(left, right.to(tl.int8), sums, out_dtype=tl.int32)
                column_sums += tl.sum(right, axis=0)
        whole = 2 * sums.to(tl.int64) + (2 * shift - twice_zero)[:, None] * column_sums.to(tl.int64)[None, :]
        result += whole.to(tl.float32) * (0.5 * 256.0**part)
    return result


@triton.jit
def float_product(
    floats, row_lanes, inputs, starts, there, weights, extent, channel, inside, FORM: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    """Return values · weights of rows held in fp32, [rows, columns]."""
    sums = tl.zeros([ROWS, COLUMNS], tl.float32)
    for first in range(0, row_lanes, KEYS):
        key = first + tl.arange(0, KEYS)
        real = (key < row_lanes) & (key < inputs)
        left = tl.load(
            floats + starts[:, None] + key[None, :], mask=there[:, None] & real[None, :], other=0.0
        )
        right = weight_block(weights, extent, key, channel, real[:, None] & inside[None, :], FORM)
        sums = tl.dot(left, right.to(tl.float32), sums, input_precision="ieee")
    return sums


@triton.jit
def multiply_rows(
    first, last, stride, codes, floats, row_bytes, source_first_row, parameters, parameter_stride, weights,
    extent, inputs, column_scale, vectors, score_values, score_count, score_heads, score_apart,
    addend, multiply, add, slope, out, first_row, out_stride, out_width, width, row_parameters,
    out_parameters, scale, zero, least, levels, divisor, offset,
    ACTIVATION: tl.constexpr, MODE: tl.constexpr, BITS: tl.constexpr, RANGE: tl.constexpr,
    SOURCE_BITS: tl.constexpr, FORM: tl.constexpr, PARTS: tl.constexpr, ROWS: tl.constexpr,
    PLANES: tl.constexpr, LANES: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    """Multiply rows `first` … `last` − 1 of one width by a weight, and finish them.

    `codes` begin at row `source_first_row`; a row's (scale, zero point) is at row · `parameter_stride`.
    """
    rows = (first + tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    there = rows < last
    place = tl.arange(0, PLANES * LANES)
    flat_lane = tl.program_id(1) * LANES + place % LANES
    flat_channel = (place // LANES) * stride + flat_lane
    flat_inside = (flat_lane < stride) & (flat_channel < width)
    if SOURCE_BITS == 32:
        starts = (rows - source_first_row) * (row_bytes // 4)
        sums = float_product(floats, row_bytes // 4, inputs, starts, there, weights, extent, flat_channel,
            flat_inside, FORM, ROWS, PLANES * LANES, KEYS)  # fmt: skip
    else:
        starts = (rows - source_first_row) * row_bytes
        pairs = parameters + rows * parameter_stride
        own_zero = tl.load(pairs + 1, mask=there, other=0.0)
        sums = whole_product(codes, row_bytes, inputs, starts, there, weights, extent, flat_channel,
            flat_inside, own_zero, SOURCE_BITS, FORM, PARTS, ROWS, PLANES * LANES, KEYS)  # fmt: skip
        sums *= tl.load(pairs, mask=there, other=0.0)[:, None]
    sums *= tl.load(column_scale + flat_channel, mask=flat_inside, other=0.0)[None, :]
    y = tl.reshape(sums, [ROWS, PLANES, LANES])
    lane = tl.program_id(1) * LANES + tl.arange(0, LANES)
    channel = tl.arange(0, PLANES)[:, None] * stride + lane[None, :]
    if vectors is not None:
        inside = (lane < stride)[None, :] & (channel < width)
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
