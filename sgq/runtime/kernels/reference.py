"""The kernels by torch operations: what the others are held to, on any device.

They unpack; memory is not saved.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from sgq.runtime.csr import COLUMN_PADDING, Csr
from sgq.runtime.features import BitFeatures, SparseFeatures
from sgq.runtime.finish import Finish, finished
from sgq.runtime.kernels.contract import (
    AttentionKind,
    Blocks,
    EdgeAttention,
    Reduction,
    Scores,
    exact_distances,
)
from sgq.runtime.packed import PackedTensor, with_head_padding
from sgq.runtime.quantization import Quantization, code_ranges, quantized
from sgq.runtime.weights import IntegerWeight


def aggregate(
    graph: Csr,
    x: PackedTensor,
    finish: Finish,
    *,
    reduction: Reduction = "sum",
    coefficients: EdgeAttention | None = None,
) -> Tensor | PackedTensor:
    """See `sgq.runtime.kernels.aggregate`."""
    values = with_head_padding(x.values(), x.layout)
    messages = values.index_select(0, graph.columns[: graph.edges].long())
    if coefficients is not None:
        by_head = messages.unflatten(1, (coefficients.heads, -1))
        messages = (by_head * coefficients.values().unsqueeze(2)).flatten(1)
    elif reduction == "sum" and graph.weights is not None:
        messages = messages * graph.weights.unsqueeze(1)
    return finished(reduced(graph, messages, reduction), finish)


def reduced(graph: Csr, messages: Tensor, reduction: Reduction) -> Tensor:
    """Return messages [edges, width] brought together over the edges into each row; 0 without edges."""
    sums = messages.new_zeros(graph.rows, messages.size(1))
    if reduction in ("max", "min"):
        place = graph.targets.unsqueeze(1).expand_as(messages)
        return sums.scatter_reduce(0, place, messages, f"a{reduction}", include_self=False)
    sums.index_add_(0, graph.targets, messages)
    return sums / graph.sizes.clamp(min=1).unsqueeze(1) if reduction == "mean" else sums


def linear(
    x: PackedTensor | SparseFeatures | BitFeatures,
    weight: IntegerWeight,
    finish: Finish,
    *,
    addend: Tensor | None = None,
    scores: Scores | None = None,
) -> Tensor | PackedTensor:
    """See `sgq.runtime.kernels.linear`."""
    values = with_head_padding(x.values(), x.layout) if isinstance(x, PackedTensor) else x.values()
    sums = values @ weight.values()
    if scores is not None:
        fill_scores(sums, scores)
    return finished_with(addend, sums, finish)


def finished_with(addend: Tensor | None, sums: Tensor, finish: Finish) -> Tensor | PackedTensor:
    """Return sums · multiply + addend, finished; an addend of None is 0."""
    if addend is None:
        return finished(sums, finish)
    scaled = sums if finish.multiply is None else sums * finish.multiply
    return finished(scaled + addend, replace(finish, multiply=None))


def fill_scores(sums: Tensor, scores: Scores) -> None:
    """Write the dot products of sums [rows, width] with the vectors of `scores`, head by head."""
    by_head = (sums.unsqueeze(0) * scores.vectors.unsqueeze(1)).unflatten(2, (scores.heads, -1))
    scores.values.copy_(by_head.sum(3))


def attention(
    graph: Csr,
    source: PackedTensor,
    target: PackedTensor,
    *,
    kind: AttentionKind,
    heads: int,
    vector: Tensor,
    slope: float,
    quantization: Quantization | None,
) -> EdgeAttention:
    """See `sgq.runtime.kernels.attention`."""
    # Imported here: the other kernels start without PyG.
    from torch_geometric.utils import softmax

    from_source = with_head_padding(source.values(), source.layout)[graph.columns[: graph.edges].long()]
    to_target = with_head_padding(target.values(), target.layout)[graph.targets]
    if kind == "additive":
        scores = torch.nn.functional.leaky_relu(from_source + to_target, slope)
    elif kind == "dynamic":
        both = torch.nn.functional.leaky_relu(from_source + to_target, slope) * vector
        scores = both.unflatten(1, (heads, -1)).sum(2)
    else:
        scores = (from_source * to_target).sum(1, keepdim=True) * vector
    weights = softmax(scores, graph.targets, num_nodes=graph.rows)
    result = EdgeAttention.empty(graph.edges, heads, scores.device, quantization)
    if quantization is None:
        result.codes.copy_(weights)
        return result
    least, levels = (numbers[0] for numbers in code_ranges(quantization.spec))
    codes = torch.round(weights / result.scale + (result.zero_point + least)) - least
    result.codes.copy_(codes.clamp(0, levels))
    return result


def finish_values(values: Tensor, finish: Finish) -> Tensor | PackedTensor:
    """See `sgq.runtime.kernels.finish_values`."""
    return finished(values, finish)


def quantize(values: Tensor, quantization: Quantization, rows: tuple[int, ...], heads: int) -> PackedTensor:
    """See `sgq.runtime.kernels.quantize`."""
    if heads > 1:
        values = values.flatten(1).unflatten(1, (heads, -1))
    return quantized(values, quantization, rows)


def neighbours(x: PackedTensor, *, clouds: int, k: int) -> Csr:
    """See `sgq.runtime.kernels.neighbours`."""
    rows = x.layout.rows
    by_cloud = points_of(x)[0].unflatten(0, (clouds, -1))
    squares = by_cloud.square().sum(2)
    distances = squares.unsqueeze(2) + squares.unsqueeze(1) - 2 * by_cloud @ by_cloud.mT
    nearest = distances.sort(dim=2, stable=True).indices[..., :k]
    first = torch.arange(0, rows, rows // clouds, device=x.device).view(-1, 1, 1)
    columns = torch.nn.functional.pad((nearest + first).flatten(), (0, COLUMN_PADDING))
    pointers = torch.arange(0, rows * k + 1, k, dtype=torch.int32, device=x.device)
    return Csr(pointers, columns.to(torch.int32), None, rows, rows, 1, k)


def points_of(x: PackedTensor) -> tuple[Tensor, float | Tensor]:
    """Return rows whose distances, in float64, are exact where they can be, and the scale of distances."""
    if exact_distances(x):
        return x.code_values().double(), x.parameters[0, 0]
    return x.values().double(), 1.0


def edge_distances(
    graph: Csr, x: PackedTensor, finish: Finish, *, reduction: Reduction
) -> Tensor | PackedTensor:
    """See `sgq.runtime.kernels.edge_distances`."""
    points, scale = points_of(x)
    apart = points[graph.columns[: graph.edges].long()] - points[graph.targets]
    lengths = apart.square().sum(1, keepdim=True).sqrt() * scale
    return finished(reduced(graph, lengths, reduction).float(), finish)


def assemble(blocks: Blocks, finish: Finish) -> Tensor | PackedTensor:
    """See `sgq.runtime.kernels.assemble`."""
    sums = [torch.stack([term.values() for term in terms]).sum(0) for terms in blocks]
    return finished(torch.cat(sums, dim=1), finish)
