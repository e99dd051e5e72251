"""The steps of a lowered model: each reads values by number and writes one, or lets torch do it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from quantizers.spec import FLOAT_BITS
from sgq.graph.buckets import bound_buckets
from sgq.runtime import kernels
from sgq.runtime.features import BitFeatures, SparseFeatures
from sgq.runtime.finish import Finish
from sgq.runtime.kernels.contract import AttentionKind, Reduction
from sgq.runtime.lowering.graphs import EdgeForm, Edges, PreparedInputs
from sgq.runtime.packed import VECTOR, PackedTensor, layout_of, pack_rows, with_head_padding
from sgq.runtime.quantization import Quantization
from sgq.runtime.weights import IntegerWeight
from sgq.runtime.workspace import AT_ONCE, Workspace

Values = dict[int, Any]


class Step(Protocol):
    """One step: which values it reads, which it writes, and how."""

    @property
    def inputs(self) -> tuple[int, ...]:
        """The numbers of the values that it reads."""
        ...

    def run(self, values: Values, inputs: PreparedInputs, workspace: Workspace) -> None:
        """Read and write values."""
        ...

    def tensors(self) -> Iterator[Tensor]:
        """Yield what it holds in memory."""
        ...


@dataclass
class LinearStep:
    """Rows times a weight, plus another value where `addend` names one.

    `score_vectors` [vectors, width] make attention's scores, each a value of `score_outputs` [rows, heads].
    """

    source: int
    output: int
    weight: IntegerWeight
    finish: Finish = field(default_factory=Finish)
    addend: int | None = None
    score_vectors: Tensor | None = None
    score_outputs: tuple[int, ...] = ()
    score_heads: int = 1

    @property
    def inputs(self) -> tuple[int, ...]:
        """The numbers of the values that it reads."""
        return (self.source,) if self.addend is None else (self.source, self.addend)

    def run(self, values: Values, inputs: PreparedInputs, workspace: Workspace) -> None:
        """Multiply, and finish."""
        x = values[self.source]
        if self.weight.form == "float" and not isinstance(x, PackedTensor):
            x = in_float_rows(x, workspace)
        scores = None
        if self.score_vectors is not None:
            count, heads = self.score_vectors.size(0), self.score_heads
            room = workspace.empty(count, rows_of(x), heads)
            scores = kernels.Scores(self.score_vectors, room, heads)
            values |= zip(self.score_outputs, room, strict=True)
        addend = None if self.addend is None else in_float(values[self.addend], workspace)
        values[self.output] = kernels.linear(
            x, self.weight, for_rows(self.finish, inputs), addend=addend, scores=scores, workspace=workspace
        )

    def tensors(self) -> Iterator[Tensor]:
        """Yield what it holds in memory."""
        yield from self.weight.tensors()
        yield from self.finish.tensors()
        if self.score_vectors is not None:
            yield self.score_vectors


@dataclass
class AggregateStep:
    """Rows brought together over edges, by attention where `coefficients` names it."""

    source: int
    output: int
    edges: Edges
    reduction: Reduction = "sum"
    coefficients: int | None = None
    heads: int = 1
    finish: Finish = field(default_factory=Finish)

    @property
    def inputs(self) -> tuple[int, ...]:
        """The numbers of the values that it reads."""
        optional = (self.coefficients, self.edges if isinstance(self.edges, int) else None)
        return (self.source, *(number for number in optional if number is not None))

    def run(self, values: Values, inputs: PreparedInputs, workspace: Workspace) -> None:
        """Gather, reduce and finish."""
        coefficients = None if self.coefficients is None else values[self.coefficients]
        values[self.output] = kernels.aggregate(
            inputs.edges(self.edges, values),
            in_float_rows(values[self.source], workspace, heads=self.heads),
            for_rows(self.finish, inputs),
            reduction=self.reduction,
            coefficients=coefficients,
            workspace=workspace,
        )

    def tensors(self) -> Iterator[Tensor]:
        """Yield what it holds in memory."""
        yield from self.finish.tensors()


@dataclass
class AttentionStep:
    """Attention of edges from node rows: additive scores, GATv2's or AGNN's."""

    source: int
    target: int
    output: int
    form: EdgeForm
    kind: AttentionKind
    heads: int
    vector: Tensor
    slope: float
    quantization: Quantization | None

    @property
    def inputs(self) -> tuple[int, ...]:
        """The numbers of the values that it reads."""
        return (self.source, self.target)

    def run(self, values: Values, inputs: PreparedInputs, workspace: Workspace) -> None:
        """Score, softmax, quantize."""
        values[self.output] = kernels.attention(
            inputs.graphs[self.form],
            in_float_rows(values[self.source], workspace),
            in_float_rows(values[self.target], workspace),
            kind=self.kind,
            heads=self.heads,
            vector=self.vector,
            slope=self.slope,
            quantization=self.quantization,
            workspace=workspace,
        )

    def tensors(self) -> Iterator[Tensor]:
        """Yield what it holds in memory."""
        yield self.vector


@dataclass
class PointwiseStep:
    """Scale, bias, activation and codes of rows that nothing before could finish."""

    source: int
    output: int
    finish: Finish

    @property
    def inputs(self) -> tuple[int, ...]:
        """The numbers of the values that it reads."""
        return (self.source,)

    def run(self, values: Values, inputs: PreparedInputs, workspace: Workspace) -> None:
        """Finish."""
        rows = in_float(values[self.source], workspace)
        finish = for_rows(self.finish, inputs)
        values[self.output] = kernels.finish_values(rows, finish, workspace=workspace)

    def tensors(self) -> Iterator[Tensor]:
        """Yield what it holds in memory."""
        yield from self.finish.tensors()


@dataclass
class TorchStep:
    """What torch computes in float: `function` of the values; a module that stays simulated, or glue."""

    sources: tuple[int, ...]
    output: int
    function: Callable[[Values, PreparedInputs], Any]
    module: nn.Module | None = None

    @property
    def inputs(self) -> tuple[int, ...]:
        """The numbers of the values that it reads."""
        return self.sources

    def run(self, values: Values, inputs: PreparedInputs, workspace: Workspace) -> None:
        """Call it, with the graph's buckets bound."""
        given = {number: values[number] for number in self.sources}

        def call() -> Any:
            with bound_buckets(inputs.bucket):
                return self.function(given, inputs)

        values[self.output] = workspace.computed(call)

    def tensors(self) -> Iterator[Tensor]:
        """Yield what it holds in memory."""
        if self.module is not None:
            yield from self.module.state_dict().values()


def for_rows(finish: Finish, inputs: PreparedInputs) -> Finish:
    """Return a finish whose codes go by the segments of these inputs."""
    if finish.quantization is None or not finish.quantization.spec.bucketed:
        return finish
    return replace(finish, rows=inputs.rows)


def rows_of(value: Any) -> int:
    """Return how many rows a value has."""
    if isinstance(value, PackedTensor):
        return value.layout.rows
    return value.rows if isinstance(value, (SparseFeatures, BitFeatures)) else int(value.size(0))


def in_float(value: Any, workspace: Workspace = AT_ONCE) -> Any:
    """Return rows as an fp32 tensor [rows, width]; anything else as it is."""
    if isinstance(value, PackedTensor):
        return workspace.computed(lambda: with_head_padding(value.values(), value.layout))
    if isinstance(value, Tensor) and value.layout == torch.sparse_csr:
        return workspace.computed(value.to_dense)
    if isinstance(value, (SparseFeatures, BitFeatures)):
        return workspace.computed(value.values)
    return value


def in_float_rows(value: Any, workspace: Workspace, *, heads: int = 1) -> PackedTensor:
    """Return rows as a packed tensor; fp32 ones as rows of 32 bits."""
    if isinstance(value, PackedTensor):
        return value
    rows = in_float(value, workspace)
    width = rows.flatten(1).size(1)
    layout = layout_of((rows.size(0),), width // heads, (FLOAT_BITS,), heads=heads)
    if rows.dtype == torch.float32 and rows.is_contiguous() and width % VECTOR == 0:
        codes = rows.view(-1).view(torch.uint8)
    else:
        codes = workspace.computed(lambda: pack_rows(rows.float().reshape(rows.size(0), width), layout))
    neutral = torch.tensor([[1.0, 0.0]], device=rows.device)
    return PackedTensor(codes, neutral, "segment", layout)
