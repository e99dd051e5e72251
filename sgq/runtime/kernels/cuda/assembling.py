"""Rows put together from others: blocks side by side, each a sum of multiples of packed or fp32 rows."""

from __future__ import annotations

import triton
import triton.language as tl

from sgq.runtime.kernels.cuda.attention import either_values
from sgq.runtime.kernels.cuda.finishing import finish_tile

DENSE = 0
"""How rows of fp32 are held that are not packed."""


@triton.jit
def assemble_rows(
    first, stride, terms, multiply, addend, add, slope, out, first_row, out_stride, out_width, width,
    row_parameters, out_parameters, scale, zero, least, levels, divisor, offset,
    ACTIVATION: tl.constexpr, MODE: tl.constexpr, BITS: tl.constexpr, RANGE: tl.constexpr,
    KINDS: tl.constexpr, PLANES: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Put row `first` + program together from its terms, and finish it.

    A term is what `values_of` takes of packed rows, where its channels begin and how many there are, and its
    factor; `KINDS` are how its rows are held, what shares their parameters, and their segments.
    """
    row = first + tl.program_id(0)
    own = row.to(tl.int64) + tl.arange(0, 1)
    lane = tl.program_id(1) * LANES + tl.arange(0, LANES)
    channel = tl.arange(0, PLANES)[:, None] * stride + lane[None, :]
    sums = tl.zeros([1, PLANES, LANES], tl.float32)
    for t in tl.static_range(len(KINDS)):
        codes, floats, table, parameters, begin, channels, factor = terms[t]
        from_channel = channel - begin
        inside = (lane < stride)[None, :] & (from_channel >= 0) & (from_channel < channels)
        if KINDS[t][0] == 0:
            at = own[:, None, None] * channels + from_channel[None, :, :]
            values = tl.load(floats + at, mask=inside[None, :, :], other=0.0)
        else:
            segment = 0
            for s in range(1, KINDS[t][2]):
                segment += (row >= tl.load(table + 5 * s + 3)).to(tl.int32)
            values = either_values(codes, floats, table, parameters, segment, own, own >= 0, from_channel,
                lane, inside, KINDS[t][0], KINDS[t][1], PLANES)  # fmt: skip
        sums += values * factor
    finish_tile(sums, own, own >= 0, channel, lane, stride, addend, multiply, add, slope, out, first_row,
        out_stride, out_width, width, row_parameters, out_parameters, scale, zero, least, levels, divisor,
        offset, ACTIVATION, MODE, BITS, RANGE, PLANES)  # fmt: skip
