"""Loops over the channels of one row, 8 at a time: the vector code around the gathers and products.

All take addresses, and rows with room for whole vectors; `lanes` is a multiple of 8. numba's own loops over
such short rows cost several times as much, in running and in compiling.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from sgq.runtime.kernels.cpu import vectors as v
from sgq.runtime.packed import VECTOR

LONG, FLOAT = types.int64, types.float32

LOG2_E = 1.4426950408889634
LN_2_HIGH, LN_2_LOW = 0.693359375, -2.1219444e-4
"""ln 2 in two parts: multiples of the first are exact."""
LEAST = -87.0
FACTORIALS = (1 / 5040, 1 / 720, 1 / 120, 1 / 24, 1 / 6, 1 / 2, 1.0, 1.0)
"""Coefficients of e^r, its Taylor polynomial, the highest power first."""


def _vector(value: float) -> Any:
    return v.constant(v.FLOATS, value)


def _rounded(b: Any, x: Any) -> Any:
    """Return x rounded to whole numbers, half to even."""
    kind = ir.FunctionType(v.FLOATS, [v.FLOATS])
    return b.call(cgutils.get_or_insert_function(b.module, kind, "llvm.nearbyint.v8f32"), [x])


def exponential(b: Any, x: Any) -> Any:
    """Return e^x for x ≤ 0 to 2 ulp: e^r by its polynomial, |r| ≤ ln 2 / 2, times a power of two."""
    x = v.larger(b, x, _vector(LEAST))
    whole = _rounded(b, b.fmul(x, _vector(LOG2_E)))
    r = v.multiply_add(b, whole, _vector(-LN_2_HIGH), x)
    r = v.multiply_add(b, whole, _vector(-LN_2_LOW), r)
    p = _vector(FACTORIALS[0])
    for coefficient in FACTORIALS[1:]:
        p = v.multiply_add(b, p, r, _vector(coefficient))
    exponent = b.shl(b.add(b.fptosi(whole, v.WORDS), v.constant(v.WORDS, 127)), v.constant(v.WORDS, 23))
    return b.fmul(p, b.bitcast(exponent, v.FLOATS))


def _leaky(b: Any, x: Any, slope: Any) -> Any:
    zero = _vector(0.0)
    return b.fadd(v.larger(b, x, zero), b.fmul(v.smaller(b, x, zero), slope))


def _over(b: Any, lanes: Any, body: Callable[[Any], None]) -> None:
    """Run `body(position)` for every 8 lanes."""

    def step(position: Any, carried: list[Any]) -> list[Any]:
        body(position)
        return carried

    v.loop(b, v.i64(0), lanes, [], step, step=VECTOR)


def _floats(b: Any, address: Any) -> Callable[[Any], Any]:
    base = v.at_address(b, address, v.F32)
    return lambda position: b.gep(base, [position])


def _in_place(function: Callable[..., Any], floats: int) -> Any:
    """Return the generator of an intrinsic (lanes, x, floats…): x[k] becomes function(b, x[k], floats…)."""

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        lanes, row = arguments[0], _floats(b, arguments[1])
        numbers = [v.spread(b, one) for one in arguments[2:]]

        def body(position: Any) -> None:
            place = row(position)
            v.store_vector(b, function(b, v.load_vector(b, place, v.FLOATS), *numbers), place)

        _over(b, lanes, body)
        return context.get_dummy_value()

    return types.void(LONG, LONG, *[FLOAT] * floats), generate


@intrinsic
def fill_lanes(typing: Any, lanes: Any, row: Any, value: Any) -> Any:
    """Set all lanes of a row to a value."""
    return _in_place(lambda b, x, number: number, 1)


@intrinsic
def subtract_lanes(typing: Any, lanes: Any, row: Any, value: Any) -> Any:
    """Subtract a number from all lanes of a row."""
    return _in_place(lambda b, x, number: b.fsub(x, number), 1)


@intrinsic
def subtract_scaled_lanes(typing: Any, lanes: Any, row: Any, factor: Any, numbers: Any) -> Any:
    """Subtract factor · numbers, one number a lane, from a row."""

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        row, numbers = (_floats(b, one) for one in (arguments[1], arguments[3]))
        factor = v.spread(b, b.fneg(arguments[2]))

        def body(at: Any) -> None:
            value = v.load_vector(b, row(at), v.FLOATS)
            value = v.multiply_add(b, factor, v.load_vector(b, numbers(at), v.FLOATS), value)
            v.store_vector(b, value, row(at))

        _over(b, arguments[0], body)
        return context.get_dummy_value()

    return types.void(LONG, LONG, FLOAT, LONG), generate


@intrinsic
def scale_lanes(typing: Any, lanes: Any, row: Any, value: Any) -> Any:
    """Multiply all lanes of a row by a number."""
    return _in_place(lambda b, x, number: b.fmul(x, number), 1)


@intrinsic
def elu_lanes(typing: Any, lanes: Any, row: Any, alpha: Any) -> Any:
    """Apply ELU to a row."""

    def elu(b: Any, x: Any, number: Any) -> Any:
        zero = _vector(0.0)
        below = b.fsub(exponential(b, v.smaller(b, x, zero)), _vector(1.0))
        return b.fadd(v.larger(b, x, zero), b.fmul(number, below))

    return _in_place(elu, 1)


@intrinsic
def round_lanes(typing: Any, lanes: Any, row: Any, scale: Any, shift: Any, least: Any, levels: Any) -> Any:
    """Turn values into codes: round(x / scale + shift) − least, between 0 and `levels`."""

    def code(b: Any, x: Any, scale_: Any, shift_: Any, least_: Any, levels_: Any) -> Any:
        whole = b.fsub(_rounded(b, b.fadd(b.fdiv(x, scale_), shift_)), least_)
        return v.smaller(b, v.larger(b, whole, _vector(0.0)), levels_)

    return _in_place(code, 4)


@intrinsic
def value_lanes(typing: Any, lanes: Any, row: Any, scale: Any, zero_point: Any) -> Any:
    """Turn codes back into values: (code − zero point) · scale."""
    return _in_place(lambda b, x, scale_, zero: b.fmul(b.fsub(x, zero), scale_), 2)


@intrinsic
def exponential_lanes(typing: Any, lanes: Any, row: Any) -> Any:
    """Replace x ≤ 0 by e^x."""
    return _in_place(exponential, 0)


@intrinsic
def additive_lanes(typing: Any, lanes: Any, left: Any, right: Any, out: Any, slope: Any) -> Any:
    """Write LeakyReLU(left + right): GAT's scores (arXiv 1710.10903, equation 1)."""

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        lanes_, left_, right_, out_, slope_ = arguments
        first, second, target = (_floats(b, one) for one in (left_, right_, out_))
        below = v.spread(b, slope_)

        def body(at: Any) -> None:
            total = b.fadd(v.load_vector(b, first(at), v.FLOATS), v.load_vector(b, second(at), v.FLOATS))
            v.store_vector(b, _leaky(b, total, below), target(at))

        _over(b, lanes_, body)
        return context.get_dummy_value()

    return types.void(LONG, LONG, LONG, LONG, FLOAT), generate


@intrinsic
def copy_lanes(typing: Any, lanes: Any, row: Any, out: Any) -> Any:
    """Copy a row."""

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        lanes_, source, target = arguments[0], _floats(b, arguments[1]), _floats(b, arguments[2])
        _over(b, lanes_, lambda at: v.store_vector(b, v.load_vector(b, source(at), v.FLOATS), target(at)))
        return context.get_dummy_value()

    return types.void(LONG, LONG, LONG), generate


@intrinsic
def byte_lanes(typing: Any, lanes: Any, row: Any, out: Any) -> Any:
    """Write a row of whole numbers as bytes."""

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        lanes_, source, target = arguments[0], _floats(b, arguments[1]), v.at_address(b, arguments[2], v.I8)

        def body(at: Any) -> None:
            codes = b.fptosi(v.load_vector(b, source(at), v.FLOATS), v.WORDS)
            v.store_vector(b, b.trunc(codes, v.BYTES), b.gep(target, [at]))

        _over(b, lanes_, body)
        return context.get_dummy_value()

    return types.void(LONG, LONG, LONG), generate


def _summed(term: Callable[..., Any], rows: int, floats: int) -> tuple[Any, Callable[..., Any]]:
    """Return signature and generator of a sum over lanes of `term(b, rows…, floats…)`."""

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        sources = [_floats(b, one) for one in arguments[1 : 1 + rows]]
        numbers = [v.spread(b, one) for one in arguments[1 + rows :]]

        def body(position: Any, carried: list[Any]) -> list[Any]:
            values = [v.load_vector(b, source(position), v.FLOATS) for source in sources]
            return [b.fadd(carried[0], term(b, *values, *numbers))]

        (total,) = v.loop(b, v.i64(0), arguments[0], [_vector(0.0)], body, step=VECTOR)
        return v.joined(b, total, lambda b, left, right: b.fadd(left, right))

    return FLOAT(LONG, *[LONG] * rows, *[FLOAT] * floats), generate


@intrinsic
def sum_lanes(typing: Any, lanes: Any, row: Any) -> Any:
    """Return the sum of a row."""
    return _summed(lambda b, x: x, 1, 0)


@intrinsic
def dot_lanes(typing: Any, lanes: Any, left: Any, right: Any) -> Any:
    """Return the dot product of two rows."""
    return _summed(lambda b, x, y: b.fmul(x, y), 2, 0)


@intrinsic
def dynamic_lanes(typing: Any, lanes: Any, left: Any, right: Any, vector: Any, slope: Any) -> Any:
    """Return the sum of LeakyReLU(left + right) · vector: GATv2's score (arXiv 2105.14491, equation 7)."""
    return _summed(lambda b, x, y, a, s: b.fmul(_leaky(b, b.fadd(x, y), s), a), 3, 1)
