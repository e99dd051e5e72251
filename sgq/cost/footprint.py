"""Bytes that one kernel call needs while it runs: its result, what it allocates beside it, and its weight.

Integer kernels ask a workspace for room (`sgq.runtime.kernels.cpu`); torch allocates every intermediate. Both
are written down here as they are coded there, and held to what is measured by tests.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from quantizers.spec import FLOAT_BITS
from sgq.cost.work import Value, Work
from sgq.runtime.csr import COLUMN_PADDING
from sgq.runtime.kernels.thread_count import threads_for
from sgq.runtime.packed import BYTE_BITS, VECTOR, held_bits, row_bytes

FLOAT_BYTES, INDEX_BYTES, LONG_BYTES, SHORT_BYTES = 4, 4, 8, 2
PRODUCT_ROWS = 6
"""Rows of a register block of the products (`sgq.runtime.kernels.cpu.products`)."""
TILE_COLUMNS = 16
NEIGHBOUR_ROWS, NEIGHBOUR_KEYS, NEIGHBOUR_NUMBERS = 24, 4, 128
"""Rows that a thread finds neighbours for at a time, keys that go together, and 32-bit numbers beside them
(`sgq.runtime.kernels.cpu.nearest`)."""
NARROW_BITS = 8


REMEMBERED = 2**16
"""Calls and values whose bytes are remembered: architectures of one space share most of theirs."""


class Footprint(NamedTuple):
    """Bytes that a call keeps for good (`weight`), makes (`result`), and needs on top while it runs."""

    weight_bytes: int
    result_bytes: int
    scratch_bytes: int


@lru_cache(maxsize=REMEMBERED)
def value_bytes(value: Value, *, integer: bool) -> int:
    """Return the bytes of a value between calls."""
    if value.edges:
        if integer:
            return INDEX_BYTES * (value.rows + 1 + value.edges + COLUMN_PADDING)
        return 2 * LONG_BYTES * value.edges
    if not integer or value.bits == FLOAT_BITS:
        return FLOAT_BYTES * value.rows * value.channels
    return value.rows * row_bytes(value.channels, held_bits(value.bits))


def kept_in_float(bits: int) -> bool:
    """Whether rows of so many bits are rows of fp32 values: those of more than 8 bits are."""
    return bits > NARROW_BITS


def padding_bytes(value: Value) -> int:
    """Return the bytes of the padded copy that integer kernels read where fp32 rows are no whole vectors.

    Rows of 9 to 31 bits are fp32 values, too, but are padded when they are made.
    """
    if value.bits != FLOAT_BITS or value.edges or value.channels % VECTOR == 0:
        return 0
    return FLOAT_BYTES * value.rows * _vectors(value.channels)


@lru_cache(maxsize=REMEMBERED)
def footprint_of(work: Work, result: Value, *, threads: int) -> Footprint:
    """Return what a call needs on so many threads."""
    if work.runtime == "integer":
        made = value_bytes(result, integer=True)
        return Footprint(_integer_weight(work), made, _integer_scratch(work, threads))
    return Footprint(_float_weight(work), value_bytes(result, integer=False), _float_transient(work))


def _integer_weight(work: Work) -> int:
    if work.kind == "random":
        return INDEX_BYTES * (work.rows + 1 + work.edges + COLUMN_PADDING)
    if work.kind != "linear":
        return 0
    inputs = work.inputs
    tiles = -(-work.outputs // TILE_COLUMNS)
    finish = FLOAT_BYTES * work.outputs * (1 if work.variant == "none" else 2)
    if not _is_narrow(work):
        return FLOAT_BYTES * (tiles * inputs * TILE_COLUMNS + 1) + finish
    pairs = -(-inputs // 2)
    return SHORT_BYTES * tiles * pairs * 2 * TILE_COLUMNS + FLOAT_BYTES * work.outputs + finish


def _integer_scratch(work: Work, threads: int) -> int:
    """Return the room that a kernel asks for beside its result: unpacked rows, sums, tiles."""
    wanted = _Room(threads)
    reach, lanes = _reach(work.inputs, work.input_bits), _lanes(work.outputs, work.output_bits)
    if work.kind == "knn":
        _neighbours_room(wanted, work, reach)
    elif work.kind == "linear":
        wanted.threads_for(rows=work.rows, numbers=work.rows * work.outputs * work.inputs // 4)
        padded = -(-work.outputs // TILE_COLUMNS) * TILE_COLUMNS
        wanted.scratch(PRODUCT_ROWS * _vectors(max(padded, lanes)))
        narrow = _is_narrow(work)
        inputs = 2 * -(-work.inputs // 2) if narrow else work.inputs
        wanted.scratch(PRODUCT_ROWS * _vectors(max(reach, inputs)), SHORT_BYTES if narrow else FLOAT_BYTES)
    elif work.kind == "distance":
        wanted.threads_for(rows=work.rows, edges=4 * work.edges, numbers=2 * work.edges * work.inputs)
        wanted.scratch(2 * _vectors(reach))
        wanted.scratch(lanes)
    elif work.kind in ("gather", "pool"):
        edges = work.edges or work.rows
        rows = work.clouds if work.kind == "pool" else work.rows
        wanted.threads_for(rows=rows, edges=edges, numbers=edges * work.inputs)
        wanted.scratch(2 * _vectors(max(reach, lanes)))
    elif work.kind == "assemble":
        terms = ASSEMBLED_TERMS.get(work.variant, 2)
        wanted.threads_for(rows=work.rows, numbers=work.rows * (1 + terms) * work.outputs)
        wanted.scratch(2 * _vectors(max(lanes, work.outputs) + VECTOR))
    return wanted.bytes


def _neighbours_room(wanted: _Room, work: Work, reach: int) -> None:
    exact = not kept_in_float(work.input_bits)
    size = work.rows // work.clouds
    wanted.threads_for(rows=work.rows, numbers=work.rows * size * (1 + work.inputs // 4))
    wanted.scratch(NEIGHBOUR_ROWS * _vectors(reach // 2 if exact else reach))
    k = work.edges // work.rows
    wanted.scratch(NEIGHBOUR_ROWS * -(-k // NEIGHBOUR_KEYS) * NEIGHBOUR_KEYS, LONG_BYTES)
    wanted.scratch(NEIGHBOUR_NUMBERS)
    words = -(-work.inputs // 2) if exact else work.inputs
    across = work.clouds * -(-size // TILE_COLUMNS)
    wanted.bytes += INDEX_BYTES * across * TILE_COLUMNS * (words + exact)


class _Room:
    """The bytes that a kernel asks for, on as many of the threads as its work is worth."""

    def __init__(self, available: int) -> None:
        self.available = available
        self.threads = available
        self.bytes = 0

    def threads_for(self, *, rows: int, edges: int = 0, numbers: int = 0) -> None:
        self.threads = threads_for(self.available, rows=rows, edges=edges, numbers=numbers)

    def scratch(self, numbers: int, number_bytes: int = FLOAT_BYTES) -> None:
        """Add room for numbers a thread, those of threads apart by more than a cache line."""
        self.bytes += self.threads * (-(-_vectors(numbers) // 64) * 64 + 64) * number_bytes


ASSEMBLED_TERMS = {"1x1": 1, "1x2": 2, "2x2": 3, "4x2": 5}


def _reach(channels: int, bits: int) -> int:
    """Return how many channels a row of a packed tensor takes, padding included."""
    if not channels:
        return 0
    if kept_in_float(bits):
        return _vectors(channels)
    held = held_bits(bits)
    return row_bytes(channels, held) * BYTE_BITS // held


def _lanes(channels: int, bits: int) -> int:
    """Return how many channels a row of sums takes that a kernel finishes."""
    return _vectors(channels) if kept_in_float(bits) else _reach(channels, bits)


def _is_narrow(work: Work) -> bool:
    """Whether a product is one of whole numbers."""
    return not (kept_in_float(work.input_bits) or kept_in_float(work.weight_bits))


def _vectors(numbers: int) -> int:
    return -(-numbers // VECTOR) * VECTOR


def _float_weight(work: Work) -> int:
    if work.kind not in ("linear", "edge_network"):
        return 0
    # Batch norm keeps a scale, a bias, a mean and a variance a channel, and a count; the last layer a bias.
    norm = LONG_BYTES + 4 * FLOAT_BYTES * work.outputs
    return FLOAT_BYTES * work.weight_values + (FLOAT_BYTES * work.outputs if work.variant == "none" else norm)


def _float_transient(work: Work) -> int:
    """Return the most that torch holds during a call beside what it reads and its result."""
    rows, edges, inputs, outputs = work.rows, work.edges, work.inputs, work.outputs
    if work.kind == "knn":
        pairs = rows * (rows // work.clouds) * FLOAT_BYTES
        chosen = edges * (FLOAT_BYTES + LONG_BYTES)
        # At the end: indices, their sum with the first rows, targets, and the pair of both.
        return max(pairs + chosen - 2 * LONG_BYTES * edges, 3 * LONG_BYTES * edges)
    if work.kind == "random":
        return 3 * LONG_BYTES * edges
    if work.kind == "gather":
        return FLOAT_BYTES * edges * inputs
    if work.kind == "distance":
        return FLOAT_BYTES * max(0, 3 * edges * inputs - rows)
    if work.kind == "assemble" and work.variant in ("2x2", "4x2"):
        return FLOAT_BYTES * rows * (inputs // 2)
    # Batch norm makes a scale and a shift a channel first.
    if work.kind == "linear":
        return FLOAT_BYTES * (rows + 2) * outputs if work.variant != "none" else 0
    if work.kind == "edge_network":
        through = max(5 * edges * inputs, edges * (4 * inputs + 2 * outputs) + 2 * outputs)
        return FLOAT_BYTES * (through - rows * outputs)
    return 0
