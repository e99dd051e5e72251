"""Integer kernels: one name each, with implementations in torch (any device), numba (CPU) and Triton (CUDA).

Which one runs goes by the device of the codes, unless `implementation` names one. All give the same
numbers but for the order of their sums. On a CPU, a `workspace` decides where results lie and when they are
computed; elsewhere they are computed at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sgq.errors import ModelError
from sgq.runtime.finish import Finish
from sgq.runtime.kernels.clouds import assemble, edge_distances, neighbours
from sgq.runtime.kernels.contract import (
    AttentionKind,
    EdgeAttention,
    Implementation,
    Reduction,
    Scores,
    Term,
)
from sgq.runtime.kernels.dispatch import check_finish, clipped, clips_rows, kernel_of
from sgq.runtime.packed import PackedTensor
from sgq.runtime.quantization import Quantization
from sgq.runtime.workspace import AT_ONCE, Workspace

if TYPE_CHECKING:
    from sgq.runtime.csr import Csr
    from sgq.runtime.features import BitFeatures, SparseFeatures
    from sgq.runtime.weights import IntegerWeight

__all__ = [
    "EdgeAttention",
    "Scores",
    "Term",
    "aggregate",
    "assemble",
    "attention",
    "edge_distances",
    "finish_values",
    "linear",
    "neighbours",
    "quantize",
]


def aggregate(
    graph: Csr,
    x: PackedTensor,
    finish: Finish,
    *,
    reduction: Reduction = "sum",
    coefficients: EdgeAttention | None = None,
    implementation: Implementation | None = None,
    workspace: Workspace = AT_ONCE,
) -> Tensor | PackedTensor:
    """Return, for every node, the rows of its sources brought together and finished.

    "sum" weighs by the graph's weights where it has some, or by `coefficients`, an edge and head each;
    "mean", "max" and "min" do not. Nodes without edges get 0 before the finish.
    """
    if clips_rows(finish):
        values = aggregate(
            graph, x, finish.in_float(), reduction=reduction, coefficients=coefficients,
            implementation=implementation, workspace=workspace,
        )  # fmt: skip
        return clipped(values, finish, workspace)
    check_finish(finish, graph.rows, x.layout.width)
    if x.layout.rows != graph.sources:
        raise ModelError(f"expected rows of {graph.sources} sources (got {x.layout.rows})")
    if coefficients is not None and coefficients.codes.size(0) != graph.edges:
        raise ModelError(f"expected attention of {graph.edges} edges (got {coefficients.codes.size(0)})")
    kernel = kernel_of("aggregate", x.codes.device, implementation, workspace)
    return kernel(graph, x, finish, reduction=reduction, coefficients=coefficients)


def linear(
    x: PackedTensor | SparseFeatures | BitFeatures,
    weight: IntegerWeight,
    finish: Finish,
    *,
    addend: Tensor | None = None,
    scores: Scores | None = None,
    implementation: Implementation | None = None,
    workspace: Workspace = AT_ONCE,
) -> Tensor | PackedTensor:
    """Return x · weight, plus `addend` [rows, channels], finished; fill `scores` where given.

    The weight's form goes with x: "tiles" for packed rows of at most 8 bits whose codes share a scale over
    channels, "rows" for sparse features, "tables" for bits, "float" for any packed rows.
    """
    if clips_rows(finish):
        values = linear(
            x, weight, finish.in_float(), addend=addend, scores=scores, implementation=implementation,
            workspace=workspace,
        )  # fmt: skip
        return clipped(values, finish, workspace)
    inputs = x.layout.width if isinstance(x, PackedTensor) else x.channels
    if inputs != weight.inputs:
        raise ModelError(f"expected rows of {weight.inputs} channels (got {inputs})")
    rows = x.layout.rows if isinstance(x, PackedTensor) else x.rows
    check_finish(finish, rows, weight.outputs)
    if addend is not None and (addend.shape != (rows, weight.outputs) or addend.dtype != torch.float32):
        raise ModelError(f"expected an addend of fp32 {(rows, weight.outputs)} (got {tuple(addend.shape)})")
    if scores is not None:
        wanted = (scores.vectors.size(0), rows, scores.heads)
        if scores.values.shape != wanted or scores.vectors.size(1) != weight.outputs:
            raise ModelError(f"expected room for scores {wanted} (got {tuple(scores.values.shape)})")
    kernel = kernel_of("linear", weight.data.device, implementation, workspace)
    return kernel(x, weight, finish, addend=addend, scores=scores)


def attention(
    graph: Csr,
    source: PackedTensor,
    target: PackedTensor,
    *,
    kind: AttentionKind,
    heads: int,
    vector: Tensor,
    slope: float = 0.0,
    quantization: Quantization | None = None,
    implementation: Implementation | None = None,
    workspace: Workspace = AT_ONCE,
) -> EdgeAttention:
    """Return the softmax, over the edges into each node, of the edges' scores; codes by `quantization`.

    "additive": LeakyReLU(source + target) of scores [nodes, heads] (GAT); "dynamic": LeakyReLU of the sum of
    two rows times `vector` [width], 0 at the padding of heads, summed by head (GATv2); "cosine": their dot
    product times `vector` [1] (AGNN).
    """
    for name, side, rows in (("source", source, graph.sources), ("target", target, graph.rows)):
        if side.layout.rows != rows or side.layout.width != source.layout.width:
            raise ModelError(f"expected {rows} rows of attention's {name} (got {side.layout.rows})")
    if source.layout.width % heads or (kind == "additive" and graph.sources != graph.rows):
        raise ModelError(f"expected rows of whole heads ({heads}), as many sources as targets")
    kernel = kernel_of("attention", source.codes.device, implementation, workspace)
    return kernel(
        graph, source, target, kind=kind, heads=heads, vector=vector, slope=slope, quantization=quantization
    )


def quantize(
    values: Tensor,
    quantization: Quantization,
    *,
    rows: tuple[int, ...] | None = None,
    heads: int = 1,
    implementation: Implementation | None = None,
    workspace: Workspace = AT_ONCE,
) -> PackedTensor:
    """Return values [rows, width] as codes; `rows` counts those of each segment.

    `heads` splits the width; each is a multiple of 8 wide where there are several.
    """
    rows = rows or (values.size(0),)
    if quantization.clips_rows:
        return clipped(values, Finish(quantization=quantization, rows=rows, heads=heads), workspace)
    return kernel_of("quantize", values.device, implementation, workspace)(values, quantization, rows, heads)


def finish_values(
    values: Tensor,
    finish: Finish,
    *,
    implementation: Implementation | None = None,
    workspace: Workspace = AT_ONCE,
) -> Tensor | PackedTensor:
    """Return values [rows, width] finished."""
    check_finish(finish, values.size(0), values.flatten(1).size(1))
    if clips_rows(finish):
        done = finish_values(values, finish.in_float(), implementation=implementation, workspace=workspace)
        return clipped(done, finish, workspace)
    return kernel_of("finish_values", values.device, implementation, workspace)(values, finish)
