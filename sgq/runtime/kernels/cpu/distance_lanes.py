"""Squared distances of two rows, 8 or 16 channels at a time: exact ones of codes, and those of fp32 values.

Padding is masked, whatever it holds: `keep` has all bits set at channels, and none past the last one.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from sgq.runtime.kernels.cpu import vectors as v
from sgq.runtime.kernels.cpu.products import multiply_pairs

LONG, FLOAT = types.int64, types.float32
HALF, WHOLE = 8, 16
"""Codes that are subtracted at once, as 16-bit integers."""


def _widened(b: Any, codes: Any) -> Any:
    """Return 8 or 16 integers of 16 bits as 16, with zeros behind them."""
    if codes.type.count == WHOLE:
        return codes
    places = ir.Constant(ir.VectorType(v.I32, WHOLE), list(range(WHOLE)))
    return b.shuffle_vector(codes, v.constant(codes.type, 0), places)


def _squarer(bits: int) -> Any:
    """Return the intrinsic that sums the squared differences of a packed row of one width and a row `own`."""

    @intrinsic
    def square(typing: Any, size: Any, codes: Any, own: Any, keep: Any) -> Any:
        def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
            size_, codes_, own_, keep_ = arguments
            source = v.at_address(b, codes_, v.I8)
            other, mask = v.at_address(b, own_, v.I16), v.at_address(b, keep_, v.I16)
            whole = b.and_(size_, v.i64(-WHOLE))
            sums = [v.constant(v.WORDS, 0)]
            for start, end, count in ((v.i64(0), whole, WHOLE), (whole, size_, HALF)):
                words = ir.VectorType(v.I16, count)

                def step(
                    position: Any, carried: list[Any], count: int = count, words: Any = words
                ) -> list[Any]:
                    given = v.load_vector(b, b.gep(source, [position]), ir.VectorType(v.I8, count))
                    raw, total = b.zext(given, words), carried[0]
                    for p in range(8 // bits):
                        at = b.add(position, b.mul(size_, v.i64(p)))
                        code = b.lshr(raw, v.constant(words, p * bits)) if p else raw
                        if p < 8 // bits - 1:
                            code = b.and_(code, v.constant(words, (1 << bits) - 1))
                        apart = b.sub(code, v.load_vector(b, b.gep(other, [at]), words))
                        apart = b.and_(apart, v.load_vector(b, b.gep(mask, [at]), words))
                        wide = _widened(b, apart)
                        total = b.add(total, multiply_pairs(b, wide, wide))
                    return [total]

                sums = v.loop(b, start, end, sums, step, step=count)
            return b.sext(v.joined(b, sums[0], lambda b, left, right: b.add(left, right)), v.I64)

        return LONG(LONG, LONG, LONG, LONG), generate

    return square


square_8, square_4, square_2, square_1 = (_squarer(bits) for bits in (8, 4, 2, 1))


@intrinsic
def square_values(typing: Any, lanes: Any, left: Any, right: Any, keep: Any, scales: Any) -> Any:
    """Return the sum of ((left − right) · scale)² of two rows of fp32; `keep` [lanes] is int32."""

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        kinds = (v.F32, v.F32, v.I32, v.F32)
        bases = [v.at_address(b, one, kind) for one, kind in zip(arguments[1:], kinds, strict=True)]

        def body(position: Any, carried: list[Any]) -> list[Any]:
            places = [b.gep(base, [position]) for base in bases]
            one, other, mask, scale = (
                v.load_vector(b, place, v.WORDS if kind == v.I32 else v.FLOATS)
                for place, kind in zip(places, kinds, strict=True)
            )
            apart = b.bitcast(b.and_(b.bitcast(b.fsub(one, other), v.WORDS), mask), v.FLOATS)
            apart = b.fmul(apart, scale)
            return [v.multiply_add(b, apart, apart, carried[0])]

        (total,) = v.loop(b, v.i64(0), arguments[0], [v.constant(v.FLOATS, 0.0)], body, step=8)
        return v.joined(b, total, lambda b, left, right: b.fadd(left, right))

    return FLOAT(*[LONG] * 5), generate


@intrinsic
def prefetch_line(typing: Any, address: Any) -> Any:
    """Ask for the cache line at an address."""

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        v.prefetch(b, v.at_address(b, arguments[0], v.I8))
        return context.get_dummy_value()

    return types.void(LONG), generate
