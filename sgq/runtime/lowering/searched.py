"""A searched model as steps: position by position, from its genotype and its quantizers."""

from __future__ import annotations

from typing import Any

from torch import nn

from quantizers import Quantizer
from sgq.graph.swap import AGGREGATE, ARGUMENT, EDGE_MESSAGE, RESULT, slots_of
from sgq.models.genotype import Aggregate, Combine, Concat, Connect, EdgeMlp, Pool, Sample
from sgq.models.genotype_rules import INPUT, Features, Stage
from sgq.models.searched import SearchedModel
from sgq.runtime.lowering.building import Builder, CannotLower, Value, slot
from sgq.runtime.lowering.cloud_steps import (
    AssembleStep,
    DistanceStep,
    NeighboursStep,
    PoolStep,
    RandomNeighboursStep,
)
from sgq.runtime.lowering.edge_convolution import EdgeConvStep
from sgq.runtime.lowering.graphs import EdgeForm, Edges
from sgq.runtime.lowering.layers import folded_norm, lower_module
from sgq.runtime.lowering.report import LoweredLayer

OWN = EdgeForm(loops="self")
"""An edge from each node to itself for every edge into it: what the target's own row is on its edges."""
MONOTONE = ("max", "min")
"""Reducers that an increasing activation may follow as well as lead."""


class SearchedLowering:
    """Collects the steps of a searched model in a builder; `layers` tells what became of each position."""

    def __init__(self, builder: Builder, model: SearchedModel, buckets: int) -> None:
        if buckets:
            raise CannotLower("bits by degree bucket in a searched model")
        self.builder = builder
        self.model = model
        self.layers: list[LoweredLayer] = []
        self.edges: Edges | None = EdgeForm() if model.has_edges else None
        self.readers = _readers(model)
        self.placed: dict[int, Value] = {}

    def lower(self, features: Value) -> Value:
        """Return the logits that become of the input features."""
        # The input's quantizer sits at the entry; its codes are made beforehand.
        self._place(INPUT, self._left(self.model.entry, features, sole=False))
        for stage, module in zip(self.model.stages, self.model.positions, strict=True):
            made = self._stage(stage, module)
            if made is not None:
                self._place(stage.position, made)
                kind = stage.operation.verb
                self.layers.append(LoweredLayer(f"positions.{stage.position}", kind, True))
        last = self.model.stages[-1].made if self.model.stages else Features(INPUT, self.model.in_channels)
        return self._head(last)

    def _stage(self, stage: Stage, module: Any) -> Value | None:
        """Return what a position makes; None where it leaves features as they are."""
        operation = stage.operation
        if stage.idle:
            return None
        if isinstance(operation, Sample):
            self._sample(operation, stage, module)
            return None
        if isinstance(operation, Aggregate):
            return self._aggregate(operation, stage, module)
        if isinstance(operation, EdgeMlp):
            return self._edge_mlp(operation, stage, module)
        if isinstance(operation, Combine):
            value, sole = self._read(stage.read)
            return self._combination(module, value, sole=sole)
        if isinstance(operation, Pool):
            return self._pool(operation, stage, module)
        if isinstance(operation, Concat) or (isinstance(operation, Connect) and stage.added is not None):
            return self._joined(stage, module)
        return None

    def _sample(self, operation: Sample, stage: Stage, module: nn.Module) -> None:
        number = self.builder.number()
        if operation.method == "random":
            self.builder.used |= {id(one) for one in slots_of(module).values()}
            self.builder.add(RandomNeighboursStep(number, operation.k), number)
        else:
            value = self._entered(module, f"{ARGUMENT}x", *self._read(stage.read))
            self.builder.add(NeighboursStep(value.number, number, operation.k), number)
        self.edges = number

    def _aggregate(self, operation: Aggregate, stage: Stage, module: Any) -> Value:
        value = self._entered(module, f"{ARGUMENT}x", *self._read(stage.read))
        reducer, kind = operation.reducer, operation.message
        needs_source = kind not in ("target", "distance")
        distance = self._distance(value, reducer) if kind in ("distance", "full") else None
        if distance is not None and kind == "distance":
            return self._left(module, distance)
        source = self._gathered(value, reducer, module) if needs_source else None
        if kind == "source":
            assert source is not None
            return self._left(module, source)
        own = self._own(value, reducer, stage.k)
        blocks: list[list[tuple[int, float]]] = []
        if kind in ("target", "target_relative", "full"):
            blocks.append([own])
        if kind in ("source_relative", "full"):
            assert source is not None
            blocks.append([(source.number, 1.0)])
        if source is not None:
            blocks.append([(source.number, 1.0), (own[0], -own[1])])
        if distance is not None:
            blocks.append([(distance.number, 1.0)])
        return self._left(module, self._assembled(blocks, stage.made.channels, "node"))

    def _gathered(self, value: Value, reducer: str, module: nn.Module) -> Value:
        """Return the reduced rows of the sources."""
        made = self.builder.aggregate(value, self._edges(), reducer)
        return self.builder.quantized(made, slot(module, AGGREGATE), sole=True)

    def _own(self, value: Value, reducer: str, k: int | None) -> tuple[int, float]:
        """Return the term that stands for the reduced rows of the targets themselves, on k edges each."""
        if k is not None:
            return value.number, float(k) if reducer == "sum" else 1.0
        # Nodes without edges have 0 there.
        return self.builder.aggregate(value, OWN, reducer).number, 1.0

    def _distance(self, value: Value, reducer: Any) -> Value:
        number, edges = self.builder.number(), self._edges()
        if isinstance(edges, EdgeForm):
            self.builder.forms.add(edges)
        self.builder.add(DistanceStep(value.number, number, edges, reducer), number)
        return Value(number, 1, "node")

    def _edge_mlp(self, operation: EdgeMlp, stage: Stage, module: Any) -> Value:
        value = self._entered(module, f"{ARGUMENT}x", *self._read(stage.read))
        network = module.network
        inner = slot(network.linear, f"{ARGUMENT}input")
        apart = inner is None and slot(module, EDGE_MESSAGE) is None and slot(network.linear, RESULT) is None
        if operation.reducer in MONOTONE and apart:
            made = self._edge_mlp_by_node(operation, value, network)
        else:
            made = self._edge_mlp_by_edge(operation, value, module)
        made = self.builder.quantized(made, slot(module, AGGREGATE), sole=True)
        return self._left(module, made)

    def _edge_mlp_by_node(self, operation: EdgeMlp, value: Value, network: Any) -> Value:
        """Return W_target x_i + reduce_j(W_source x_j), activated: W is linear, the activation increases.

        With W [x_i, x_j − x_i] = (W_1 − W_2) x_i + W_2 x_j, and the norm folded into W and a bias.
        """
        multiply, add = folded_norm(network.norm)
        target, source = self.builder.split_linear(value, network.linear, multiply)
        reduced = self.builder.aggregate(source, self._edges(), operation.reducer)
        made = self._assembled([[(target.number, 1.0), (reduced.number, 1.0)]], operation.width, "node")
        made = self.builder.affine(made, None, add, sole=True)
        return lower_module(self.builder, network.activation, made, sole=True)

    def _edge_mlp_by_edge(self, operation: EdgeMlp, value: Value, module: Any) -> Value:
        inner = Builder(None)
        edges = Value(inner.number(), 2 * value.channels, "edge")
        made = _combined(inner, module.network, edges, sole=False)
        made = inner.quantized(made, slot(module, EDGE_MESSAGE), sole=True)
        self.builder.used |= inner.used
        number, along = self.builder.number(), self._edges()
        if isinstance(along, EdgeForm):
            self.builder.forms.add(along)
        reducer: Any = operation.reducer
        step = EdgeConvStep(
            value.number, number, along, tuple(inner.steps), made.number, made.channels, reducer
        )
        self.builder.add(step, number)
        return Value(number, made.channels)

    def _combination(self, module: Any, value: Value, *, sole: bool) -> Value:
        return _combined(self.builder, module, value, sole=sole)

    def _pool(self, operation: Pool, stage: Stage, module: nn.Module) -> Value:
        value = self._entered(module, f"{ARGUMENT}x", *self._read(stage.read))
        numbers = []
        for reducer in operation.reducers:
            number = self.builder.number()
            self.builder.add(PoolStep(value.number, number, reducer), number)
            numbers.append(number)
        if len(numbers) == 1:
            return self._left(module, Value(numbers[0], value.channels, "graph"))
        blocks = [[(number, 1.0)] for number in numbers]
        return self._left(module, self._assembled(blocks, stage.made.channels, "graph"))

    def _joined(self, stage: Stage, module: nn.Module) -> Value:
        """Return a skip's sum, or features side by side."""
        wanted = stage.joined or (stage.read, stage.added)
        names = range(len(wanted)) if stage.joined else ("x", "earlier")
        numbers = []
        for name, features in zip(names, wanted, strict=True):
            assert features is not None
            numbers.append(self._entered(module, f"{ARGUMENT}{name}", *self._read(features)).number)
        blocks = (
            [[(number, 1.0)] for number in numbers]
            if stage.joined
            else [[(number, 1.0) for number in numbers]]
        )
        level: Any = "node" if stage.made.rows == "nodes" else "graph"
        return self._left(module, self._assembled(blocks, stage.made.channels, level))

    def _assembled(self, blocks: list[list[tuple[int, float]]], channels: int, level: Any) -> Value:
        number = self.builder.number()
        self.builder.add(AssembleStep(tuple(map(tuple, blocks)), number), number)
        return Value(number, channels, level)

    def _head(self, last: Features) -> Value:
        head = self.model.head
        value, sole = self._read(last)
        for number, (layer, dropout) in enumerate(zip(head.hidden, head.dropouts, strict=True)):
            value = self._combination(layer, value, sole=sole)
            value = self._through(dropout, value, sole=True)
            sole = True
            self.layers.append(LoweredLayer(f"head.hidden.{number}", "combine", True))
        self.layers.append(LoweredLayer("head.last", "linear", True))
        return self.builder.linear(value, head.last, sole=sole)

    def _edges(self) -> Edges:
        assert self.edges is not None
        return self.edges

    def _place(self, position: int, value: Value) -> None:
        self.placed[position] = value

    def _read(self, features: Features) -> tuple[Value, bool]:
        """Return features as a value, and whether nothing else reads them."""
        return self.placed[features.made_by], self.readers[features.made_by] == 1

    def _through(self, module: nn.Module, value: Value, *, sole: bool) -> Value:
        """Return a value through a module that changes nothing, but for its quantizers."""
        entered = self._entered(module, f"{ARGUMENT}input", value, sole)
        return self._left(module, entered, sole=sole or entered.number != value.number)

    def _entered(self, module: nn.Module, name: str, value: Value, sole: bool) -> Value:
        quantizer: Quantizer | None = slot(module, name)
        return self.builder.quantized(value, quantizer, sole=sole)

    def _left(self, module: nn.Module, value: Value, *, sole: bool = True) -> Value:
        return self.builder.quantized(value, slot(module, RESULT), sole=sole)


def _combined(builder: Builder, module: Any, value: Value, *, sole: bool) -> Value:
    """Return a combination of a value: linear layer, norm, activation, and the quantizers at each."""
    value = builder.linear(value, module.linear, sole=sole)
    value = lower_module(builder, module.norm, value, sole=True)
    return lower_module(builder, module.activation, value, sole=True)


def _readers(model: SearchedModel) -> dict[int, int]:
    """Return how many positions read the features that each position made."""
    counts: dict[int, int] = {INPUT: 0}
    for stage in model.stages:
        counts.setdefault(stage.made.made_by, 0)
        for features in stage.reads:
            counts[features.made_by] += 1
    last = model.stages[-1].made.made_by if model.stages else INPUT
    counts[last] += 1
    return counts
