"""The kernel calls of one position of a genotype, from what they depend on alone.

Architectures of one space have most of their positions in common, so the calls of a position are written
once and remembered. A genotype with bits runs on integer kernels as `sgq.lower` makes them, one in fp32 on
torch.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from quantizers.spec import FLOAT_BITS
from sgq.cost.work import Call, Kind, Runtime, Value, Work
from sgq.errors import ModelError
from sgq.models.genotype import (
    Aggregate,
    Combine,
    Concat,
    Connect,
    EdgeMlp,
    Head,
    Message,
    Operation,
    Pool,
    Sample,
)

MONOTONE = ("max", "min")
REMEMBERED = 2**16
"""Positions whose calls are remembered."""
_SOURCE: tuple[Kind, Message] = ("gather", "source")
_DISTANCE: tuple[Kind, Message] = ("distance", "distance")
ALONG_EDGES: dict[Message, tuple[tuple[Kind, Message], ...]] = {
    "source": (_SOURCE,),
    "target": (),
    "relative": (_SOURCE,),
    "source_relative": (_SOURCE,),
    "target_relative": (_SOURCE,),
    "distance": (_DISTANCE,),
    "full": (_DISTANCE, _SOURCE),
}
"""The calls along edges that each message needs, and the message that each of them is by itself."""
SHAPES: dict[Message, str] = {
    "target": "1x1",
    "relative": "1x2",
    "source_relative": "2x2",
    "target_relative": "2x2",
    "full": "4x2",
}
"""The assembly of each message that is more than one call along edges, blocks x terms."""


class Setting(NamedTuple):
    """What the calls of a position, or of the head, depend on.

    `reads` are the features that it reads, its own first; `made` those that it makes. `edges` are the
    neighbours that it samples or may read along, `own_edges` says that they are the data's own, of which a
    node may have none. `clouds` are the graphs of a batch.
    """

    runtime: Runtime
    operation: Operation | Head
    reads: tuple[Value, ...]
    made: Value
    edges: Value | None = None
    own_edges: bool = False
    clouds: int = 1

    @property
    def samples(self) -> bool:
        """Whether it makes neighbours instead of reading along them."""
        return isinstance(self.operation, Sample)

    @property
    def draws(self) -> bool:
        """Whether it makes random neighbours."""
        return isinstance(self.operation, Sample) and self.operation.method == "random"

    @property
    def given(self) -> int:
        """How many values are there before its calls: `reads`, then the edges unless it samples them."""
        return len(self.reads) + (self.edges is not None and not self.samples)


class StageCalls(NamedTuple):
    """Calls in order, and their values; the first `given` were there before, the last call makes the result.

    `asked` are those of the given ones that a call reads.
    """

    calls: tuple[Call, ...]
    values: tuple[Value, ...]
    given: int
    asked: frozenset[int]


@lru_cache(maxsize=REMEMBERED)
def stage_calls(setting: Setting) -> StageCalls:
    """Return the calls of a position; raise ModelError for one that has no price."""
    writing = _Writing(setting)
    writing.write()
    given = setting.given
    asked = frozenset(number for call in writing.calls for number in call.reads if number < given)
    return StageCalls(tuple(writing.calls), tuple(writing.values), given, asked)


class _Writing:
    """Writes calls down; the number of the features read is 0."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.runtime = setting.runtime
        self.calls: list[Call] = []
        self.values: list[Value] = list(setting.reads)
        self.edges: int | None = None
        if setting.edges is not None and not setting.samples:
            self.edges = len(self.values)
            self.values.append(setting.edges)

    def write(self) -> None:
        operation, made = self.setting.operation, self.setting.made
        if isinstance(operation, Sample):
            self._sample(operation)
        elif isinstance(operation, Aggregate):
            self._aggregate(operation)
        elif isinstance(operation, EdgeMlp):
            self._edge_mlp(operation)
        elif isinstance(operation, Combine):
            self._layer(0, made.channels, operation.activation, operation.weight_bits, made.bits)
        elif isinstance(operation, Pool):
            self._pool(operation)
        elif isinstance(operation, Concat | Connect):
            reads = tuple(range(len(self.setting.reads)))
            self._assembled(f"{len(reads)}x1" if isinstance(operation, Concat) else "1x2", reads, made)
        elif isinstance(operation, Head):
            self._head(operation)

    def _sample(self, operation: Sample) -> None:
        read, edges = self.setting.reads[0], self.setting.edges
        assert edges is not None
        knn = operation.method == "knn"
        work = Work(
            self.runtime, "knn" if knn else "random", operation.method, read.rows, edges.edges,
            read.channels, 0, read.bits, clouds=self.setting.clouds,
        )  # fmt: skip
        self._call(work, (0,) if knn else (), edges)

    def _aggregate(self, operation: Aggregate) -> None:
        kind, reducer, made = operation.message, operation.reducer, self.setting.made
        channels = self.setting.reads[0].channels
        parts = []
        for wanted, message in ALONG_EDGES[kind]:
            alone = kind == message
            wide = 1 if wanted == "distance" else channels
            parts.append(self._along(wanted, reducer, 0, wide, made.bits if alone else FLOAT_BITS))
            if alone:
                return
        own = 0
        if self.setting.own_edges:
            # Nodes without edges have nothing of their own there.
            own = self._along("gather", reducer, 0, channels, FLOAT_BITS)
        self._assembled(SHAPES[kind], (own, *parts), made)

    def _along(self, kind: Kind, reducer: str, source: int, channels: int, bits: int) -> int:
        """Write a call that reads rows along edges."""
        assert self.edges is not None
        read = self.values[source]
        work = Work(
            self.runtime, kind, reducer, read.rows, self.values[self.edges].edges, read.channels, channels,
            read.bits, output_bits=bits, clouds=self.setting.clouds,
        )  # fmt: skip
        return self._call(work, (source, self.edges), Value(read.rows, channels, bits))

    def _edge_mlp(self, operation: EdgeMlp) -> None:
        read, made, width = self.setting.reads[0], self.setting.made, operation.width
        if self.runtime == "integer" and operation.reducer in MONOTONE:
            own = self._linear(0, width, "none", operation.weight_bits, FLOAT_BITS)
            other = self._linear(0, width, "none", operation.weight_bits, FLOAT_BITS)
            brought = self._along("gather", operation.reducer, other, width, FLOAT_BITS)
            self._assembled("1x2", (own, brought), made)
            return
        if self.runtime == "integer":
            raise ModelError(
                f"edge_mlp by {operation.reducer} runs edge by edge on integers, which has no price: reduce "
                "by max or min, or leave it in fp32"
            )
        assert self.edges is not None
        work = Work(
            self.runtime, "edge_network", operation.reducer, read.rows, self.values[self.edges].edges,
            read.channels, width, read.bits, operation.weight_bits, made.bits, self.setting.clouds,
        )  # fmt: skip
        self._call(work, (0, self.edges), made)

    def _pool(self, operation: Pool) -> None:
        read, made = self.setting.reads[0], self.setting.made
        several = len(operation.reducers) > 1
        bits = FLOAT_BITS if several else made.bits
        parts = []
        for reducer in operation.reducers:
            work = Work(
                self.runtime, "pool", reducer, read.rows, 0, read.channels, read.channels, read.bits,
                output_bits=bits, clouds=self.setting.clouds,
            )  # fmt: skip
            parts.append(self._call(work, (0,), Value(made.rows, read.channels, bits)))
        if several:
            self._assembled(f"{len(parts)}x1", tuple(parts), made)

    def _assembled(self, variant: str, reads: tuple[int, ...], made: Value) -> int:
        read = [self.values[number] for number in reads]
        widths = {one.bits for one in read}
        work = Work(
            self.runtime, "assemble", variant, made.rows, 0, sum(one.channels for one in read), made.channels,
            min(widths), output_bits=made.bits, clouds=self.setting.clouds,
            mixed_row_bits=sum(one.channels * one.bits for one in read) if len(widths) > 1 else 0,
        )  # fmt: skip
        return self._call(work, reads, made)

    def _head(self, head: Head) -> None:
        source = 0
        for width in head.widths:
            source = self._layer(source, width, head.activation, head.weight_bits, head.input_bits)
        self._layer(source, self.setting.made.channels, "none", head.weight_bits, FLOAT_BITS)

    def _layer(self, source: int, width: int, activation: str, weight_bits: int, bits: int) -> int:
        """Write a layer of its own; a weight of one input is a vector, which like a bias stays in fp32."""
        weight_bits = FLOAT_BITS if self.values[source].channels == 1 else weight_bits
        return self._linear(source, width, activation, weight_bits, bits)

    def _linear(self, source: int, width: int, activation: str, weight_bits: int, bits: int) -> int:
        read = self.values[source]
        work = Work(
            self.runtime, "linear", activation, read.rows, 0, read.channels, width, read.bits, weight_bits,
            bits, self.setting.clouds,
        )  # fmt: skip
        return self._call(work, (source,), Value(read.rows, width, bits))

    def _call(self, work: Work, reads: tuple[int, ...], made: Value) -> int:
        self.values.append(made)
        self.calls.append(Call(work, reads, len(self.values) - 1))
        return len(self.values) - 1
