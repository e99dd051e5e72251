"""The kernels on a CPU, called with packed tensors: results in a workspace, and their addresses.

What a launch needs is found once, when it is bound: addresses, room for each thread, and numbers.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from quantizers.spec import FLOAT_BITS
from sgq.errors import ModelError
from sgq.runtime.csr import Csr
from sgq.runtime.finish import Finish
from sgq.runtime.kernels.contract import EdgeAttention, Reduction
from sgq.runtime.kernels.cpu import aggregation
from sgq.runtime.kernels.cpu import attention as edges
from sgq.runtime.kernels.cpu.cloud_calls import assemble, edge_distances, neighbours
from sgq.runtime.kernels.cpu.linear_calls import finished, linear
from sgq.runtime.kernels.cpu.results import NEUTRAL, padded, reach, segment_arguments, target_of
from sgq.runtime.kernels.cpu.threads import Scratch, run_on, torch_threads, whole_vectors
from sgq.runtime.packed import VECTOR, Layout, PackedTensor, layout_of, pack_rows, with_head_padding
from sgq.runtime.quantization import Quantization, code_ranges
from sgq.runtime.workspace import Workspace

__all__ = [
    "aggregate",
    "assemble",
    "attention",
    "edge_distances",
    "finish_values",
    "linear",
    "neighbours",
    "quantize",
]

ONE = np.ones(1, np.float32)
COUNTING = np.array([1.0, 1.0], np.float32)
"""Parameters that leave codes alone, and sum the weights up."""


def aggregate(
    graph: Csr,
    x: PackedTensor,
    finish: Finish,
    *,
    reduction: Reduction,
    coefficients: EdgeAttention | None,
    workspace: Workspace,
) -> Tensor | PackedTensor:
    """See `sgq.runtime.kernels.aggregate`."""
    segments = len(x.layout.segments)
    if segments not in (1, graph.step):
        raise ModelError(f"expected rows in 1 or {graph.step} segments, as the edges have (got {segments})")
    if coefficients is not None:
        return _aggregate_heads(graph, x, finish, coefficients, workspace)
    by_channel = x.per == "channel"
    if by_channel:
        finish = finish.scaled(x.parameters[:, 0])
    target = target_of(graph.rows, x.layout.width, finish, workspace)
    threads = torch_threads(rows=graph.rows, edges=graph.edges, numbers=graph.edges * x.layout.width)
    room = whole_vectors(max(reach(x.layout), target.lanes))
    scratch = Scratch(workspace, threads, 2 * room)
    parameters, step, stride = x.parameters.data_ptr(), *_steps(x)
    zeros = padded(x.parameters[:, 1], room) if by_channel else None
    zeros_at = 0 if zeros is None else zeros.data_ptr()
    extreme = reduction in ("max", "min")
    if by_channel:
        parameters, step = (NEUTRAL if extreme else COUNTING).ctypes.data, 0
    source = (threads, graph.rows, *_source(graph, x))
    how: tuple[Any, ...]
    if extreme:
        kernel = aggregation.aggregate_extreme
        how = (parameters, step, stride, zeros_at, int(reduction == "min"))
    else:
        kernel = aggregation.aggregate_sum
        weighted = graph.weights is not None and reduction == "sum"
        weights = graph.weights.data_ptr() if weighted and graph.weights is not None else ONE.ctypes.data
        how = (weights, int(weighted), parameters, step, stride, zeros_at, reduction == "mean")
    arguments = (*source, *how, *scratch.place, room, target.record)
    held = (graph, x, zeros, scratch, target)
    workspace.launch(lambda: run_on(threads, kernel, arguments, held))
    return target.result


def _aggregate_heads(
    graph: Csr, x: PackedTensor, finish: Finish, coefficients: EdgeAttention, workspace: Workspace
) -> Tensor | PackedTensor:
    """Sum rows by attention: codes, each edge's and head's."""
    if coefficients.codes.dtype != torch.uint8:
        raise ModelError(f"expected attention as codes, uint8 (got {coefficients.codes.dtype}): quantize it")
    x = _with_shared_scales(x, workspace)
    codes, heads = coefficients.codes, coefficients.heads
    if codes.untyped_storage().nbytes() - codes.storage_offset() < codes.numel() + VECTOR:
        codes = workspace.computed(partial(torch.nn.functional.pad, codes.reshape(-1), (0, VECTOR)))
    target = target_of(graph.rows, x.layout.width, finish, workspace)
    threads = torch_threads(rows=graph.rows, edges=graph.edges, numbers=graph.edges * x.layout.width)
    room = whole_vectors(max(reach(x.layout), target.lanes))
    scratch = Scratch(workspace, threads, 2 * (room + whole_vectors(heads)))
    table = _head_table(x.layout, heads)
    arguments = (
        threads, graph.rows, *_source(graph, x), codes.data_ptr(), heads, np.float32(coefficients.zero_point),
        np.float32(coefficients.scale), x.parameters.data_ptr(), *_steps(x), table.ctypes.data,
        *scratch.place, room, target.record,
    )  # fmt: skip
    held = (graph, x, codes, table, scratch, target)
    workspace.launch(lambda: run_on(threads, aggregation.aggregate_heads, arguments, held))
    return target.result


def attention(
    graph: Csr,
    source: PackedTensor,
    target: PackedTensor,
    *,
    kind: str,
    vector: Tensor,
    slope: float,
    quantization: Quantization | None,
    heads: int,
    workspace: Workspace,
) -> EdgeAttention:
    """See `sgq.runtime.kernels.attention`."""
    source, target = _with_shared_scales(source, workspace), _with_shared_scales(target, workspace)
    per_head = source.layout.width // heads
    room = whole_vectors(max(reach(source.layout), reach(target.layout), heads))
    lanes = 1 if heads == 1 else whole_vectors(heads)
    numbers = graph.edges * source.layout.width
    threads = torch_threads(rows=graph.rows, edges=4 * graph.edges, numbers=4 * numbers)
    scratch = Scratch(workspace, threads, 2 * room + whole_vectors(max(graph.longest, 1) * lanes))
    # Additive scores are a few numbers a node: unpacked once, not once an edge.
    unpacked = workspace.empty(2 if kind == "additive" else 0, graph.sources, room)
    size, dtype = EdgeAttention.room_for(graph.edges, heads, quantization)
    result = EdgeAttention.within(workspace.empty(size, dtype=dtype), graph.edges, heads, quantization)
    least, levels = 0.0, 0.0
    if quantization is not None:
        least, levels = (numbers[0] for numbers in code_ranges(quantization.spec))
    rounding = map(np.float32, (result.scale, result.zero_point, least, levels))
    # Past the last channel the vector is 0, whatever padding holds.
    vectors = torch.nn.functional.pad(vector.float(), (0, VECTOR))
    arguments = (
        threads, edges.KINDS[kind], graph.rows, graph.sources, graph.columns.data_ptr(),
        graph.pointers.data_ptr(), graph.step, _unpacked(source), _unpacked(target), unpacked.data_ptr(),
        heads, source.layout.width, whole_vectors(per_head),
        vectors.data_ptr(), np.float32(slope), *rounding, *scratch.place, room, result.codes.data_ptr(),
        quantization is None,
    )  # fmt: skip
    held = (graph, source, target, unpacked, vectors, scratch, result)
    workspace.launch(lambda: run_on(threads, edges.edge_attention, arguments, held))
    return result


def finish_values(values: Tensor, finish: Finish, *, workspace: Workspace) -> Tensor | PackedTensor:
    """See `sgq.runtime.kernels.finish_values`."""
    flat = values
    if values.dim() != 2 or values.dtype != torch.float32 or not values.is_contiguous():
        flat = workspace.computed(lambda: values.float().flatten(1).contiguous())
    return finished(flat, finish, workspace)


def quantize(
    values: Tensor, quantization: Quantization, rows: tuple[int, ...], heads: int, *, workspace: Workspace
) -> PackedTensor:
    """See `sgq.runtime.kernels.quantize`."""
    finish = Finish(quantization=quantization, rows=rows, heads=heads)
    result = finish_values(values, finish, workspace=workspace)
    assert isinstance(result, PackedTensor)
    return result


def _source(graph: Csr, x: PackedTensor) -> tuple[Any, ...]:
    """Return what gathers take of rows and edges: codes, segments, their count, columns, pointers, step."""
    columns, pointers = graph.columns.data_ptr(), graph.pointers.data_ptr()
    return (x.codes.data_ptr(), *segment_arguments(x.layout), columns, pointers, graph.step)


def _steps(x: PackedTensor) -> tuple[int, int]:
    """Return how far apart the parameters of two segments and of two rows are, in numbers."""
    return (0, 2) if x.per == "row" else (2, 0)


def _head_table(layout: Layout, heads: int) -> Any:
    """Return the head of every 8 channels, as far as any segment's padding reaches."""
    lanes = np.arange(0, reach(layout) + VECTOR, VECTOR)
    return np.minimum(lanes // (layout.width // heads), heads - 1).astype(np.int32)


def _with_shared_scales(packed: PackedTensor, workspace: Workspace) -> PackedTensor:
    """Return rows whose channels share a scale: those in which each has its own, as fp32 values."""
    if packed.per != "channel":
        return packed
    given = packed.layout
    layout = layout_of((given.rows,), given.channels, (FLOAT_BITS,), heads=given.heads)
    codes = workspace.computed(lambda: pack_rows(with_head_padding(packed.values(), layout), layout))
    return PackedTensor(codes, torch.tensor([[1.0, 0.0]]), "segment", layout)


def _unpacked(packed: PackedTensor) -> tuple[Any, ...]:
    """Return what `unpack_row` takes of a packed tensor."""
    parameters = packed.parameters.data_ptr()
    return (packed.codes.data_ptr(), *segment_arguments(packed.layout), parameters, packed.per == "row")
