"""Rows of packed tensors as fp32 tiles: codes unpacked and dequantized in registers."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def codes_of(
    codes, floats, table, s, rows, there, channel, lane, inside, FLOATS: tl.constexpr, UNIFORM: tl.constexpr,
    PLANES: tl.constexpr,
):  # fmt: skip
    """Return codes, or values where `FLOATS`, of rows [rows] of segment s: fp32 [rows, planes, lanes].

    `UNIFORM` says that the planes of the tile are those of the rows, so that every byte is loaded once.
    """
    bits, row_bytes = tl.load(table + 5 * s + 1).to(tl.int32), tl.load(table + 5 * s + 2).to(tl.int32)
    first_row, first_byte = tl.load(table + 5 * s + 3), tl.load(table + 5 * s + 4)
    # Rows take a multiple of 8 bytes: said here, since it lets several lanes be loaded at once.
    row_bytes = tl.multiple_of(row_bytes, 8)
    start = tl.multiple_of(first_byte + (rows - first_row) * row_bytes, [8])
    if FLOATS:
        starts = floats + tl.multiple_of(start // 4, [2])
        mask = there[:, None, None] & inside[None, :, :]
        return tl.load(starts[:, None, None] + channel[None, :, :], mask=mask, other=0.0)
    starts = codes + start
    full = (1 << bits) - 1
    if UNIFORM:
        mask = there[:, None] & (lane < row_bytes)[None, :]
        raw = tl.load(starts[:, None] + lane[None, :], mask=mask, other=0).to(tl.int32)
        shift = tl.arange(0, PLANES) * (8 // PLANES)
        code = (raw[:, None, :] >> shift[None, :, None]) & full
    else:
        plane = channel // row_bytes
        mask = there[:, None, None] & inside[None, :, :]
        at = starts[:, None, None] + (channel - plane * row_bytes)[None, :, :]
        code = (tl.load(at, mask=mask, other=0).to(tl.int32) >> (plane * bits)[None, :, :]) & full
    return code.to(tl.float32)


@triton.jit
def values_of(
    codes, floats, table, parameters, s, rows, there, channel, lane, inside, FLOATS: tl.constexpr,
    UNIFORM: tl.constexpr, PER: tl.constexpr, PLANES: tl.constexpr,
):  # fmt: skip
    """Return the values of rows of segment s, fp32 [rows, planes, lanes].

    `PER` says what shares parameters: 1 a segment, 2 a channel, 3 a row. Rows where not `there` mean nothing.
    """
    code = codes_of(codes, floats, table, s, rows, there, channel, lane, inside, FLOATS, UNIFORM, PLANES)
    if FLOATS:
        return code
    if PER == 1:
        return (code - tl.load(parameters + 2 * s + 1)) * tl.load(parameters + 2 * s)
    if PER == 2:
        scale = tl.load(parameters + 2 * channel, mask=inside, other=0.0)[None, :, :]
        return (code - tl.load(parameters + 2 * channel + 1, mask=inside, other=0.0)[None, :, :]) * scale
    scale = tl.load(parameters + 2 * rows, mask=there, other=0.0)[:, None, None]
    return (code - tl.load(parameters + 2 * rows + 1, mask=there, other=0.0)[:, None, None]) * scale


@triton.jit
def edges_of(pointers, step, row, s, SEGMENTS: tl.constexpr):
    """Return where the edges into `row` from segment s begin and end."""
    at = pointers + row.to(tl.int64) * step
    if SEGMENTS == 1:
        return tl.load(at), tl.load(at + step)
    return tl.load(at + s), tl.load(at + s + 1)
