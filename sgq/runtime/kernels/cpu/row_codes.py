"""Rows between fp32 sums and codes: what finishes a row in one pass, and what unpacks one.

All take addresses; `lanes` and `size` are multiples of 8. 32 channels are finished at a time where there are
as many, so that joining their codes into bytes costs little.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import binding, ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from sgq.runtime.kernels.cpu import vectors as v
from sgq.runtime.packed import VECTOR

LONG, FLOAT = types.int64, types.float32
PAIR: Any = types.UniTuple(FLOAT, 2)  # type: ignore[attr-defined]
WIDE = 4 * VECTOR
STREAM_ALIGNMENT = 4 * VECTOR
"""Of addresses that are written past the caches, in bytes."""

LARGE = 2.0**30
"""Quotients beyond it are cut off, so that infinities stay what they are."""

Emitted = Callable[[Any, int], Any]


def _over(b: Any, lanes: Any, body: Callable[[Any, int], None]) -> None:
    """Run `body(position, count)` over all lanes, 32 at a time and then 8."""
    wide = b.and_(lanes, v.i64(-WIDE))
    for start, end, count in ((v.i64(0), wide, WIDE), (wide, lanes, VECTOR)):

        def step(position: Any, carried: list[Any], count: int = count) -> list[Any]:
            body(position, count)
            return carried

        v.loop(b, start, end, [], step, step=count)


def _loaded(b: Any, base: Any, at: Any, count: int) -> Any:
    return v.load_vector(b, b.gep(base, [at]), ir.VectorType(v.F32, count))


def _finished(b: Any, arguments: Any) -> Emitted:
    """Return what emits activation((x − offset) · factor · multiply + add) of `count` lanes from `at` on.

    The activation is max(x, slope · x): slopes of 0 and 1 are ReLU and none, those between LeakyReLU. For
    ReLU the product is masked: infinity times 0 would be no number.
    """
    row, factor, offset, multiply, add, slope = arguments
    without = b.fcmp_ordered("==", slope, ir.Constant(v.F32, 0.0))
    mask = b.select(without, ir.Constant(v.I32, 0), ir.Constant(v.I32, -1))
    values, scales, shifts = (v.at_address(b, one, v.F32) for one in (row, multiply, add))

    def emit(at: Any, count: int) -> Any:
        x = b.fsub(_loaded(b, values, at, count), v.spread(b, offset, count))
        scale = b.fmul(v.spread(b, factor, count), _loaded(b, scales, at, count))
        y = v.multiply_add(b, x, scale, _loaded(b, shifts, at, count))
        words, floats = ir.VectorType(v.I32, count), ir.VectorType(v.F32, count)
        below = b.bitcast(b.fmul(y, v.spread(b, slope, count)), words)
        return v.larger(b, b.bitcast(b.and_(below, v.spread(b, mask, count)), floats), y)

    return emit


def _float_writer(*, streamed: bool) -> Any:
    """Return the intrinsic that writes a finished row in fp32; `streamed` ones go past the caches."""

    @intrinsic
    def write(
        typing: Any, lanes: Any, row: Any, factor: Any, offset: Any, multiply: Any, add: Any, slope: Any,
        out: Any,
    ) -> Any:  # fmt: skip
        def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
            lanes_, *finish, out_ = arguments
            finished, target = _finished(b, finish), v.at_address(b, out_, v.F32)

            def body(at: Any, count: int) -> None:
                store = v.store_vector(b, finished(at, count), b.gep(target, [at]))
                if streamed:
                    store.align = STREAM_ALIGNMENT
                    store.set_metadata("nontemporal", b.module.add_metadata([ir.Constant(v.I32, 1)]))

            _over(b, lanes_, body)
            return context.get_dummy_value()

        return types.void(LONG, LONG, FLOAT, FLOAT, LONG, LONG, FLOAT, LONG), generate

    return write


float_lanes = _float_writer(streamed=False)
stream_lanes = _float_writer(streamed=True)


@intrinsic
def ranged_lanes(
    typing: Any, lanes: Any, row: Any, factor: Any, offset: Any, multiply: Any, add: Any, slope: Any
) -> Any:
    """Finish a row where it lies; return the least and the greatest number of it and 0."""

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        lanes_, *finish = arguments
        finished, target = _finished(b, finish), v.at_address(b, finish[0], v.F32)

        def body(at: Any, carried: list[Any]) -> list[Any]:
            y = finished(at, VECTOR)
            v.store_vector(b, y, b.gep(target, [at]))
            return [v.smaller(b, y, carried[0]), v.larger(b, y, carried[1])]

        zero = v.constant(v.FLOATS, 0.0)
        low, high = v.loop(b, v.i64(0), lanes_, [zero, zero], body, step=VECTOR)
        ends = (v.joined(b, low, v.smaller), v.joined(b, high, v.larger))
        return context.make_tuple(b, signature.return_type, ends)

    return PAIR(LONG, LONG, FLOAT, FLOAT, LONG, LONG, FLOAT), generate


def _nearest(b: Any, x: Any) -> Any:
    """Return x as 32-bit integers, rounded half to even."""
    count = x.type.count
    words = ir.VectorType(v.I32, count)
    if binding.get_host_cpu_features().get("avx", False):
        kind = ir.FunctionType(v.WORDS, [v.FLOATS])
        convert = cgutils.get_or_insert_function(b.module, kind, "llvm.x86.avx.cvt.ps2dq.256")
        return v.in_vectors(b, x, lambda part: b.call(convert, [part]))
    kind = ir.FunctionType(x.type, [x.type])
    rounded = cgutils.get_or_insert_function(b.module, kind, f"llvm.nearbyint.v{count}f32")
    return b.fptosi(b.call(rounded, [x]), words)


def _code_writer(bits: int) -> Any:
    """Return the intrinsic that writes a row as codes, `size` bytes, one plane behind another.

    A code is round(y / scale + shift) − least, between 0 and `levels`. The quotient is a product with the
    reciprocal, corrected by its remainder: what a division gives, but for a last bit now and then.
    """

    @intrinsic
    def write(
        typing: Any, size: Any, row: Any, scale: Any, shift: Any, least: Any, levels: Any, out: Any
    ) -> Any:
        def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
            size_, row_, scale_, shift_, least_, levels_, out_ = arguments
            source, target = v.at_address(b, row_, v.F32), v.at_address(b, out_, v.I8)
            reciprocal, minus = b.fdiv(ir.Constant(v.F32, 1.0), scale_), b.fneg(scale_)
            most = b.fadd(least_, levels_)
            first = b.fptosi(least_, v.I32)

            def codes(at: Any, count: int) -> Any:
                kind = ir.VectorType(v.F32, count)
                inverse = v.spread(b, reciprocal, count)
                y = _loaded(b, source, at, count)
                quotient = v.larger(b, b.fmul(y, inverse), v.constant(kind, -LARGE))
                quotient = v.smaller(b, quotient, v.constant(kind, LARGE))
                rest = v.multiply_add(b, quotient, v.spread(b, minus, count), y)
                quotient = v.multiply_add(b, rest, inverse, quotient)
                value = v.larger(b, b.fadd(quotient, v.spread(b, shift_, count)), v.spread(b, least_, count))
                value = v.smaller(b, value, v.spread(b, most, count))
                return b.sub(_nearest(b, value), v.spread(b, first, count))

            def body(at: Any, count: int) -> None:
                joined = codes(at, count)
                for p in range(1, 8 // bits):
                    plane = codes(b.add(at, b.mul(size_, v.i64(p))), count)
                    joined = b.or_(joined, b.shl(plane, v.constant(plane.type, p * bits)))
                v.store_vector(b, b.trunc(joined, ir.VectorType(v.I8, count)), b.gep(target, [at]))

            _over(b, size_, body)
            return context.get_dummy_value()

        return types.void(LONG, LONG, FLOAT, FLOAT, FLOAT, FLOAT, LONG), generate

    return write


def _reader(bits: int) -> Any:
    """Return the intrinsic that unpacks `size` bytes of codes into a row of values."""

    @intrinsic
    def read(typing: Any, size: Any, codes: Any, scale: Any, zero_point: Any, row: Any) -> Any:
        def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
            size_, codes_, scale_, zero_, row_ = arguments
            source, target = v.at_address(b, codes_, v.I8), v.at_address(b, row_, v.F32)
            scale, zero = v.spread(b, scale_), v.spread(b, zero_)

            def body(position: Any, carried: list[Any]) -> list[Any]:
                raw = b.zext(v.load_vector(b, b.gep(source, [position]), v.BYTES), v.WORDS)
                for p in range(8 // bits):
                    at = b.add(position, b.mul(size_, v.i64(p)))
                    value = b.fmul(b.fsub(v.plane(b, raw, bits, p), zero), scale)
                    v.store_vector(b, value, b.gep(target, [at]))
                return carried

            v.loop(b, v.i64(0), size_, [], body, step=VECTOR)
            return context.get_dummy_value()

        return types.void(LONG, LONG, FLOAT, FLOAT, LONG), generate

    return read


def _widener(bits: int) -> Any:
    """Return the intrinsic that turns `size` bytes of codes into 16-bit integers (code << double) − zero."""

    @intrinsic
    def widen(typing: Any, size: Any, codes: Any, zero: Any, double: Any, out: Any) -> Any:
        def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
            size_, codes_, zero_, double_, out_ = arguments
            source, target = v.at_address(b, codes_, v.I8), v.at_address(b, out_, v.I16)
            # Doubled by a product: shifts by a variable take longer.
            factor = b.shl(ir.Constant(v.I16, 1), b.trunc(double_, v.I16))
            offset = b.trunc(zero_, v.I16)

            def body(position: Any, count: int) -> None:
                words = ir.VectorType(v.I16, count)
                given = v.load_vector(b, b.gep(source, [position]), ir.VectorType(v.I8, count))
                raw = b.zext(given, words)
                for p in range(8 // bits):
                    at = b.add(position, b.mul(size_, v.i64(p)))
                    code = b.lshr(raw, v.constant(words, p * bits)) if p else raw
                    if p < 8 // bits - 1:
                        code = b.and_(code, v.constant(words, (1 << bits) - 1))
                    code = b.sub(b.mul(code, v.spread(b, factor, count)), v.spread(b, offset, count))
                    v.store_vector(b, code, b.gep(target, [at]))

            _over(b, size_, body)
            return context.get_dummy_value()

        return types.void(LONG, LONG, LONG, LONG, LONG), generate

    return widen


code_lanes_8, code_lanes_4, code_lanes_2, code_lanes_1 = (_code_writer(bits) for bits in (8, 4, 2, 1))
read_8, read_4, read_2, read_1 = (_reader(bits) for bits in (8, 4, 2, 1))
widen_8, widen_4, widen_2, widen_1 = (_widener(bits) for bits in (8, 4, 2, 1))
