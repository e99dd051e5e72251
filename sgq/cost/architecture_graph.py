"""An architecture as a graph of numbers: what the learned predictor reads.

As in HGNAS and GCoDE a node an operation, in a chain from an input to an output node, and a global node that
is linked to all (arXiv 2303.10875, 2404.05605). A node knows its operation and function by one-hots, its bits
and sizes, and what the look-up table says of it: that is what GCoDE found to matter most.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from sgq.cost.work import Work
from sgq.models.genotype import (
    OPERATIONS,
    Activation,
    Aggregate,
    Combine,
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
SHORTEST_S = 1e-8
"""What an operation without any call takes: its logarithm has to be finite."""
PLACE = {name: place for place, name in enumerate(COLUMNS)}
"""Where each number stands."""


Row = np.ndarray
"""What a node knows, [columns]."""


def stage_rows(
    operation: Operation | Head, works: Sequence[Work], seconds: Sequence[float], made_bytes: Sequence[int]
) -> tuple[Row, ...]:
    """Return the row of a position, or one for each layer of the head.

    `seconds` and `made_bytes` are those of its calls, in order; its share of the time is in seconds as yet.
    """
    if not isinstance(operation, Head):
        return (_filled(_static(operation), works, seconds, made_bytes),)
    static = np.zeros(len(COLUMNS), dtype=np.float32)
    static[PLACE[LINEAR]] = 1.0
    static[PLACE["input bits"]] = _width(operation.input_bits)
    static[PLACE["weight bits"]] = _width(operation.weight_bits)
    layers = zip(works, seconds, made_bytes, strict=True)
    return tuple(_filled(static, (work,), (time,), (size,)) for work, time, size in layers)


@lru_cache(maxsize=2**16)
def idle_row(operation: Operation) -> Row:
    """Return the row of a position that does nothing."""
    return _filled(_static(operation), (), (), ())


def _filled(static: Row, works: Sequence[Work], seconds: Sequence[float], made_bytes: Sequence[int]) -> Row:
    row = static.copy()
    for work in works:
        row[PLACE["channels in"]] = max(row[PLACE["channels in"]], size_of(work.inputs))
        row[PLACE["channels out"]] = size_of(work.outputs)
        row[PLACE["rows"]] = size_of(work.rows)
        row[PLACE["k"]] = size_of(work.edges / work.rows)
    row[PLACE["log seconds"]] = math.log(max(sum(seconds), SHORTEST_S))
    row[PLACE["share of the time"]] = sum(seconds)
    row[PLACE["log bytes"]] = math.log(max(sum(made_bytes), 1.0))
    return row


@lru_cache(maxsize=2**16)
def _static(operation: Operation) -> np.ndarray:
    """Return what a node knows of its operation alone."""
    row = np.zeros(len(COLUMNS), dtype=np.float32)
    row[PLACE[operation.verb]] = 1.0
    for name in _functions(operation):
        row[PLACE[name]] = 1.0
    for component, bits in operation.bits.items():
        row[PLACE[f"{component} bits"]] = _width(bits)
    return row


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
