"""An architecture as a graph of numbers: what the learned predictor reads.

As in HGNAS and GCoDE a node an operation, in a chain from an input to an output node, and a global node that
is linked to all (arXiv 2303.10875, 2404.05605). A node knows its operation and function by one-hots, its bits
and sizes, and what the look-up table says of it: that is what GCoDE found to matter most.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from functools import lru_cache

from sgq.cost.work import Work
from sgq.models.genotype import (
    OPERATIONS,
    Activation,
    Aggregate,
    Combine,
    Communicate,
    Connect,
    Connection,
    EdgeMlp,
    Head,
    Message,
    Operation,
    Pool,
    Pooling,
    Reducer,
    Sample,
    SampleMethod,
    choices_of,
)

GLOBAL, INPUT, OUTPUT, LINEAR = "global", "input", "output", "linear"
KINDS = (GLOBAL, INPUT, OUTPUT, LINEAR, *OPERATIONS)
FUNCTIONS = (
    *(f"sample {name}" for name in choices_of(SampleMethod)),
    *(f"reduce {name}" for name in choices_of(Reducer)),
    *(f"message {name}" for name in choices_of(Message)),
    *(f"activate {name}" for name in choices_of(Activation)),
    *(f"connect {name}" for name in choices_of(Connection)),
    *(f"pool {name}" for name in choices_of(Pooling)),
)
BITS = ("input", "message", "weight")
SIZES = ("channels in", "channels out", "k", "rows")
TIMES = ("log seconds", "share of the time")
MEMORY = ("log bytes",)
COLUMNS = (*KINDS, *FUNCTIONS, *(f"{name} bits" for name in BITS), *SIZES, *TIMES, *MEMORY)
"""What the numbers of a node are, in order."""
SCALED = tuple(COLUMNS.index(name) for name in ("log seconds", "log bytes"))
"""Those that are z-scored with the training set's mean and standard deviation."""
NOTHING_RUNS = frozenset([Communicate.verb])
"""Operations that no node stands for: going on at the other side is nothing that runs on this one."""
SHORTEST_S = 1e-8
"""What an operation without any call takes: its logarithm has to be finite."""
PLACE = {name: place for place, name in enumerate(COLUMNS)}
"""Where each number stands."""
OWN, CALLS = (
    struct.Struct(f"{len(names)}f") for names in (COLUMNS[: PLACE[SIZES[0]]], (*SIZES, *TIMES, *MEMORY))
)
"""How the numbers that an operation has by itself are written, and after them those of its calls."""

Row = bytes
"""What a node knows: `COLUMNS` in fp32, as bytes, of which many are put together at once."""


def own_numbers(operation: Operation | Head) -> bytes:
    """Return the first numbers of a row: what a node knows of its operation alone."""
    if isinstance(operation, Head):
        return _written((LINEAR,), (("input", operation.input_bits), ("weight", operation.weight_bits)))
    return _written((operation.verb, *_functions(operation)), tuple(operation.bits.items()))


def call_numbers(
    operation: Operation | Head, works: Sequence[Work], seconds: Sequence[float], made_bytes: Sequence[int]
) -> tuple[bytes, ...]:
    """Return the other numbers of the row of a position, or of each layer of the head.

    `seconds` and `made_bytes` are those of its calls, in order; its share of the time is in seconds as yet.
    """
    if not isinstance(operation, Head):
        return (_numbers_of(works, seconds, made_bytes),)
    layers = zip(works, seconds, made_bytes, strict=True)
    return tuple([_numbers_of((work,), (time,), (size,)) for work, time, size in layers])


@lru_cache(maxsize=2**16)
def idle_row(operation: Operation) -> Row:
    """Return the row of a position that does nothing."""
    return own_numbers(operation) + _numbers_of((), (), ())


def _numbers_of(works: Sequence[Work], seconds: Sequence[float], made_bytes: Sequence[int]) -> bytes:
    sizes = (0.0,) * len(SIZES)
    if works:
        last = works[-1]
        widest = max([work.inputs for work in works])
        sizes = (size_of(widest), size_of(last.outputs), size_of(last.edges / last.rows), size_of(last.rows))
    total = sum(seconds)
    held = math.log(max(sum(made_bytes), 1.0))
    return CALLS.pack(*sizes, math.log(max(total, SHORTEST_S)), total, held)


@lru_cache(maxsize=2**12)
def _written(names: tuple[str, ...], bits: tuple[tuple[str, int], ...]) -> bytes:
    """Return the numbers of an operation: ones for its names, and its bits."""
    numbers = [0.0] * PLACE[SIZES[0]]
    for name in names:
        numbers[PLACE[name]] = 1.0
    for component, width in bits:
        numbers[PLACE[f"{component} bits"]] = _width(width)
    return OWN.pack(*numbers)


def _functions(operation: Operation) -> tuple[str, ...]:
    if isinstance(operation, Sample):
        return (f"sample {operation.method}",)
    if isinstance(operation, Aggregate):
        return (f"reduce {operation.reducer}", f"message {operation.message}")
    if isinstance(operation, Combine):
        return (f"activate {operation.activation}",)
    if isinstance(operation, EdgeMlp):
        return (f"reduce {operation.reducer}", f"activate {operation.activation}")
    if isinstance(operation, Connect):
        return (f"connect {operation.connection}",)
    return tuple(f"pool {one}" for one in operation.reducers) if isinstance(operation, Pool) else ()


def _width(bits: int) -> float:
    return math.log2(2 * bits) / 6


def size_of(number: float) -> float:
    """Return a count as a predictor reads it."""
    return math.log2(1.0 + number) / 10
