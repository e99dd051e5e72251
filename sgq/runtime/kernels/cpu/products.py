"""Integer matrix products: packed rows by 8-bit weights, and one-bit rows by tables of partial sums.

Codes minus zero points are 16-bit integers, multiplied in pairs and summed in 32 bits: exact. Binary features
take sums of four weights at a time from a table (the method of four Russians; T-MAC, arXiv 2407.00088).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import binding
from numba import get_thread_id, prange
from numba.core import cgutils, types
from numba.extending import intrinsic

from sgq.runtime.features import WORD_BYTES
from sgq.runtime.kernels.cpu import lanes as lane
from sgq.runtime.kernels.cpu import row_codes
from sgq.runtime.kernels.cpu import vectors as v
from sgq.runtime.kernels.cpu.compiling import parallel_kernel, row_function
from sgq.runtime.kernels.cpu.finishing import (
    BITS,
    ONE,
    ROW_BYTES,
    ZERO,
    encode_row,
    finish_row,
    score_row,
    segment_field,
    segment_of,
    settle_row,
)
from sgq.runtime.kernels.cpu.memory import load_number, store_number
from sgq.runtime.kernels.cpu.unpacking import row_start, unpack_row
from sgq.runtime.weights import NIBBLE, TABLE_COLUMNS

ROWS = 6
"""Rows that a register block multiplies at once."""
COLUMNS = 16
"""Columns of a register block: two vectors."""
GROUP = 8
"""Register blocks that a thread takes at a time."""
BIT_ROWS = 256
"""Rows of bits that share the tables of one word, 16 KiB, while they are in the nearest cache; the more of
them, the less often tables come from farther away."""

PAIRS = v.ir.VectorType(v.I16, 16)


def multiply_pairs(builder: Any, left: Any, right: Any) -> Any:
    """Return left[2k] · right[2k] + left[2k+1] · right[2k+1] in 32 bits, for 16 lanes of 16 bits."""
    if binding.get_host_cpu_features().get("avx2", False):
        kind = v.ir.FunctionType(v.WORDS, [PAIRS, PAIRS])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx2.pmadd.wd")
        return builder.call(function, [left, right])
    wide = v.ir.VectorType(v.I32, 16)
    products = builder.mul(builder.sext(left, wide), builder.sext(right, wide))
    lanes = v.ir.VectorType(v.I32, 8)
    undefined = v.ir.Constant(wide, v.ir.Undefined)
    even = builder.shuffle_vector(products, undefined, v.ir.Constant(lanes, list(range(0, 16, 2))))
    odd = builder.shuffle_vector(products, undefined, v.ir.Constant(lanes, list(range(1, 16, 2))))
    return builder.add(even, odd)


@intrinsic
def multiply_block(
    typing: Any, left: Any, left_stride: Any, right: Any, pairs: Any, out: Any, out_stride: Any
) -> Any:
    """Write 6 rows times 16 columns to out [6, 16] fp32: left [6, 2·pairs], right [pairs, 16, 2], int16."""
    long = types.int64

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        left_, left_stride_, right_, pairs_, out_, out_stride_ = arguments
        a = v.at_address(b, left_, v.I32)
        weights = v.at_address(b, right_, v.I16)
        starts = [b.gep(a, [b.mul(left_stride_, v.i64(r))]) for r in range(ROWS)]

        def body(pair: Any, sums: list[Any]) -> list[Any]:
            place = b.gep(weights, [b.mul(pair, v.i64(2 * COLUMNS))])
            columns = [v.load_vector(b, b.gep(place, [v.i64(16 * c)]), PAIRS) for c in range(2)]
            new = []
            for r in range(ROWS):
                both = b.bitcast(v.spread(b, b.load(b.gep(starts[r], [pair]))), PAIRS)
                for c in range(2):
                    new.append(b.add(sums[2 * r + c], multiply_pairs(b, both, columns[c])))
            return new

        zero = v.constant(v.WORDS, 0)
        sums = v.loop(b, v.i64(0), pairs_, [zero] * (2 * ROWS), body)
        target = v.at_address(b, out_, v.F32)
        for r in range(ROWS):
            for c in range(2):
                at = b.add(b.mul(out_stride_, v.i64(r)), v.i64(8 * c))
                address = b.gep(target, [at])
                v.store_vector(b, b.sitofp(sums[2 * r + c], v.FLOATS), address)
        return context.get_dummy_value()

    return types.void(long, long, long, long, long, long), generate


@intrinsic
def multiply_float_block(
    typing: Any, left: Any, left_stride: Any, right: Any, inputs: Any, out: Any, out_stride: Any
) -> Any:
    """Write 6 rows times 16 columns to out [6, 16]: left [6, inputs], right [inputs, 16], all fp32."""
    long = types.int64

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        left_, left_stride_, right_, inputs_, out_, out_stride_ = arguments
        a, weights, target = (v.at_address(b, one, v.F32) for one in (left_, right_, out_))
        starts = [b.gep(a, [b.mul(left_stride_, v.i64(r))]) for r in range(ROWS)]

        def body(k: Any, sums: list[Any]) -> list[Any]:
            place = b.gep(weights, [b.mul(k, v.i64(COLUMNS))])
            columns = [v.load_vector(b, b.gep(place, [v.i64(8 * c)]), v.FLOATS) for c in range(2)]
            new = []
            for r in range(ROWS):
                one = v.spread(b, b.load(b.gep(starts[r], [k])))
                new += [v.multiply_add(b, one, columns[c], sums[2 * r + c]) for c in range(2)]
            return new

        sums = v.loop(b, v.i64(0), inputs_, [v.constant(v.FLOATS, 0.0)] * (2 * ROWS), body)
        for r in range(ROWS):
            for c in range(2):
                at = b.add(b.mul(out_stride_, v.i64(r)), v.i64(8 * c))
                v.store_vector(b, sums[2 * r + c], b.gep(target, [at]))
        return context.get_dummy_value()

    return types.void(long, long, long, long, long, long), generate


@intrinsic
def sum_tables(typing: Any, bits: Any, tables: Any, out: Any) -> Any:
    """Add to out [64] int16 the table rows that the 8 half bytes of a 32-bit word of bits choose.

    `tables` [8, 16, 64] int16 hold the sums of each half byte.
    """
    long = types.int64

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        bits_, tables_, out_ = arguments
        word = b.load(v.at_address(b, bits_, v.I32))
        word.align = 1
        wide = b.zext(word, v.I64)
        table = v.at_address(b, tables_, v.I8)
        vectors = range(TABLE_COLUMNS // 16)
        homes = [b.gep(v.at_address(b, out_, v.I16), [v.i64(16 * c)]) for c in vectors]
        sums = [v.load_vector(b, home, PAIRS) for home in homes]
        row_bits = (2 * TABLE_COLUMNS).bit_length() - 1
        for k in range(WORD_BYTES * 2):
            # The half byte, moved to where it counts rows of the table in bytes.
            shift = NIBBLE * k - row_bits
            moved = b.lshr(wide, v.i64(shift)) if shift >= 0 else b.shl(wide, v.i64(-shift))
            place = b.and_(moved, v.i64(15 << row_bits))
            start = b.gep(b.gep(table, [place]), [v.i64(k * 16 * 2 * TABLE_COLUMNS)])
            sums = [
                b.add(total, v.load_vector(b, b.gep(start, [v.i64(32 * c)]), PAIRS))
                for c, total in enumerate(sums)
            ]
        for home, total in zip(homes, sums, strict=True):
            v.store_vector(b, total, home)
        return context.get_dummy_value()

    return types.void(long, long, long), generate


@intrinsic
def flush_sums(typing: Any, sums: Any, out: Any) -> Any:
    """Add sums [64] int16 to out [64] fp32, and set them to 0."""

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        source, target = v.at_address(b, arguments[0], v.I16), v.at_address(b, arguments[1], v.F32)
        words = v.ir.VectorType(v.I16, 8)
        for c in range(TABLE_COLUMNS // 8):
            place, address = b.gep(source, [v.i64(8 * c)]), b.gep(target, [v.i64(8 * c)])
            value = b.sitofp(v.load_vector(b, place, words), v.FLOATS)
            v.store_vector(b, b.fadd(v.load_vector(b, address, v.FLOATS), value), address)
            v.store_vector(b, v.constant(words, 0), place)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@row_function
def widen_row(codes, size, bits, zero, double, out):  # fmt: skip
    """Write (code << double) − zero of each channel of a packed row as 16-bit integers; all addresses."""
    if bits == 8:
        row_codes.widen_8(size, codes, zero, double, out)
    elif bits == 4:
        row_codes.widen_4(size, codes, zero, double, out)
    elif bits == 2:
        row_codes.widen_2(size, codes, zero, double, out)
    else:
        row_codes.widen_1(size, codes, zero, double, out)


@row_function
def settle_product(here, row, factor, addend, multiply, channels, scores, finish):  # fmt: skip
    """Settle a row of sums, after its scores and the addend's row."""
    score_row(here, row, factor, scores)
    if addend != 0:
        whole = channels // 8 * 8
        other = addend + 4 * row * channels
        row_codes.float_lanes(whole, here, factor, ZERO, multiply, other, ONE, here)
        for k in range(whole, channels):
            scaled = load_number(here, k) * (factor * load_number(multiply, k))
            store_number(here, k, scaled + load_number(other, k))
        factor = ONE
    settle_row(here, row, factor, ZERO, finish)


@parallel_kernel
def multiply_packed(
    rows, codes, segments, count, parameters, parameter_stride, weights, pairs, tiles, wide, wide_apart,
    wide_room, scratch, apart, room, addend, multiply, channels, scores, finish,
):  # fmt: skip
    """Multiply packed rows by weights [tiles, pairs, 16, 2] int16, then finish each row.

    `parameter_stride` is 1 where each row has its own parameters, else 0. `addend` [rows, channels] fp32, or
    address 0, is added to the sums times `multiply` [channels], which the finish then lacks. A row's
    channels past the weight's inputs meet zeros.
    """
    span = ROWS * GROUP
    for block in prange((rows + span - 1) // span):
        thread = get_thread_id()
        here, wide_here = scratch + thread * apart, wide + thread * wide_apart
        for first_row in range(block * span, min(rows, block * span + span), ROWS):
            height = min(ROWS, rows - first_row)
            for r in range(height):
                row = first_row + r
                s = segment_of(segments, count, row)
                zero = load_number(parameters, 2 * (row if parameter_stride else s) + 1)
                double = 1 if np.rint(zero) != zero else 0
                start, size = row_start(codes, segments, s, row), segment_field(segments, s, ROW_BYTES)
                shift = np.int64(zero * np.float32(1 + double))
                bits = segment_field(segments, s, BITS)
                widen_row(start, size, bits, shift, double, wide_here + 2 * r * wide_room)
            for t in range(tiles):
                columns = weights + 64 * t * pairs
                multiply_block(wide_here, wide_room // 2, columns, pairs, here + 64 * t, room)
            for r in range(height):
                row = first_row + r
                lane.fill_lanes(room - COLUMNS * tiles, here + 4 * (r * room + COLUMNS * tiles), ZERO)
                place = 2 * (row if parameter_stride else segment_of(segments, count, row))
                factor, zero = load_number(parameters, place), load_number(parameters, place + 1)
                if np.rint(zero) != zero:
                    factor *= np.float32(0.5)
                settle_product(here + 4 * r * room, row, factor, addend, multiply, channels, scores, finish)
            for r in range(height):
                encode_row(here + 4 * r * room, first_row + r, finish)


@parallel_kernel
def multiply_floats(
    rows, codes, segments, count, parameters, parameter_stride, by_channel, weights, inputs, tiles, wide,
    wide_apart, wide_room, scratch, apart, room, addend, multiply, channels, scores, finish,
):  # fmt: skip
    """Multiply rows, unpacked to fp32, by weights [tiles, inputs, 16] fp32, then finish each row.

    See `multiply_packed`. `by_channel` is the address of what multiplies and is added to the codes of each
    channel, [2, wide_room], or 0.
    """
    span = ROWS * GROUP
    for block in prange((rows + span - 1) // span):
        thread = get_thread_id()
        here, wide_here = scratch + thread * apart, wide + thread * wide_apart
        for first_row in range(block * span, min(rows, block * span + span), ROWS):
            height = min(ROWS, rows - first_row)
            for r in range(height):
                row, out = first_row + r, wide_here + 4 * r * wide_room
                unpack_row(codes, segments, count, parameters, parameter_stride, row, out)
                if by_channel:
                    add = by_channel + 4 * wide_room
                    row_codes.float_lanes(wide_room, out, ONE, ZERO, by_channel, add, ONE, out)
            # What lies there may be subnormal as fp32: many times slower to multiply, for nothing.
            lane.fill_lanes((ROWS - height) * wide_room, wide_here + 4 * height * wide_room, ZERO)
            for t in range(tiles):
                columns = weights + 64 * t * inputs
                multiply_float_block(wide_here, wide_room, columns, inputs, here + 64 * t, room)
            for r in range(height):
                row = first_row + r
                lane.fill_lanes(room - COLUMNS * tiles, here + 4 * (r * room + COLUMNS * tiles), ZERO)
                settle_product(here + 4 * r * room, row, ONE, addend, multiply, channels, scores, finish)
            for r in range(height):
                encode_row(here + 4 * r * room, first_row + r, finish)


@parallel_kernel
def multiply_bits(
    rows, bits, row_bytes, factors, tables, tiles, chunk, sums, sums_apart, scratch, apart, room, scores,
    finish,
):  # fmt: skip
    """Multiply rows of bits by weights given as tables [tiles, 2 · bytes, 16, 64], then finish each row.

    `factors` [rows] is the value that a set bit of the row stands for. The tables of one 32-bit word
    serve a block of rows while they are in the nearest cache; up to `chunk` bytes are summed in 16 bits.
    """
    byte_tables = 2 * 2 * 16 * TABLE_COLUMNS
    for block in prange((rows + BIT_ROWS - 1) // BIT_ROWS):
        thread = get_thread_id()
        here, small = scratch + thread * apart, sums + thread * sums_apart
        first = block * BIT_ROWS
        height = min(BIT_ROWS, rows - first)
        lane.fill_lanes(BIT_ROWS * room, here, ZERO)
        lane.fill_lanes(BIT_ROWS * TABLE_COLUMNS // 2, small, ZERO)
        for t in range(tiles):
            at, held = 0, 0
            while at < row_bytes:
                if held + WORD_BYTES > chunk:
                    for r in range(height):
                        flush_sums(small + 2 * r * TABLE_COLUMNS, here + 4 * (r * room + t * TABLE_COLUMNS))
                    held = 0
                start = tables + (t * row_bytes + at) * byte_tables
                for r in range(height):
                    sum_tables(bits + (first + r) * row_bytes + at, start, small + 2 * r * TABLE_COLUMNS)
                at += WORD_BYTES
                held += WORD_BYTES
            for r in range(height):
                flush_sums(small + 2 * r * TABLE_COLUMNS, here + 4 * (r * room + t * TABLE_COLUMNS))
        for r in range(height):
            row, start = first + r, here + 4 * r * room
            factor = load_number(factors, row)
            score_row(start, row, factor, scores)
            finish_row(start, row, factor, ZERO, finish)
