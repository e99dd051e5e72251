"""Finishing rows that are already there: quantizing an fp32 tensor, degree bucket by degree bucket."""

from __future__ import annotations

import triton
import triton.language as tl

from sgq.runtime.kernels.cuda.finishing import finish_tile


@triton.jit
def finish_rows(
    first, last, stride, values, heads, channels, head_channels,
    addend, multiply, add, slope, out, first_row, out_stride, out_width, width, row_parameters,
    out_parameters, scale, zero, least, levels, divisor, offset,
    ACTIVATION: tl.constexpr, MODE: tl.constexpr, BITS: tl.constexpr, RANGE: tl.constexpr,
    ROWS: tl.constexpr, PLANES: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Finish rows `first` … `last` − 1 of `values` [rows, heads · channels] fp32.

    In the result each head takes `head_channels` channels, the last of them 0.
    """
    rows = (first + tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    there = rows < last
    lane = tl.program_id(1) * LANES + tl.arange(0, LANES)
    channel = tl.arange(0, PLANES)[:, None] * stride + lane[None, :]
    head = channel // head_channels
    within = channel - head * head_channels
    inside = (lane < stride)[None, :] & (head < heads) & (within < channels)
    at = rows[:, None, None] * (heads * channels) + (head * channels + within)[None, :, :]
    y = tl.load(values + at, mask=there[:, None, None] & inside[None, :, :], other=0.0)
    finish_tile(y, rows, there, channel, lane, stride, addend, multiply, add, slope, out, first_row,
        out_stride, out_width, width, row_parameters, out_parameters, scale, zero, least, levels, divisor,
        offset, ACTIVATION, MODE, BITS, RANGE, PLANES)  # fmt: skip
