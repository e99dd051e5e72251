"""An architecture as a graph of numbers: what the learned predictor reads.

As in HGNAS and GCoDE a node an operation, in a chain from an input to an output node, and a global node that
is linked to all (arXiv 2303.10875, 2404.05605). A node knows its operation and function by one-hots, its bits
and sizes, and what the look-up table says of it: that is what GCoDE found to matter most.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from sgq.cost.calls import HEAD, Calls
from sgq.models.genotype import (
    OPERATIONS,
    Activation,
    Aggregate,
    Combine,
    Connect,
    Connection,
    EdgeMlp,
    Genotype,
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
_PLACE = {name: place for place, name in enumerate(COLUMNS)}


@dataclass(frozen=True)
class ArchitectureGraph:
    """Node features [nodes, columns]: the global node, input, positions, head layers and output, in order."""

    nodes: np.ndarray


def graph_of(
    genotype: Genotype, calls: Calls, seconds: Sequence[float], made_bytes: Sequence[int]
) -> ArchitectureGraph:
    """Return the graph of a genotype; `seconds` and `made_bytes` are those of its calls, in order."""
    positions = len(genotype.positions)
    layers = len(genotype.head.widths) + 1
    nodes = np.zeros((positions + layers + 3, len(COLUMNS)), dtype=np.float32)
    nodes[0, _PLACE[GLOBAL]] = nodes[1, _PLACE[INPUT]] = nodes[-1, _PLACE[OUTPUT]] = 1.0
    for at, operation in enumerate(genotype.positions, start=2):
        nodes[at] = _static(operation)
    layer = positions + 2
    nodes[layer : layer + layers, _PLACE[LINEAR]] = 1.0
    nodes[layer : layer + layers, _PLACE["input bits"]] = _width(genotype.head.input_bits)
    nodes[layer : layer + layers, _PLACE["weight bits"]] = _width(genotype.head.weight_bits)
    taken = np.zeros(len(nodes))
    held = np.zeros(len(nodes))
    for call, time, size in zip(calls.calls, seconds, made_bytes, strict=True):
        at = layer if call.position == HEAD else call.position + 2
        layer += call.position == HEAD
        taken[at] += time
        held[at] += size
        work = call.work
        row = nodes[at]
        row[_PLACE["channels in"]] = max(row[_PLACE["channels in"]], _size(work.inputs))
        row[_PLACE["channels out"]] = _size(work.outputs)
        row[_PLACE["rows"]] = _size(work.rows)
        row[_PLACE["k"]] = _size(work.edges / work.rows)
    taken[0], held[0] = taken.sum(), held.sum()
    value = calls.values[0]
    nodes[0, _PLACE["rows"]] = nodes[1, _PLACE["rows"]] = _size(value.rows)
    nodes[1, _PLACE["channels out"]] = _size(value.channels)
    nodes[:, _PLACE["log seconds"]] = np.log(np.maximum(taken, SHORTEST_S))
    nodes[:, _PLACE["share of the time"]] = taken / max(taken[0], SHORTEST_S)
    nodes[:, _PLACE["log bytes"]] = np.log(np.maximum(held, 1.0))
    return ArchitectureGraph(nodes)


@lru_cache(maxsize=2**16)
def _static(operation: Operation) -> np.ndarray:
    """Return what a node knows of its operation alone."""
    row = np.zeros(len(COLUMNS), dtype=np.float32)
    row[_PLACE[operation.verb]] = 1.0
    for name in _functions(operation):
        row[_PLACE[name]] = 1.0
    for component, bits in operation.bits.items():
        row[_PLACE[f"{component} bits"]] = _width(bits)
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


def _size(number: float) -> float:
    return math.log2(1.0 + number) / 10
