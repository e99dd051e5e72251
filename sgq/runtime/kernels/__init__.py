"""Integer kernels: one name each, with implementations in torch (any device), numba (CPU) and Triton (CUDA).

Which one runs goes by the device of the codes, unless `implementation` names one. All give the same
numbers but for the order of their sums.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

import sgq.runtime.kernels.reference as reference
from sgq.errors import ModelError
from sgq.runtime.finish import Finish
from sgq.runtime.kernels.contract import AttentionKind, EdgeAttention, Implementation, Reduction, Scores
from sgq.runtime.packed import PackedTensor, with_head_padding
from sgq.runtime.quantization import Quantization

if TYPE_CHECKING:
    from sgq.runtime.csr import Csr
    from sgq.runtime.features import BitFeatures, SparseFeatures
    from sgq.runtime.weights import IntegerWeight

__all__ = ["EdgeAttention", "Scores", "aggregate", "attention", "finish_values", "linear", "quantize"]


def aggregate(
    graph: Csr,
    x: PackedTensor,
    finish: Finish,
    *,
    reduction: Reduction = "sum",
    coefficients: EdgeAttention | None = None,
    implementation: Implementation | None = None,
) -> Tensor | PackedTensor:
    """Return, for every node, the rows of its sources brought together and finished.

    "sum" weighs by the graph's weights where it has some, or by `coefficients`, an edge and head each; "mean"
    and "max" do not. Nodes without edges get 0 before the finish.
    """
    if finish.quantization is not None and finish.quantization.clips_rows:
        values = aggregate(
            graph, x, finish.in_float(), reduction=reduction, coefficients=coefficients,
            implementation=implementation,
        )  # fmt: skip
        return _clipped(values, finish)
    if x.layout.rows != graph.sources:
        raise ModelError(f"expected rows of {graph.sources} sources (got {x.layout.rows})")
    if coefficients is not None and coefficients.codes.size(0) != graph.edges:
        raise ModelError(f"expected attention of {graph.edges} edges (got {coefficients.codes.size(0)})")
    module = _module(x.codes.device, implementation)
    return module.aggregate(graph, x, finish, reduction=reduction, coefficients=coefficients)


def linear(
    x: PackedTensor | SparseFeatures | BitFeatures,
    weight: IntegerWeight,
    finish: Finish,
    *,
    addend: Tensor | None = None,
    scores: Scores | None = None,
    implementation: Implementation | None = None,
) -> Tensor | PackedTensor:
    """Return x · weight, plus `addend` [rows, channels], finished; fill `scores` where given.

    The weight's form goes with x: "tiles" for packed rows of at most 8 bits whose codes share a scale over
    channels, "rows" for sparse features, "tables" for bits, "float" for any packed rows.
    """
    if finish.quantization is not None and finish.quantization.clips_rows:
        values = linear(
            x, weight, finish.in_float(), addend=addend, scores=scores, implementation=implementation
        )
        return _clipped(values, finish)
    inputs = x.layout.width if isinstance(x, PackedTensor) else x.channels
    if inputs != weight.inputs:
        raise ModelError(f"expected rows of {weight.inputs} channels (got {inputs})")
    if weight.form == "float":
        assert isinstance(x, PackedTensor)
        return _linear_in_float(x, weight, finish, addend, scores)
    module = _module(weight.data.device, implementation)
    return module.linear(x, weight, finish, addend=addend, scores=scores)


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
) -> EdgeAttention:
    """Return the softmax, over the edges into each node, of the edges' scores; codes by `quantization`.

    "additive": LeakyReLU(source + target) of scores [nodes, heads] (GAT); "dynamic": LeakyReLU of the sum of
    two rows times `vector` [width], 0 at the padding of heads, summed by head (GATv2); "cosine": their dot
    product times `vector` [1] (AGNN).
    """
    module = _module(source.codes.device, implementation)
    return module.attention(
        graph, source, target, kind=kind, heads=heads, vector=vector, slope=slope, quantization=quantization
    )


def quantize(
    values: Tensor,
    quantization: Quantization,
    *,
    rows: tuple[int, ...] | None = None,
    heads: int = 1,
    implementation: Implementation | None = None,
) -> PackedTensor:
    """Return values [rows, width] as codes; `rows` counts those of each segment.

    `heads` splits the width; each is a multiple of 8 wide where there are several.
    """
    rows = rows or (values.size(0),)
    if quantization.clips_rows:
        return reference.quantize(values, quantization, rows, heads)
    return _module(values.device, implementation).quantize(values, quantization, rows, heads)


def _clipped(values: Any, finish: Finish) -> PackedTensor:
    """Quantize rows whose ranges are searched for: the search is torch's, after the kernel."""
    assert finish.quantization is not None
    rows = finish.rows or (values.size(0),)
    return reference.quantize(values, finish.quantization, rows, finish.heads)


def finish_values(
    values: Tensor, finish: Finish, *, implementation: Implementation | None = None
) -> Tensor | PackedTensor:
    """Return values [rows, width] finished."""
    if finish.quantization is not None and finish.quantization.clips_rows:
        finished = finish_values(values, finish.in_float(), implementation=implementation)
        return _clipped(finished, finish)
    return _module(values.device, implementation).finish_values(values, finish)


def _linear_in_float(
    x: PackedTensor, weight: IntegerWeight, finish: Finish, addend: Tensor | None, scores: Scores | None
) -> Tensor | PackedTensor:
    """Multiply by an fp32 weight; the rows are unpacked for it."""
    sums = with_head_padding(x.values(), x.layout) @ weight.data
    if scores is not None:
        reference.fill_scores(sums, scores)
    if addend is not None:
        sums = sums if finish.multiply is None else sums * finish.multiply
        return finish_values(sums + addend, replace(finish, multiply=None))
    return finish_values(sums, finish)


def _module(device: torch.device, implementation: Implementation | None) -> Any:
    """Return the module that implements the kernels."""
    chosen = implementation or {"cpu": "numba", "cuda": "triton"}.get(device.type, "torch")
    if chosen == "numba":
        from sgq.runtime.kernels.cpu import calls

        return calls
    if chosen == "triton":
        from sgq.runtime.kernels.cuda import calls as cuda_calls

        return cuda_calls
    return reference
