"""Gathering packed rows along edges into one row of fp32 sums or extremes, codes unpacked in registers.

A *tile* is 8, 16 or 64 channels: its accumulators stay in registers over all edges of a row. The rows of
later edges are prefetched, across the ends of rows, since columns lie in one array.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from sgq.runtime.csr import COLUMN_PADDING
from sgq.runtime.kernels.cpu import vectors as v
from sgq.runtime.packed import VECTOR

AHEAD = COLUMN_PADDING - 16
"""How many edges ahead rows are prefetched; columns are padded by as many."""

WIDTHS = (8, 4, 2, 1, 32)
"""Widths that rows are held at."""

EXTREMES = {"max": v.larger, "min": v.smaller}

TILE = 8
"""Accumulators of a full tile, in vectors."""


def _sizes(bits: int) -> tuple[int, int, tuple[int, ...]]:
    """Return planes, bytes a lane, and the vectors a plane of tiles, the largest first."""
    planes = 1 if bits == 32 else 8 // bits
    full = TILE // planes
    return planes, 4 if bits == 32 else 1, tuple(sorted({full, max(1, full // 4), 1}, reverse=True))


@dataclass(frozen=True)
class _Gather:
    """What a gather is called with, as LLVM values, and what it was made for."""

    kind: str
    bits: int
    codes: Any
    row_bytes: Any
    columns: Any
    weights: Any
    weight_stride: Any
    weight_zero: Any
    parameters: Any
    parameter_stride: Any
    heads: Any
    factor_room: Any
    start: Any
    end: Any
    scratch: Any
    lanes: Any


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


def _tile(b: Any, of: _Gather, vectors: int, at: Any) -> Any:
    """Emit the gather of one tile, `vectors` vectors a plane from lane `at` on; return its zeros' sum."""
    planes, lane_bytes, _ = _sizes(of.bits)
    rows = b.gep(of.codes, [b.mul(at, v.i64(lane_bytes))])
    start_of_sums = b.gep(of.scratch, [at])
    slots = [(p, k) for p in range(planes) for k in range(vectors)]
    homes = [b.gep(start_of_sums, [b.add(b.mul(of.lanes, v.i64(p)), v.i64(k * VECTOR))]) for p, k in slots]
    by_head = None
    if of.kind == "heads":
        by_head = _HeadFactors(b, of.weights, of.weight_stride, of.weight_zero, of.factor_room)
        table = v.at_address(b, of.heads, v.I32)
        for p, k in slots:
            lane = b.add(b.add(b.mul(of.lanes, v.i64(p)), v.i64(k * VECTOR)), at)
            by_head.slot(b, b.load(b.gep(table, [b.lshr(lane, v.i64(3))])))

    def body(edge: Any, carried: list[Any]) -> list[Any]:
        offset, accumulators = carried[0], carried[1:]
        later = v.index(b, of.columns, b.add(edge, v.i64(AHEAD)))
        v.prefetch(b, b.gep(rows, [b.mul(later, of.row_bytes)]), vectors * VECTOR * lane_bytes)
        source = v.index(b, of.columns, edge)
        row = b.gep(rows, [b.mul(source, of.row_bytes)])
        pair = b.gep(of.parameters, [b.mul(source, of.parameter_stride)])
        scale, zero_point = b.load(pair), b.load(b.gep(pair, [v.i64(1)]))
        shift = None
        if by_head is not None:
            factors = by_head.of_edge(b, edge, scale, zero_point)
        elif of.kind == "sum":
            one = v.number(b, of.weights, b.mul(edge, of.weight_stride))
            factor = b.fmul(b.fsub(one, of.weight_zero), scale)
            offset = v.multiply_add(b, factor, zero_point, offset)
            factors = [v.spread(b, factor)] * len(slots)
        else:
            factors = [v.spread(b, scale)] * len(slots)
            shift = v.spread(b, b.fneg(b.fmul(scale, zero_point)))
        new: list[Any] = [None] * len(slots)
        for k in range(vectors):
            address = b.gep(row, [v.i64(k * VECTOR * lane_bytes)])
            if of.bits == 32:
                values = [v.load_vector(b, address, v.FLOATS)]
            else:
                raw = b.zext(v.load_vector(b, address, v.BYTES), v.WORDS)
                values = [v.plane(b, raw, of.bits, p) for p in range(planes)]
            for p, value in enumerate(values):
                slot = p * vectors + k
                if shift is not None:
                    candidate = v.multiply_add(b, value, factors[slot], shift)
                    new[slot] = EXTREMES[of.kind](b, candidate, accumulators[slot])
                else:
                    new[slot] = v.multiply_add(b, factors[slot], value, accumulators[slot])
        return [offset, *new]

    loaded = [v.load_vector(b, home, v.FLOATS) for home in homes]
    results = v.loop(b, of.start, of.end, [ir.Constant(v.F32, 0.0), *loaded], body)
    sums = results[1:] if by_head is None else by_head.less_zeros(b, results[1:])
    for home, value in zip(homes, sums, strict=True):
        v.store_vector(b, value, home)
    return results[0]


def gatherer(kind: str, column: Any = v.I32, weight: Any = v.F32, widths: tuple[int, ...] = WIDTHS) -> Any:
    """Return the intrinsic that gathers all channels of one row from rows of one width, its first argument.

    `kind` is "sum" (a weight an edge), "max", "min", or "heads" (a weight an edge and head); `column` and
    `weight` are the types of their arrays, integers unsigned but for I32. All arrays are addresses: that of
    the codes is where row 0 would be. The row's sums lie in the scratch, are added to and stay there, so that
    segments add up. Returned is, for "sum", the sum of weight · zero point, which is still to be subtracted.
    For "heads", `heads` are the heads of every 8 channels, `weight_stride` is their number, and `factor_room`
    is room for 2 · heads numbers, in whole vectors. `lanes` are those of a plane.

    It is a function of the module that calls it: numba would compile one of its own for every caller.
    """
    long = types.int64
    signature = types.float32(long, long, long, long, long, long, types.float32, *[long] * 8)
    name = f"sgq_gather_{kind}_{column}_{weight}_{'_'.join(map(str, widths))}"

    @intrinsic
    def gather(
        typing: Any, bits: Any, codes: Any, row_bytes: Any, columns: Any, weights: Any, weight_stride: Any,
        weight_zero: Any, parameters: Any, parameter_stride: Any, heads: Any, factor_room: Any, start: Any,
        end: Any, scratch: Any, lanes: Any,
    ) -> Any:  # fmt: skip
        def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
            function = b.module.globals.get(name)
            if function is None:
                function = ir.Function(b.module, ir.FunctionType(v.F32, [x.type for x in arguments]), name)
                function.linkage = "internal"
                function.attributes.add("noinline")
                inner = ir.IRBuilder(function.append_basic_block("entry"))
                by_width = {width: function.append_basic_block(f"bits{width}") for width in widths}
                others = inner.switch(function.args[0], by_width[widths[-1]])
                for width, block in by_width.items():
                    others.add_case(ir.Constant(v.I64, width), block)
                    inner.position_at_end(block)
                    inner.ret(_gathered(inner, kind, width, column, weight, function.args[1:]))
            return b.call(function, arguments)

        return signature, generate

    return gather


def _gathered(b: Any, kind: str, bits: int, column: Any, weight: Any, arguments: Any) -> Any:
    """Emit the gather of a row, tile after tile, the largest first; return its zeros' sum."""
    given = _Gather(kind, bits, *arguments)
    of = replace(
        given,
        codes=v.at_address(b, given.codes, v.I8),
        columns=v.at_address(b, given.columns, column),
        weights=given.weights if kind == "heads" else v.at_address(b, given.weights, weight),
        parameters=v.at_address(b, given.parameters, v.F32),
        scratch=v.at_address(b, given.scratch, v.F32),
    )
    at, offset = v.i64(0), ir.Constant(v.F32, 0.0)
    for vectors in _sizes(bits)[2]:
        step = vectors * VECTOR
        stop = b.add(at, b.and_(b.sub(of.lanes, at), v.i64(-step)))

        def one(place: Any, carried: list[Any], vectors: int = vectors) -> list[Any]:
            return [_tile(b, of, vectors, place)]

        (offset,) = v.loop(b, at, stop, [offset], one, step=step)
        at = stop
    return offset
