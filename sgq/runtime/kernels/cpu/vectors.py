"""Building blocks in LLVM IR for numba: addresses, vectors of 8 lanes, prefetches, loops.

numba's own vectoriser keeps accumulators in memory; loops built here keep them in registers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from sgq.runtime.packed import VECTOR

I8, I16, I32, I64, F32 = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()
FLOATS = ir.VectorType(F32, VECTOR)
BYTES = ir.VectorType(I8, VECTOR)
WORDS = ir.VectorType(I32, VECTOR)

CACHE_LINE = 64


def i64(value: int) -> ir.Constant:
    """Return a 64-bit constant."""
    return ir.Constant(I64, value)


def at_address(builder: Any, address: Any, kind: Any) -> Any:
    """Return a 64-bit integer as the pointer to elements of `kind`."""
    return builder.inttoptr(address, kind.as_pointer())


def load_vector(builder: Any, address: Any, kind: Any) -> Any:
    """Load a vector of any element type from an address that need not be aligned."""
    value = builder.load(builder.bitcast(address, kind.as_pointer()))
    value.align = 1
    return value


def store_vector(builder: Any, value: Any, address: Any) -> Any:
    """Store a vector to an address that need not be aligned; return the instruction."""
    store = builder.store(value, builder.bitcast(address, value.type.as_pointer()))
    store.align = 1
    return store


def spread(builder: Any, scalar: Any, lanes: int = VECTOR) -> Any:
    """Return a vector with the scalar in every lane."""
    kind = ir.VectorType(scalar.type, lanes)
    undefined = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(I32, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(I32, lanes), [0] * lanes))


def constant(kind: Any, value: float) -> ir.Constant:
    """Return a vector constant."""
    return ir.Constant(kind, [value] * kind.count)


def prefetch(builder: Any, address: Any, count: int = 1) -> None:
    """Ask for `count` bytes, from an address on, to be read into the cache."""
    kind = ir.FunctionType(ir.VoidType(), [I8.as_pointer(), I32, I32, I32])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    start = builder.bitcast(address, I8.as_pointer())
    for line in range(0, count, CACHE_LINE):
        hints = [ir.Constant(I32, number) for number in (0, 3, 1)]
        builder.call(function, [builder.gep(start, [i64(line)]), *hints])


def multiply_add(builder: Any, left: Any, right: Any, addend: Any) -> Any:
    """Return left · right + addend, fused."""
    kind = left.type
    suffix = f"v{kind.count}f32" if isinstance(kind, ir.VectorType) else "f32"
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(kind, [kind] * 3), f"llvm.fma.{suffix}"
    )
    return builder.call(function, [left, right, addend])


def larger(builder: Any, left: Any, right: Any) -> Any:
    """Return the larger of two vectors, lane by lane."""
    return builder.select(builder.fcmp_ordered(">", left, right), left, right)


def smaller(builder: Any, left: Any, right: Any) -> Any:
    """Return the smaller of two vectors, lane by lane."""
    return builder.select(builder.fcmp_ordered("<", left, right), left, right)


def joined(builder: Any, vector: Any, function: Callable[..., Any]) -> Any:
    """Return the 8 lanes of a vector joined to one number."""
    undefined = ir.Constant(vector.type, ir.Undefined)
    for distance in (4, 2, 1):
        order = [(k + distance) % VECTOR for k in range(VECTOR)]
        lanes = ir.Constant(ir.VectorType(I32, VECTOR), order)
        vector = function(builder, vector, builder.shuffle_vector(vector, undefined, lanes))
    return builder.extract_element(vector, ir.Constant(I32, 0))


def in_vectors(builder: Any, wide: Any, function: Callable[[Any], Any]) -> Any:
    """Return what a function of 8 lanes makes of all lanes of a wider vector."""

    def lanes(start: int, count: int) -> ir.Constant:
        return ir.Constant(ir.VectorType(I32, count), list(range(start, start + count)))

    count = wide.type.count
    parts = []
    for start in range(0, count, VECTOR):
        part = builder.shuffle_vector(wide, ir.Constant(wide.type, ir.Undefined), lanes(start, VECTOR))
        parts.append(function(part))
    while len(parts) > 1:
        both = lanes(0, 2 * parts[0].type.count)
        pairs = zip(parts[::2], parts[1::2], strict=True)
        parts = [builder.shuffle_vector(left, right, both) for left, right in pairs]
    return parts[0]


def index(builder: Any, address: Any, at: Any) -> Any:
    """Load an index as 64 bits; those of 32 bits are signed, narrower ones are not."""
    value = builder.load(builder.gep(address, [at]))
    return builder.sext(value, I64) if value.type == I32 else builder.zext(value, I64)


def number(builder: Any, address: Any, at: Any) -> Any:
    """Load a number, fp32 or an unsigned code, as fp32."""
    value = builder.load(builder.gep(address, [at]))
    return value if value.type == F32 else builder.uitofp(value, F32)


def loop(
    builder: Any,
    start: Any,
    end: Any,
    carried: Sequence[Any],
    body: Callable[[Any, list[Any]], Sequence[Any]],
    *,
    step: int = 1,
) -> list[Any]:
    """Run `body(position, values)` for start ≤ position < end; return the values that it carries along."""
    before = builder.block
    function = builder.function
    head, inside, after = (function.append_basic_block(name) for name in ("head", "inside", "after"))
    builder.branch(head)
    builder.position_at_end(head)
    position = builder.phi(I64)
    position.add_incoming(start, before)
    values = []
    for value in carried:
        values.append(builder.phi(value.type))
        values[-1].add_incoming(value, before)
    builder.cbranch(builder.icmp_signed("<", position, end), inside, after)
    builder.position_at_end(inside)
    following = body(position, values)
    last = builder.block
    position.add_incoming(builder.add(position, i64(step)), last)
    for value, new in zip(values, following, strict=True):
        value.add_incoming(new, last)
    builder.branch(head)
    builder.position_at_end(after)
    return values


def plane(builder: Any, raw: Any, bits: int, at: int) -> Any:
    """Return the codes of one plane of 8 bytes, as fp32 lanes; `raw` is the bytes widened to 32 bits."""
    planes = 8 // bits
    codes = raw
    if at:
        codes = builder.lshr(codes, constant(WORDS, at * bits))
    if at < planes - 1:
        codes = builder.and_(codes, constant(WORDS, (1 << bits) - 1))
    return builder.sitofp(codes, FLOATS)
