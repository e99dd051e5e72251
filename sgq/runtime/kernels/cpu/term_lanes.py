"""Adding a multiple of a row to sums: codes unpacked, or fp32 values, in one pass.

`kept` is 0 or −1: whether what the sums hold so far is dropped, whatever it is, or kept.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from sgq.runtime.kernels.cpu import vectors as v
from sgq.runtime.packed import VECTOR

LONG, FLOAT = types.int64, types.float32


def _kept(b: Any, sums: Any, mask: Any, kind: Any) -> Any:
    """Return the sums at an address, or zeros."""
    words = ir.VectorType(v.I32, VECTOR) if kind is v.FLOATS else v.I32
    given = v.load_vector(b, sums, kind)
    return b.bitcast(b.and_(b.bitcast(given, words), mask), kind)


def _code_adder(bits: int, *, by_channel: bool) -> Any:
    """Return the intrinsic that adds (code − zero point) · scale of `size` bytes of codes to sums.

    Scale and zero point are numbers, or `by_channel` the addresses of one a channel.
    """

    @intrinsic
    def add(typing: Any, size: Any, codes: Any, scale: Any, zero_point: Any, kept: Any, sums: Any) -> Any:
        def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
            size_, codes_, scale_, zero_, kept_, sums_ = arguments
            source, target = v.at_address(b, codes_, v.I8), v.at_address(b, sums_, v.F32)
            mask = v.spread(b, b.trunc(kept_, v.I32))

            def numbers(given: Any) -> Any:
                if not by_channel:
                    everywhere = v.spread(b, given)
                    return lambda at: everywhere
                base = v.at_address(b, given, v.F32)
                return lambda at: v.load_vector(b, b.gep(base, [at]), v.FLOATS)

            scales, zeros = numbers(scale_), numbers(zero_)

            def body(position: Any, carried: list[Any]) -> list[Any]:
                raw = b.zext(v.load_vector(b, b.gep(source, [position]), v.BYTES), v.WORDS)
                for p in range(8 // bits):
                    at = b.add(position, b.mul(size_, v.i64(p)))
                    code = b.fsub(v.plane(b, raw, bits, p), zeros(at))
                    place = b.gep(target, [at])
                    v.store_vector(
                        b, v.multiply_add(b, code, scales(at), _kept(b, place, mask, v.FLOATS)), place
                    )
                return carried

            v.loop(b, v.i64(0), size_, [], body, step=VECTOR)
            return context.get_dummy_value()

        number = LONG if by_channel else FLOAT
        return types.void(LONG, LONG, number, number, LONG, LONG), generate

    return add


@intrinsic
def add_values(typing: Any, width: Any, values: Any, factor: Any, kept: Any, sums: Any) -> Any:
    """Add factor · value of `width` fp32 values to sums; nothing past them is read or written."""

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        width_, values_, factor_, kept_, sums_ = arguments
        source, target = v.at_address(b, values_, v.F32), v.at_address(b, sums_, v.F32)
        mask = b.trunc(kept_, v.I32)
        whole = b.and_(width_, v.i64(-VECTOR))
        rests = (
            (v.i64(0), whole, VECTOR, v.FLOATS, v.spread(b, factor_), v.spread(b, mask)),
            (whole, width_, 1, v.F32, factor_, mask),
        )
        for start, end, count, kind, factor, own in rests:

            def step(
                at: Any, carried: list[Any], kind: Any = kind, factor: Any = factor, own: Any = own
            ) -> list[Any]:
                place = b.gep(target, [at])
                value = v.load_vector(b, b.gep(source, [at]), kind)
                v.store_vector(b, v.multiply_add(b, value, factor, _kept(b, place, own, kind)), place)
                return carried

            v.loop(b, start, end, [], step, step=count)
        return context.get_dummy_value()

    return types.void(LONG, LONG, FLOAT, LONG, LONG), generate


add_8, add_4, add_2, add_1 = (_code_adder(bits, by_channel=False) for bits in (8, 4, 2, 1))
add_channels_8, add_channels_4, add_channels_2, add_channels_1 = (
    _code_adder(bits, by_channel=True) for bits in (8, 4, 2, 1)
)
