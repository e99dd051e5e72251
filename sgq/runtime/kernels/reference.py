"""The kernels by torch operations: what the others are held to, on any device.

They unpack; memory is not saved.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from sgq.runtime.csr import Csr
from sgq.runtime.features import BitFeatures, SparseFeatures
from sgq.runtime.finish import Finish, finished
from sgq.runtime.kernels.contract import AttentionKind, EdgeAttention, Reduction, Scores
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
    target = graph.targets
    messages = values.index_select(0, graph.columns[: graph.edges].long())
    if coefficients is not None:
        by_head = messages.unflatten(1, (coefficients.heads, -1))
        messages = (by_head * coefficients.values().unsqueeze(2)).flatten(1)
    elif reduction == "sum" and graph.weights is not None:
        messages = messages * graph.weights.unsqueeze(1)
    if reduction == "max":
        place = target.unsqueeze(1).expand_as(messages)
        sums = messages.new_zeros(graph.rows, values.size(1))
        sums = sums.scatter_reduce(0, place, messages, "amax", include_self=False)
    else:
        sums = messages.new_zeros(graph.rows, values.size(1)).index_add_(0, target, messages)
    if reduction == "mean":
        sums = sums / graph.sizes.clamp(min=1).unsqueeze(1)
    return finished(sums, finish)


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
