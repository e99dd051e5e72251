"""Gathering packed rows along edges into one row of fp32 sums or maxima, codes unpacked in registers.

A *tile* is 8, 16 or 64 channels: its accumulators stay in registers over all edges of a row. The rows of
later edges are prefetched, across the ends of rows, since columns lie in one array.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numba.core import types
from numba.extending import intrinsic

from sgq.runtime.csr import COLUMN_PADDING
from sgq.runtime.kernels.cpu import vectors as v
from sgq.runtime.packed import VECTOR

AHEAD = COLUMN_PADDING - 16
"""How many edges ahead rows are prefetched; columns are padded by as many."""

TILE = 8
"""Accumulators of a full tile, in vectors."""


def _sizes(bits: int) -> tuple[int, int, int]:
    """Return planes, bytes a lane and vectors a plane of a full tile."""
    planes = 1 if bits == 32 else 8 // bits
    return planes, 4 if bits == 32 else 1, TILE // planes


def _tile(kind: str, bits: int, vectors: int, column: Any, weight: Any) -> Any:
    """Return the intrinsic that gathers one tile of `vectors` vectors a plane; see `gatherer`."""
    planes, lane_bytes, _ = _sizes(bits)

    @intrinsic
    def gather(
        typing: Any,
        codes: Any,
        row_bytes: Any,
        columns: Any,
        weights: Any,
        weight_stride: Any,
        weight_zero: Any,
        parameters: Any,
        parameter_stride: Any,
        heads: Any,
        start: Any,
        end: Any,
        scratch: Any,
        at: Any,
        lanes: Any,
    ) -> Any:
        long = types.int64
        signature = types.float32(
            long, long, long, long, long, types.float32, long, long, long, long, long, long, long, long
        )

        def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
            (codes_, row_bytes_, columns_, weights_, weight_stride_, weight_zero_, parameters_,
             parameter_stride_, heads_, start_, end_, scratch_, at_, lanes_) = arguments  # fmt: skip
            rows = b.gep(v.at_address(b, codes_, v.I8), [b.mul(at_, v.i64(lane_bytes))])
            column_at = v.at_address(b, columns_, column)
            weight_at = v.at_address(b, weights_, weight)
            pairs = v.at_address(b, parameters_, v.F32)
            sums = b.gep(v.at_address(b, scratch_, v.F32), [at_])
            homes = [
                b.gep(sums, [b.add(b.mul(lanes_, v.i64(p)), v.i64(k * VECTOR))])
                for p in range(planes)
                for k in range(vectors)
            ]
            head_of = []
            if kind == "heads":
                table = v.at_address(b, heads_, v.I32)
                for p in range(planes):
                    for k in range(vectors):
                        lane = b.add(b.add(b.mul(lanes_, v.i64(p)), v.i64(k * VECTOR)), at_)
                        head_of.append(b.sext(b.load(b.gep(table, [b.lshr(lane, v.i64(3))])), v.I64))

            def body(edge: Any, carried: list[Any]) -> list[Any]:
                offset, accumulators = carried[0], carried[1:]
                later = v.index(b, column_at, b.add(edge, v.i64(AHEAD)))
                v.prefetch(b, b.gep(rows, [b.mul(later, row_bytes_)]), vectors * VECTOR * lane_bytes)
                source = v.index(b, column_at, edge)
                row = b.gep(rows, [b.mul(source, row_bytes_)])
                pair = b.gep(pairs, [b.mul(source, parameter_stride_)])
                scale, zero_point = b.load(pair), b.load(b.gep(pair, [v.i64(1)]))
                factors: list[Any] = []
                if kind == "heads":
                    first = b.mul(edge, weight_stride_)
                    for head in head_of:
                        one = v.number(b, weight_at, b.add(first, head))
                        factors.append(v.spread(b, b.fmul(b.fsub(one, weight_zero_), scale)))
                    shift = v.spread(b, zero_point)
                elif kind == "sum":
                    one = v.number(b, weight_at, b.mul(edge, weight_stride_))
                    factor = b.fmul(b.fsub(one, weight_zero_), scale)
                    offset = v.multiply_add(b, factor, zero_point, offset)
                    factors = [v.spread(b, factor)] * (planes * vectors)
                else:
                    factors = [v.spread(b, scale)] * (planes * vectors)
                    shift = v.spread(b, b.fneg(b.fmul(scale, zero_point)))
                new: list[Any] = [None] * (planes * vectors)
                for k in range(vectors):
                    address = b.gep(row, [v.i64(k * VECTOR * lane_bytes)])
                    if bits == 32:
                        values = [v.load_vector(b, address, v.FLOATS)]
                    else:
                        raw = b.zext(v.load_vector(b, address, v.BYTES), v.WORDS)
                        values = [v.plane(b, raw, bits, p) for p in range(planes)]
                    for p, value in enumerate(values):
                        slot = p * vectors + k
                        if kind == "max":
                            candidate = v.multiply_add(b, value, factors[slot], shift)
                            new[slot] = v.larger(b, candidate, accumulators[slot])
                        else:
                            centred = b.fsub(value, shift) if kind == "heads" else value
                            new[slot] = v.multiply_add(b, factors[slot], centred, accumulators[slot])
                return [offset, *new]

            loaded = [v.load_vector(b, home, v.FLOATS) for home in homes]
            results = v.loop(b, start_, end_, [v.ir.Constant(v.F32, 0.0), *loaded], body)
            for home, value in zip(homes, results[1:], strict=True):
                v.store_vector(b, value, home)
            return results[0]

        return signature, generate

    return gather


def gatherer(kind: str, bits: int, column: Any = v.I32, weight: Any = v.F32) -> Any:
    """Return the compiled function that gathers all channels of one row from rows of one width.

    `kind` is "sum" (a weight an edge), "max", or "heads" (a weight an edge and head); `column` and `weight`
    are the types of their arrays, integers unsigned but for I32. All arrays are addresses: that of the codes
    is where row 0 would be. The row's sums lie in the scratch, are added to and stay there, so that segments
    add up. Returned is, for "sum", the sum of weight · zero point, which is still to be subtracted.
    """
    _, _, full = _sizes(bits)
    half = max(1, full // 4)
    wide, narrow, one = (_tile(kind, bits, size, column, weight) for size in (full, half, 1))
    full_lanes, half_lanes = full * VECTOR, half * VECTOR

    @njit(nogil=True)
    def gather(
        codes, row_bytes, columns, weights, weight_stride, weight_zero, parameters, parameter_stride,
        heads, start, end, scratch, lanes,
    ):  # fmt: skip
        offset = np.float32(0.0)
        at = 0
        while at < lanes:
            if lanes - at >= full_lanes:
                offset = wide(codes, row_bytes, columns, weights, weight_stride, weight_zero, parameters,
                    parameter_stride, heads, start, end, scratch, at, lanes)  # fmt: skip
                at += full_lanes
            elif lanes - at >= half_lanes:
                offset = narrow(codes, row_bytes, columns, weights, weight_stride, weight_zero, parameters,
                    parameter_stride, heads, start, end, scratch, at, lanes)  # fmt: skip
                at += half_lanes
            else:
                offset = one(codes, row_bytes, columns, weights, weight_stride, weight_zero, parameters,
                    parameter_stride, heads, start, end, scratch, at, lanes)  # fmt: skip
                at += VECTOR
        return offset

    return gather
