"""A genotype as the kernel calls that run it, with the values between them.

A genotype with bits runs on integer kernels as `sgq.lower` makes them, one in fp32 on torch. Every price is
made of these calls: latency of their measured or modelled times, memory of the values that are alive.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from quantizers.spec import FLOAT_BITS
from sgq.cost.workload import Workload
from sgq.errors import ModelError
from sgq.models.genotype import (
    Aggregate,
    Combine,
    Concat,
    Connect,
    EdgeMlp,
    Genotype,
    Message,
    Pool,
    Sample,
)
from sgq.models.genotype_rules import INPUT, Features, Stage, computes_narrow, last_features, stages_of

Runtime = Literal["float", "integer"]
Kind = Literal["knn", "random", "gather", "distance", "assemble", "linear", "edge_network", "pool"]
HEAD = -2
"""The position of calls of the head."""
MONOTONE = ("max", "min")
INDEX_BITS = 32
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


@dataclass(frozen=True)
class Value:
    """What a call reads or makes: rows of channels at some bits, or with `edges` the ends of edges."""

    rows: int
    channels: int
    bits: int = FLOAT_BITS
    edges: int = 0


@dataclass(frozen=True)
class Work:
    """What one kernel call does, and on how much: what its time depends on.

    `variant` is the reducer of a gather or pool, the method of a sampling, the shape of an assembly
    ("blocks x terms") or the activation of a linear layer. `edges` are those that are read, over all rows.
    """

    runtime: Runtime
    kind: Kind
    variant: str
    rows: int
    edges: int
    inputs: int
    outputs: int
    input_bits: int = FLOAT_BITS
    weight_bits: int = FLOAT_BITS
    output_bits: int = FLOAT_BITS
    clouds: int = 1

    @property
    def flops(self) -> int:
        """Floating point (or integer) operations, a multiply-add counting as two."""
        if self.kind == "knn":
            # Squared distances of all pairs; choosing the nearest compares and is not counted.
            return 2 * self.rows * (self.rows // self.clouds) * self.inputs
        if self.kind == "linear":
            return 2 * self.rows * self.inputs * self.outputs
        if self.kind == "edge_network":
            return 2 * self.edges * 2 * self.inputs * self.outputs
        if self.kind == "random":
            return 0
        if self.kind in ("gather", "distance"):
            return (3 if self.kind == "distance" else 1) * self.edges * self.inputs
        return self.rows * self.outputs if self.kind == "assemble" else self.rows * self.inputs

    @property
    def weight_values(self) -> int:
        """Numbers of its weight."""
        if self.kind == "linear":
            return self.inputs * self.outputs
        return 2 * self.inputs * self.outputs if self.kind == "edge_network" else 0

    @property
    def bytes_moved(self) -> float:
        """Bytes that it reads and writes, each once: gathered rows once an edge."""
        read = (self.edges or self.rows) * self.inputs * self.input_bits
        if self.kind in ("knn", "linear", "assemble", "pool"):
            read = self.rows * self.inputs * self.input_bits
        if self.kind == "random":
            read = 0
        written = self.rows * self.outputs * self.output_bits
        # int32 sources on integers; int64 sources and targets on torch.
        ends = self.edges * (INDEX_BITS if self.runtime == "integer" else 4 * INDEX_BITS)
        return (read + written + ends + self.weight_values * self.weight_bits) / 8


@dataclass(frozen=True)
class Call:
    """One kernel call: its work, the position of the genotype that it belongs to, and values by number."""

    work: Work
    position: int
    reads: tuple[int, ...]
    writes: int


@dataclass(frozen=True)
class Calls:
    """All calls in order, and their values; value 0 is the input, `output` the logits."""

    calls: tuple[Call, ...]
    values: tuple[Value, ...]
    output: int
    runtime: Runtime


def calls_of(genotype: Genotype, workload: Workload) -> Calls:
    """Return the calls that run a genotype; raise ModelError for one that cannot run on the workload."""
    stages = stages_of(genotype, workload.features, has_edges=workload.has_edges)
    return _Writing(genotype, workload, stages).written()


class _Writing:
    """Writes calls down, stage by stage."""

    def __init__(self, genotype: Genotype, workload: Workload, stages: tuple[Stage, ...]) -> None:
        self.genotype = genotype
        self.workload = workload
        self.stages = stages
        self.runtime: Runtime = "integer" if computes_narrow(genotype, stages) else "float"
        self.bits = kept_bits(genotype, stages, workload.features)
        self.calls: list[Call] = []
        self.values: list[Value] = []
        self.numbers: dict[int, int] = {}
        self.edges: int | None = None
        self.edge_count = workload.edges * workload.batch

    def written(self) -> Calls:
        first = Features(INPUT, self.workload.features)
        self.numbers[INPUT] = self._value(
            self.workload.rows, first.channels, self.bits.get(INPUT, FLOAT_BITS)
        )
        if self.workload.has_edges:
            self.edges = self._edges(self.edge_count)
        for stage in self.stages:
            self._stage(stage)
        output = self._head()
        return Calls(tuple(self.calls), tuple(self.values), output, self.runtime)

    def _stage(self, stage: Stage) -> None:
        operation = stage.operation
        if stage.idle:
            return
        if isinstance(operation, Sample):
            self._sample(operation, stage)
        elif isinstance(operation, Aggregate):
            self._aggregate(operation, stage)
        elif isinstance(operation, EdgeMlp):
            self._edge_mlp(operation, stage)
        elif isinstance(operation, Combine):
            source = self.numbers[stage.read.made_by]
            self._place(stage, self._layer(stage.position, source, stage.made.channels,
                                           operation.activation, operation.weight_bits,
                                           self._bits(stage)))  # fmt: skip
        elif isinstance(operation, Pool):
            self._pool(operation, stage)
        elif isinstance(operation, Concat) or (isinstance(operation, Connect) and stage.added is not None):
            wanted = stage.joined or (stage.read, stage.added)
            reads = tuple(self.numbers[one.made_by] for one in wanted if one is not None)
            variant = f"{len(reads)}x1" if stage.joined else "1x2"
            self._place(stage, self._assembled(stage.position, variant, reads, stage.made, self._bits(stage)))

    def _sample(self, operation: Sample, stage: Stage) -> None:
        rows, source = self.workload.rows, self.numbers[stage.read.made_by]
        self.edge_count = rows * operation.k
        self.edges = self._edges(self.edge_count)
        knn = operation.method == "knn"
        work = Work(
            self.runtime, "knn" if knn else "random", operation.method, rows, self.edge_count,
            stage.read.channels, 0, self.values[source].bits, clouds=self.workload.batch,
        )  # fmt: skip
        self.calls.append(Call(work, stage.position, (source,) if knn else (), self.edges))

    def _aggregate(self, operation: Aggregate, stage: Stage) -> None:
        source, made = self.numbers[stage.read.made_by], stage.made
        kind, reducer = operation.message, operation.reducer
        bits = self._bits(stage)
        parts = []
        for wanted, message in ALONG_EDGES[kind]:
            alone = kind == message
            channels = 1 if wanted == "distance" else stage.read.channels
            brought = self._along(wanted, reducer, stage, source, channels, bits if alone else FLOAT_BITS)
            if alone:
                self._place(stage, brought)
                return
            parts.append(brought)
        own = source
        if stage.k is None:
            # Nodes without edges have nothing of their own there.
            own = self._along("gather", reducer, stage, source, stage.read.channels, FLOAT_BITS)
        shapes = {
            "target": "1x1", "relative": "1x2", "source_relative": "2x2", "target_relative": "2x2",
            "full": "4x2",
        }  # fmt: skip
        self._place(stage, self._assembled(stage.position, shapes[kind], (own, *parts), made, bits))

    def _along(self, kind: Kind, reducer: str, stage: Stage, source: int, channels: int, bits: int) -> int:
        """Write a call that reads rows along edges."""
        assert self.edges is not None
        rows = self.workload.rows
        number = self._value(rows, channels, bits)
        work = Work(
            self.runtime, kind, reducer, rows, self.edge_count, stage.read.channels, channels,
            self.values[source].bits, output_bits=bits, clouds=self.workload.batch,
        )  # fmt: skip
        self.calls.append(Call(work, stage.position, (source, self.edges), number))
        return number

    def _edge_mlp(self, operation: EdgeMlp, stage: Stage) -> None:
        source, width, position = self.numbers[stage.read.made_by], operation.width, stage.position
        bits = self._bits(stage)
        if self.runtime == "integer" and operation.reducer in MONOTONE:
            own = self._linear(position, source, width, "none", operation.weight_bits, FLOAT_BITS)
            other = self._linear(position, source, width, "none", operation.weight_bits, FLOAT_BITS)
            through = replace(stage, read=Features(stage.read.made_by, width))
            brought = self._along("gather", operation.reducer, through, other, width, FLOAT_BITS)
            self._place(stage, self._assembled(position, "1x2", (own, brought), stage.made, bits))
            return
        if self.runtime == "integer":
            raise ModelError(
                f"position {position}: edge_mlp by {operation.reducer} runs edge by edge on integers, which "
                "has no price: reduce by max or min, or leave it in fp32"
            )
        assert self.edges is not None
        rows = self.workload.rows
        number = self._value(rows, width, bits)
        work = Work(
            self.runtime, "edge_network", operation.reducer, rows, self.edge_count, stage.read.channels,
            width, self.values[source].bits, operation.weight_bits, bits, self.workload.batch,
        )  # fmt: skip
        self.calls.append(Call(work, position, (source, self.edges), number))
        self._place(stage, number)

    def _pool(self, operation: Pool, stage: Stage) -> None:
        source, channels = self.numbers[stage.read.made_by], stage.read.channels
        bits, several = self._bits(stage), len(operation.reducers) > 1
        made = []
        for reducer in operation.reducers:
            written = FLOAT_BITS if several else bits
            number = self._value(self.workload.batch, channels, written)
            work = Work(
                self.runtime, "pool", reducer, self.workload.rows, 0, channels, channels,
                self.values[source].bits, output_bits=written, clouds=self.workload.batch,
            )  # fmt: skip
            self.calls.append(Call(work, stage.position, (source,), number))
            made.append(number)
        if several:
            made = [self._assembled(stage.position, f"{len(made)}x1", tuple(made), stage.made, bits)]
        self._place(stage, made[0])

    def _assembled(
        self, position: int, variant: str, reads: tuple[int, ...], made: Features, bits: int
    ) -> int:
        rows = self._rows(made)
        number = self._value(rows, made.channels, bits)
        inputs = sum(self.values[read].channels for read in reads)
        narrowest = min(self.values[read].bits for read in reads)
        work = Work(
            self.runtime, "assemble", variant, rows, 0, inputs, made.channels, narrowest, output_bits=bits,
            clouds=self.workload.batch,
        )  # fmt: skip
        self.calls.append(Call(work, position, reads, number))
        return number

    def _layer(
        self, position: int, source: int, width: int, activation: str, weight_bits: int, bits: int
    ) -> int:
        """Write a layer of its own; a weight of one input is a vector, which like a bias stays in fp32."""
        weight_bits = FLOAT_BITS if self.values[source].channels == 1 else weight_bits
        return self._linear(position, source, width, activation, weight_bits, bits)

    def _linear(
        self, position: int, source: int, width: int, activation: str, weight_bits: int, bits: int
    ) -> int:
        value = self.values[source]
        number = self._value(value.rows, width, bits)
        work = Work(
            self.runtime, "linear", activation, value.rows, 0, value.channels, width, value.bits, weight_bits,
            bits, self.workload.batch,
        )  # fmt: skip
        self.calls.append(Call(work, position, (source,), number))
        return number

    def _head(self) -> int:
        head = self.genotype.head
        source = self.numbers[last_features(self.stages, self.workload.features).made_by]
        for width in head.widths:
            source = self._layer(HEAD, source, width, head.activation, head.weight_bits, head.input_bits)
        return self._layer(HEAD, source, self.workload.classes, "none", head.weight_bits, FLOAT_BITS)

    def _rows(self, made: Features) -> int:
        return self.workload.rows if made.rows == "nodes" else self.workload.batch

    def _bits(self, stage: Stage) -> int:
        return self.bits.get(stage.position, FLOAT_BITS)

    def _place(self, stage: Stage, number: int) -> None:
        self.numbers[stage.position] = number

    def _value(self, rows: int, channels: int, bits: int) -> int:
        self.values.append(Value(rows, channels, bits))
        return len(self.values) - 1

    def _edges(self, count: int) -> int:
        self.values.append(Value(self.workload.rows, 0, edges=count))
        return len(self.values) - 1


def kept_bits(genotype: Genotype, stages: tuple[Stage, ...], in_channels: int) -> dict[int, int]:
    """Return the bits in which features are kept, by the position that made them; others are in fp32."""
    kept: dict[int, int] = {}
    for stage in stages:
        if not stage.reads:
            continue
        for component, bits in stage.operation.bits.items():
            if component != "weight":
                kept.setdefault(stage.read.made_by, bits)
    kept.setdefault(last_features(stages, in_channels).made_by, genotype.head.input_bits)
    return kept
