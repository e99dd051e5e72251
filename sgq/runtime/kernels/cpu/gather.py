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


class _HeadFactors:
    """Emits the factors of an edge by head, once an edge: they are spread from memory over their channels.

    `room` is an address of 2 · heads numbers, in whole vectors: the factors of the edge at hand, and the sums
    of factor · zero point, which are subtracted at the end.
    """

    def __init__(self, b: Any, weights: Any, heads: Any, weight_zero: Any, room: Any) -> None:
        self.weights, self.heads = v.at_address(b, weights, v.I8), heads
        self.weight_zero = v.spread(b, weight_zero)
        self.lanes = b.and_(b.add(heads, v.i64(VECTOR - 1)), v.i64(-VECTOR))
        self.factors = v.at_address(b, room, v.F32)
        self.zeros = b.gep(self.factors, [self.lanes])
        self.slots: list[Any] = []

        def clear(at: Any, carried: list[Any]) -> list[Any]:
            v.store_vector(b, v.constant(v.FLOATS, 0.0), b.gep(self.zeros, [at]))
            return carried

        v.loop(b, v.i64(0), self.lanes, [], clear, step=VECTOR)

    def slot(self, b: Any, head: Any) -> None:
        """Add 8 channels, which are of one head."""
        self.slots.append(b.sext(head, v.I64))

    def of_edge(self, b: Any, edge: Any, scale: Any, zero_point: Any) -> list[Any]:
        """Return the factor of each slot; weights are codes [edges, heads]."""
        first = b.gep(self.weights, [b.mul(edge, self.heads)])
        scales, zeros = v.spread(b, scale), v.spread(b, zero_point)

        def convert(at: Any, carried: list[Any]) -> list[Any]:
            codes = b.zext(v.load_vector(b, b.gep(first, [at]), v.BYTES), v.WORDS)
            factor = b.fmul(b.fsub(b.sitofp(codes, v.FLOATS), self.weight_zero), scales)
            v.store_vector(b, factor, b.gep(self.factors, [at]))
            place = b.gep(self.zeros, [at])
            total = v.multiply_add(b, factor, zeros, v.load_vector(b, place, v.FLOATS))
            v.store_vector(b, total, place)
            return carried

        v.loop(b, v.i64(0), self.lanes, [], convert, step=VECTOR)
        return [v.spread(b, b.load(b.gep(self.factors, [head]))) for head in self.slots]

    def less_zeros(self, b: Any, sums: list[Any]) -> list[Any]:
        """Return the sums without what the zero points have added."""
        zeros = [v.spread(b, b.load(b.gep(self.zeros, [head]))) for head in self.slots]
        return [b.fsub(total, zero) for total, zero in zip(sums, zeros, strict=True)]


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
        factor_room: Any,
        start: Any,
        end: Any,
        scratch: Any,
        at: Any,
        lanes: Any,
    ) -> Any:
        long = types.int64
        signature = types.float32(long, long, long, long, long, types.float32, *[long] * 9)

        def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
            (codes_, row_bytes_, columns_, weights_, weight_stride_, weight_zero_, parameters_,
             parameter_stride_, heads_, factor_room_, start_, end_, scratch_, at_,
             lanes_) = arguments  # fmt: skip
            rows = b.gep(v.at_address(b, codes_, v.I8), [b.mul(at_, v.i64(lane_bytes))])
            column_at = v.at_address(b, columns_, column)
            weight_at = v.at_address(b, weights_, weight)
            pairs = v.at_address(b, parameters_, v.F32)
            start_of_sums = b.gep(v.at_address(b, scratch_, v.F32), [at_])
            homes = [
                b.gep(start_of_sums, [b.add(b.mul(lanes_, v.i64(p)), v.i64(k * VECTOR))])
                for p in range(planes)
                for k in range(vectors)
            ]
            by_head = None
            if kind == "heads":
                by_head = _HeadFactors(b, weights_, weight_stride_, weight_zero_, factor_room_)
                table = v.at_address(b, heads_, v.I32)
                for p in range(planes):
                    for k in range(vectors):
                        lane = b.add(b.add(b.mul(lanes_, v.i64(p)), v.i64(k * VECTOR)), at_)
                        by_head.slot(b, b.load(b.gep(table, [b.lshr(lane, v.i64(3))])))

            def body(edge: Any, carried: list[Any]) -> list[Any]:
                offset, accumulators = carried[0], carried[1:]
                later = v.index(b, column_at, b.add(edge, v.i64(AHEAD)))
                v.prefetch(b, b.gep(rows, [b.mul(later, row_bytes_)]), vectors * VECTOR * lane_bytes)
                source = v.index(b, column_at, edge)
                row = b.gep(rows, [b.mul(source, row_bytes_)])
                pair = b.gep(pairs, [b.mul(source, parameter_stride_)])
                scale, zero_point = b.load(pair), b.load(b.gep(pair, [v.i64(1)]))
                factors: list[Any] = []
                if by_head is not None:
                    factors = by_head.of_edge(b, edge, scale, zero_point)
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
                            new[slot] = v.multiply_add(b, factors[slot], value, accumulators[slot])
                return [offset, *new]

            loaded = [v.load_vector(b, home, v.FLOATS) for home in homes]
            results = v.loop(b, start_, end_, [v.ir.Constant(v.F32, 0.0), *loaded], body)
            sums = results[1:] if by_head is None else by_head.less_zeros(b, results[1:])
            for home, value in zip(homes, sums, strict=True):
                v.store_vector(b, value, home)
            return results[0]

        return signature, generate

    return gather


def gatherer(kind: str, bits: int, column: Any = v.I32, weight: Any = v.F32) -> Any:
    """Return the compiled function that gathers all channels of one row from rows of one width.

    `kind` is "sum" (a weight an edge), "max", or "heads" (a weight an edge and head); `column` and `weight`
    are the types of their arrays, integers unsigned but for I32. All arrays are addresses: that of the codes
    is where row 0 would be. The row's sums lie in the scratch, are added to and stay there, so that segments
    add up. Returned is, for "sum", the sum of weight · zero point, which is still to be subtracted. For
    "heads", `heads` are the heads of every 8 channels, `weight_stride` is their number, and `factor_room` is
    room for 2 · heads numbers, in whole vectors.
    """
    _, _, full = _sizes(bits)
    half = max(1, full // 4)
    wide, narrow, one = (_tile(kind, bits, size, column, weight) for size in (full, half, 1))
    full_lanes, half_lanes = full * VECTOR, half * VECTOR

    @njit(nogil=True)
    def gather(
        codes, row_bytes, columns, weights, weight_stride, weight_zero, parameters, parameter_stride,
        heads, factor_room, start, end, scratch, lanes,
    ):  # fmt: skip
        offset = np.float32(0.0)
        at = 0
        while at < lanes:
            if lanes - at >= full_lanes:
                offset = wide(codes, row_bytes, columns, weights, weight_stride, weight_zero, parameters,
                    parameter_stride, heads, factor_room, start, end, scratch, at, lanes)  # fmt: skip
                at += full_lanes
            elif lanes - at >= half_lanes:
                offset = narrow(codes, row_bytes, columns, weights, weight_stride, weight_zero, parameters,
                    parameter_stride, heads, factor_room, start, end, scratch, at, lanes)  # fmt: skip
                at += half_lanes
            else:
                offset = one(codes, row_bytes, columns, weights, weight_stride, weight_zero, parameters,
                    parameter_stride, heads, factor_room, start, end, scratch, at, lanes)  # fmt: skip
                at += VECTOR
        return offset

    return gather
