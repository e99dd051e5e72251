"""Integer kernels: one name each, with implementations in torch (any device), numba (CPU) and Triton (CUDA).

Which one runs goes by the device of the codes, unless `implementation` names one. All give the same
numbers but for the order of their sums. On a CPU, a `workspace` decides where results lie and when they are
computed; elsewhere they are computed at once.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

import sgq.runtime.kernels.reference as reference
from sgq.errors import ModelError
from sgq.runtime.finish import Finish
from sgq.runtime.kernels.contract import AttentionKind, EdgeAttention, Implementation, Reduction, Scores
from sgq.runtime.packed import PackedTensor
from sgq.runtime.quantization import Quantization
from sgq.runtime.workspace import Workspace

if TYPE_CHECKING:
    from sgq.runtime.csr import Csr
    from sgq.runtime.features import BitFeatures, SparseFeatures
    from sgq.runtime.weights import IntegerWeight

__all__ = ["EdgeAttention", "Scores", "aggregate", "attention", "finish_values", "linear", "quantize"]

AT_ONCE = Workspace()


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

    "sum" weighs by the graph's weights where it has some, or by `coefficients`, an edge and head each; "mean"
    and "max" do not. Nodes without edges get 0 before the finish.
    """
    if finish.quantization is not None and finish.quantization.clips_rows:
        values = aggregate(
            graph, x, finish.in_float(), reduction=reduction, coefficients=coefficients,
            implementation=implementation, workspace=workspace,
        )  # fmt: skip
        return _clipped(values, finish, workspace)
    if x.layout.rows != graph.sources:
        raise ModelError(f"expected rows of {graph.sources} sources (got {x.layout.rows})")
    if coefficients is not None and coefficients.codes.size(0) != graph.edges:
        raise ModelError(f"expected attention of {graph.edges} edges (got {coefficients.codes.size(0)})")
    kernel = _kernel("aggregate", x.codes.device, implementation, workspace)
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
    if finish.quantization is not None and finish.quantization.clips_rows:
        values = linear(
            x, weight, finish.in_float(), addend=addend, scores=scores, implementation=implementation,
            workspace=workspace,
        )  # fmt: skip
        return _clipped(values, finish, workspace)
    inputs = x.layout.width if isinstance(x, PackedTensor) else x.channels
    if inputs != weight.inputs:
        raise ModelError(f"expected rows of {weight.inputs} channels (got {inputs})")
    kernel = _kernel("linear", weight.data.device, implementation, workspace)
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
    kernel = _kernel("attention", source.codes.device, implementation, workspace)
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
        return _clipped(values, Finish(quantization=quantization, rows=rows, heads=heads), workspace)
    return _kernel("quantize", values.device, implementation, workspace)(values, quantization, rows, heads)


def _clipped(values: Any, finish: Finish, workspace: Workspace) -> PackedTensor:
    """Quantize rows whose ranges are searched for: the search is torch's, after the kernel."""
    quantization = finish.quantization
    assert quantization is not None
    rows = finish.rows or (values.size(0),)

    def search() -> tuple[Tensor, Tensor]:
        found = reference.quantize(values, quantization, rows, finish.heads)
        return found.codes, found.parameters

    codes, parameters = workspace.computed(search)
    layout = quantization.layout(rows, values[0].numel() // finish.heads, heads=finish.heads)
    return PackedTensor(codes, parameters, quantization.per, layout)


def finish_values(
    values: Tensor,
    finish: Finish,
    *,
    implementation: Implementation | None = None,
    workspace: Workspace = AT_ONCE,
) -> Tensor | PackedTensor:
    """Return values [rows, width] finished."""
    if finish.quantization is not None and finish.quantization.clips_rows:
        done = finish_values(values, finish.in_float(), implementation=implementation, workspace=workspace)
        return _clipped(done, finish, workspace)
    return _kernel("finish_values", values.device, implementation, workspace)(values, finish)


def _kernel(
    name: str, device: torch.device, implementation: Implementation | None, workspace: Workspace
) -> Any:
    """Return the function that implements a kernel."""
    chosen = implementation or {"cpu": "numba", "cuda": "triton"}.get(device.type, "torch")
    if chosen == "numba":
        from sgq.runtime.kernels.cpu import calls

        return partial(getattr(calls, name), workspace=workspace)
    if chosen == "triton":
        from sgq.runtime.kernels.cuda import calls as cuda_calls

        return getattr(cuda_calls, name)
    return getattr(reference, name)
