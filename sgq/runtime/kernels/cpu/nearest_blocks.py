"""What the search for neighbours is made of: blocks of distances, and keys kept in order.

A key of 64 bits is a distance above, an index below: keys in order are neighbours by distance, then by index.
Distances are 32-bit integers. Those in fp32 are not negative, and their bits are in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from sgq.runtime.kernels.cpu import vectors as v
from sgq.runtime.kernels.cpu.products import COLUMNS, PAIRS, ROWS, multiply_pairs

KEYS = 4
"""Keys of a vector."""
LARGEST = 2**31 - 2
"""The largest distance: below the limit of a row that has too few neighbours yet."""

LONG = types.int64
LONGS = ir.VectorType(v.I64, KEYS)
MARKS = ir.VectorType(ir.IntType(1), 8)


def _mark(b: Any, limits: Any, distances: Any, marks: Any, blocks: Sequence[Sequence[Any]]) -> Any:
    """Write distances [6, 16] and, a bit each, which are below the limit of their row; return if any is."""
    limits, distances, marks = (v.at_address(b, one, v.I32) for one in (limits, distances, marks))
    any_of_them = ir.Constant(v.I32, 0)
    for r, row in enumerate(blocks):
        limit = v.spread(b, b.load(b.gep(limits, [v.i64(r)])))
        joined = ir.Constant(v.I32, 0)
        for c, vector in enumerate(row):
            v.store_vector(b, vector, b.gep(distances, [v.i64(COLUMNS * r + 8 * c)]))
            below = b.bitcast(b.icmp_signed("<", vector, limit), v.I8)
            joined = b.or_(joined, b.shl(b.zext(below, v.I32), ir.Constant(v.I32, 8 * c)))
        b.store(joined, b.gep(marks, [v.i64(r)]))
        any_of_them = b.or_(any_of_them, joined)
    return b.zext(any_of_them, v.I64)


@intrinsic
def mark_codes(
    typing: Any, left: Any, left_stride: Any, right: Any, pairs: Any, squares: Any, limits: Any,
    distances: Any, marks: Any,
) -> Any:  # fmt: skip
    """Write squares − left · right of 6 rows and 16 columns, int32, and mark those below `limits` [6].

    `left` [6, 2·pairs] and `right` [pairs, 16, 2] are int16, `left` is doubled: with the squares of the
    columns, this is a squared distance less the square of its row. Return if any is marked.
    """

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        left_, stride, right_, pairs_, squares_, limits_, distances_, marks_ = arguments
        a, columns = v.at_address(b, left_, v.I32), v.at_address(b, right_, v.I16)
        starts = [b.gep(a, [b.mul(stride, v.i64(r))]) for r in range(ROWS)]

        def body(pair: Any, sums: list[Any]) -> list[Any]:
            place = b.gep(columns, [b.mul(pair, v.i64(2 * COLUMNS))])
            both = [v.load_vector(b, b.gep(place, [v.i64(16 * c)]), PAIRS) for c in range(2)]
            new = []
            for r in range(ROWS):
                one = b.bitcast(v.spread(b, b.load(b.gep(starts[r], [pair]))), PAIRS)
                new += [b.add(sums[2 * r + c], multiply_pairs(b, one, both[c])) for c in range(2)]
            return new

        sums = v.loop(b, v.i64(0), pairs_, [v.constant(v.WORDS, 0)] * (2 * ROWS), body)
        place = v.at_address(b, squares_, v.I32)
        own = [v.load_vector(b, b.gep(place, [v.i64(8 * c)]), v.WORDS) for c in range(2)]
        blocks = [[b.sub(own[c], sums[2 * r + c]) for c in range(2)] for r in range(ROWS)]
        return _mark(b, limits_, distances_, marks_, blocks)

    return LONG(*[LONG] * 8), generate


@intrinsic
def mark_values(
    typing: Any, left: Any, left_stride: Any, right: Any, inputs: Any, limits: Any, distances: Any, marks: Any
) -> Any:
    """Write the bits of the squared distances of 6 rows from 16 columns, and mark those below `limits` [6].

    `left` [6, inputs] and `right` [inputs, 16] are fp32. What is no number is LARGEST. Return if any is
    marked.
    """

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        left_, stride, right_, inputs_, limits_, distances_, marks_ = arguments
        a, columns = v.at_address(b, left_, v.F32), v.at_address(b, right_, v.F32)
        starts = [b.gep(a, [b.mul(stride, v.i64(r))]) for r in range(ROWS)]

        def body(k: Any, sums: list[Any]) -> list[Any]:
            place = b.gep(columns, [b.mul(k, v.i64(COLUMNS))])
            both = [v.load_vector(b, b.gep(place, [v.i64(8 * c)]), v.FLOATS) for c in range(2)]
            new = []
            for r in range(ROWS):
                one = v.spread(b, b.load(b.gep(starts[r], [k])))
                for c in range(2):
                    apart = b.fsub(one, both[c])
                    new.append(v.multiply_add(b, apart, apart, sums[2 * r + c]))
            return new

        sums = v.loop(b, v.i64(0), inputs_, [v.constant(v.FLOATS, 0.0)] * (2 * ROWS), body)
        largest = v.constant(v.WORDS, LARGEST)

        def ordered(total: Any) -> Any:
            bits = b.and_(b.bitcast(total, v.WORDS), v.constant(v.WORDS, 2**31 - 1))
            return b.select(b.icmp_signed("<", bits, largest), bits, largest)

        blocks = [[ordered(sums[2 * r + c]) for c in range(2)] for r in range(ROWS)]
        return _mark(b, limits_, distances_, marks_, blocks)

    return LONG(*[LONG] * 7), generate


@intrinsic
def square_columns(typing: Any, columns: Any, pairs: Any, out: Any) -> Any:
    """Write the sums of squares of 16 columns [pairs, 16, 2] int16 to `out` [16] int32."""

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        columns_, pairs_, out_ = arguments
        source, target = v.at_address(b, columns_, v.I16), v.at_address(b, out_, v.I32)

        def body(pair: Any, sums: list[Any]) -> list[Any]:
            place = b.gep(source, [b.mul(pair, v.i64(2 * COLUMNS))])
            both = [v.load_vector(b, b.gep(place, [v.i64(16 * c)]), PAIRS) for c in range(2)]
            return [b.add(total, multiply_pairs(b, one, one)) for total, one in zip(sums, both, strict=True)]

        sums = v.loop(b, v.i64(0), pairs_, [v.constant(v.WORDS, 0)] * 2, body)
        for c, total in enumerate(sums):
            v.store_vector(b, total, b.gep(target, [v.i64(8 * c)]))
        return context.get_dummy_value()

    return types.void(LONG, LONG, LONG), generate


@intrinsic
def insert_key(typing: Any, kept: Any, room: Any, key: Any) -> Any:
    """Insert a key among `room` keys in order, a multiple of 4: the largest is dropped."""

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        kept_, room_, key_ = arguments
        place, new = v.at_address(b, kept_, v.I64), v.spread(b, key_, KEYS)
        before = ir.Constant(ir.VectorType(v.I32, KEYS), [3, 4, 5, 6])

        def body(at: Any, carried: list[Any]) -> list[Any]:
            address = b.gep(place, [at])
            here = v.load_vector(b, address, LONGS)
            shifted = b.shuffle_vector(carried[0], here, before)
            least = b.select(b.icmp_signed("<", here, new), here, new)
            # The greater of the key before and the lesser of this one and the new one.
            v.store_vector(b, b.select(b.icmp_signed(">", shifted, least), shifted, least), address)
            return [here]

        v.loop(b, v.i64(0), room_, [v.constant(LONGS, -(2**63))], body, step=KEYS)
        return context.get_dummy_value()

    return types.void(LONG, LONG, LONG), generate


@intrinsic
def lowest_bit(typing: Any, number: Any) -> Any:
    """Return the place of the lowest bit that is set; there is one."""

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(v.I64, [v.I64, ir.IntType(1)])
        count = cgutils.get_or_insert_function(b.module, kind, "llvm.cttz.i64")
        return b.call(count, [arguments[0], ir.Constant(ir.IntType(1), 1)])

    return LONG(LONG), generate
