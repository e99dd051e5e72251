"""The rows of a cloud that are nearest to each of its rows, without a matrix of all distances.

The rows of all clouds are laid out once as tiles of 16 columns. Then each block of 6 rows meets the tiles of
its cloud in turn; what is nearer than the k-th nearest row so far enters a row's keys.
"""

from __future__ import annotations

from numba import get_thread_id, prange

from sgq.runtime.csr import COLUMN_PADDING
from sgq.runtime.kernels.cpu import row_codes
from sgq.runtime.kernels.cpu.compiling import parallel_kernel, row_function
from sgq.runtime.kernels.cpu.finishing import BITS, ONE, ROW_BYTES, ZERO, segment_field
from sgq.runtime.kernels.cpu.memory import load_int, load_long, store_int, store_long
from sgq.runtime.kernels.cpu.nearest_blocks import (
    insert_key,
    lowest_bit,
    mark_codes,
    mark_values,
    square_columns,
)
from sgq.runtime.kernels.cpu.products import COLUMNS, ROWS, widen_row
from sgq.runtime.kernels.cpu.unpacking import row_start, unpack_row

GROUP = 4
"""Blocks of rows that meet a tile while it is in the nearest cache."""
SPAN = ROWS * GROUP
"""Rows that a thread takes at a time."""

LAST_KEY = 2**63 - 1
NO_LIMIT, NOTHING_BELOW = 2**31 - 1, -(2**31)

DISTANCES, MARKS, LIMITS, NUMBERS = 0, 4 * ROWS * COLUMNS, 4 * (ROWS * COLUMNS + 8), ROWS * COLUMNS + 8 + SPAN
"""Where a thread keeps the distances of a block, its marks, and the limits of its rows, in bytes; and the
32-bit numbers in all."""


@row_function
def words_of_row(
    exact, codes, segments, count, parameters, per_row, by_channel, room, row, double, out
):  # fmt: skip
    """Write a row as 32-bit words: two codes, less half their range and perhaps doubled, or a number."""
    if exact:
        bits, size = segment_field(segments, 0, BITS), segment_field(segments, 0, ROW_BYTES)
        half = (1 << bits) >> 1
        widen_row(row_start(codes, segments, 0, row), size, bits, half << double, double, out)
    else:
        unpack_row(codes, segments, count, parameters, per_row, row, out)
        if by_channel:
            row_codes.float_lanes(room, out, ONE, ZERO, by_channel, by_channel + 4 * room, ONE, out)


@row_function
def take_marked(first_column, mask, distances, marks, limits, rows, kept, room, k):  # fmt: skip
    """Let what is marked enter the keys of `rows` rows, whose limits go down with it."""
    for r in range(rows):
        marked = load_int(marks, r) & mask
        if marked:
            own = kept + 8 * r * room
            while marked:
                place = lowest_bit(marked)
                distance = load_int(distances, COLUMNS * r + place)
                insert_key(own, room, (distance << 32) | (first_column + place))
                marked &= marked - 1
            store_int(limits, r, load_long(own, k - 1) >> 32)


@parallel_kernel
def nearest_rows(
    clouds, size, k, exact, codes, segments, count, parameters, per_row, by_channel, words, odd, tiles,
    squares, wide, wide_apart, wide_room, keys, keys_apart, keys_room, block, block_apart, pointers, columns,
):  # fmt: skip
    """Write the k nearest rows of each row, of its own cloud of `size` rows, in order.

    `exact` rows are codes that share a scale, `words` pairs of them a row, else `words` numbers in fp32;
    `odd` says that the last pair is half a pair. `by_channel` is as for `multiply_floats`. `tiles`
    [clouds · tiles of a cloud, words, 16] and `squares` [clouds · tiles, 16] are room.
    """
    across = (size + COLUMNS - 1) // COLUMNS
    down = (size + SPAN - 1) // SPAN
    for tile in prange(clouds * across):
        here = wide + get_thread_id() * wide_apart
        first = tile // across * size + tile % across * COLUMNS
        last = min(first + COLUMNS, (tile // across + 1) * size)
        start = tiles + 4 * tile * words * COLUMNS
        for row in range(first, last):
            words_of_row(exact, codes, segments, count, parameters, per_row, by_channel, wide_room, row, 0,
                here)  # fmt: skip
            if odd:
                store_int(here, words - 1, load_int(here, words - 1) & 0xFFFF)
            for w in range(words):
                store_int(start, COLUMNS * w + row - first, load_int(here, w))
        if exact:
            square_columns(start, words, squares + 4 * tile * COLUMNS)
    for part in prange(clouds * down):
        thread = get_thread_id()
        here, kept, own = wide + thread * wide_apart, keys + thread * keys_apart, block + thread * block_apart
        cloud = part // down
        first = part % down * SPAN
        height = min(SPAN, size - first)
        for r in range(height):
            words_of_row(exact, codes, segments, count, parameters, per_row, by_channel, wide_room,
                cloud * size + first + r, 1, here + 4 * r * wide_room)  # fmt: skip
        for r in range(height * keys_room):
            store_long(kept, r, LAST_KEY)
        for r in range(SPAN):
            store_int(own + LIMITS, r, NO_LIMIT if r < height else NOTHING_BELOW)
        for t in range(across):
            tile = cloud * across + t
            start = tiles + 4 * tile * words * COLUMNS
            mask = (1 << min(COLUMNS, size - t * COLUMNS)) - 1
            for r in range(0, height, ROWS):
                left, limits = here + 4 * r * wide_room, own + LIMITS + 4 * r
                if exact:
                    found = mark_codes(left, wide_room, start, words, squares + 4 * tile * COLUMNS, limits,
                        own + DISTANCES, own + MARKS)  # fmt: skip
                else:
                    found = mark_values(left, wide_room, start, words, limits, own + DISTANCES, own + MARKS)
                if found:
                    take_marked(cloud * size + t * COLUMNS, mask, own + DISTANCES, own + MARKS, limits,
                        min(ROWS, height - r), kept + 8 * r * keys_room, keys_room, k)  # fmt: skip
        for r in range(height):
            row = cloud * size + first + r
            store_int(pointers, row, row * k)
            for n in range(k):
                store_int(columns, row * k + n, load_long(kept, r * keys_room + n))
    edges = clouds * size * k
    store_int(pointers, clouds * size, edges)
    for n in range(COLUMN_PADDING):
        store_int(columns, edges + n, 0)
