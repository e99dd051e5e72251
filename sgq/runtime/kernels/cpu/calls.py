"""The kernels on a CPU, called with packed tensors: allocates results and hands numba views of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from quantizers.spec import FLOAT_BITS
from sgq.errors import ModelError
from sgq.runtime.csr import Csr
from sgq.runtime.features import BitFeatures, SparseFeatures
from sgq.runtime.finish import Finish
from sgq.runtime.huge_pages import large_empty
from sgq.runtime.kernels.contract import EdgeAttention, Reduction, Scores
from sgq.runtime.kernels.cpu import aggregation, finishing, products, rounding
from sgq.runtime.kernels.cpu import attention as edges
from sgq.runtime.kernels.cpu.threads import Scratch, use_torch_threads, whole_vectors
from sgq.runtime.packed import (
    VECTOR,
    Layout,
    PackedTensor,
    layout_of,
    pack_rows,
    with_head_padding,
)
from sgq.runtime.quantization import Quantization, code_ranges
from sgq.runtime.weights import IntegerWeight, padded_outputs, table_chunk

NO_NUMBERS = np.zeros(0, np.float32)
NO_CODES = np.zeros(0, np.uint8)
NO_SEGMENTS = np.zeros((0, 5), np.int64)
NO_RANGES = np.zeros((0, 7), np.float32)
ONE = np.ones(1, np.float32)
NEUTRAL = np.array([1.0, 0.0], np.float32)
COUNTING = np.array([1.0, 1.0], np.float32)
"""Parameters that leave codes alone, and those that also sum the weights up."""


def aggregate(
    graph: Csr,
    x: PackedTensor,
    finish: Finish,
    *,
    reduction: Reduction = "sum",
    coefficients: EdgeAttention | None = None,
) -> Tensor | PackedTensor:
    """See `sgq.runtime.kernels.aggregate`."""
    segments = len(x.layout.segments)
    if segments not in (1, graph.step):
        raise ModelError(f"expected rows in 1 or {graph.step} segments, as the edges have (got {segments})")
    if coefficients is not None:
        if coefficients.codes.dtype != torch.uint8:
            raise ModelError(
                f"expected attention as codes, uint8 (got {coefficients.codes.dtype}): quantize it"
            )
        x = _with_shared_scales(x)
    threads = use_torch_threads((graph.edges + 4 * graph.rows) * x.layout.width)
    by_channel = x.per == "channel"
    zeros = NO_NUMBERS
    if by_channel:
        zeros = np.ascontiguousarray(x.parameters[:, 1].numpy())
        finish = finish.scaled(x.parameters[:, 0])
    target = _target(graph.rows, x.layout.width, finish)
    scratch = Scratch(threads, max(_reach(x.layout), _reach_of(target.result)))
    parameters = x.parameters.data_ptr()
    step, stride = (0, 2) if x.per == "row" else (2, 0)
    source = (x.codes.data_ptr(), segment_table(x.layout), graph.columns.data_ptr(), graph.pointers.numpy())
    if coefficients is not None:
        table = _head_table(x.layout, coefficients.heads)
        aggregation.aggregate_heads(
            threads, graph.rows, *source, graph.step, coefficients.codes.data_ptr(), coefficients.heads,
            np.float32(coefficients.zero_point), np.float32(coefficients.scale), parameters, step, stride,
            table.ctypes.data, *scratch.place, target.arguments,
        )  # fmt: skip
    elif reduction == "max":
        if by_channel:
            parameters, step = NEUTRAL.ctypes.data, 0
        aggregation.aggregate_max(
            threads,
            graph.rows,
            *source,
            graph.step,
            parameters,
            step,
            stride,
            zeros,
            *scratch.place,
            target.arguments,
        )
    else:
        if by_channel:
            parameters, step = COUNTING.ctypes.data, 0
        weights, weight_stride = ONE.ctypes.data, 0
        if graph.weights is not None and reduction == "sum":
            weights, weight_stride = graph.weights.data_ptr(), 1
        aggregation.aggregate_sum(
            threads, graph.rows, *source, graph.step, weights, weight_stride, parameters, step, stride, zeros,
            reduction == "mean", *scratch.place, target.arguments,
        )  # fmt: skip
    return target.result


def linear(
    x: PackedTensor | SparseFeatures | BitFeatures,
    weight: IntegerWeight,
    finish: Finish,
    *,
    addend: Tensor | None = None,
    scores: Scores | None = None,
) -> Tensor | PackedTensor:
    """See `sgq.runtime.kernels.linear`."""
    if isinstance(x, PackedTensor):
        return _multiply(x, weight, finish, addend=addend, scores=scores)
    if addend is not None:
        # Features have no kernel with an addend: the sum is finished apart.
        values = linear(x, weight, Finish(), scores=scores)
        assert isinstance(values, Tensor)
        return finished_rows(values, finish, addend)
    if isinstance(x, SparseFeatures):
        return _multiply_sparse(x, weight, finish, scores=scores)
    return _multiply_bits(x, weight, finish, scores=scores)


def finished_rows(values: Tensor, finish: Finish, addend: Tensor) -> Tensor | PackedTensor:
    """Return values · multiply + addend, finished."""
    if finish.multiply is not None:
        values.mul_(finish.multiply)
    values.add_(addend)
    return finish_values(values, replace(finish, multiply=None))


def finish_values(values: Tensor, finish: Finish) -> Tensor | PackedTensor:
    """See `sgq.runtime.kernels.finish_values`."""
    threads = use_torch_threads(4 * values.numel())
    flat = values.float().flatten(1).contiguous()
    target = _target(flat.size(0), flat.size(1), finish)
    scratch = Scratch(threads, max(flat.size(1), _reach_of(target.result)))
    rounding.finish_rows(flat.size(0), flat.data_ptr(), flat.size(1), *scratch.place, target.arguments)
    return target.result


def _multiply(
    x: PackedTensor, weight: IntegerWeight, finish: Finish, *, addend: Tensor | None, scores: Scores | None
) -> Tensor | PackedTensor:
    """Multiply packed rows by a weight in tiles."""
    if x.per == "channel" or any(segment.bits == FLOAT_BITS for segment in x.layout.segments):
        raise ModelError('expected rows of 8 bits or fewer with scales by row: use a weight in form "float"')
    threads = use_torch_threads(x.layout.rows * weight.outputs * (4 + weight.inputs // 8))
    multiply = finish.scaled(weight.scale).multiply
    assert multiply is not None
    multiply = multiply.contiguous()
    if addend is not None:
        addend = addend.contiguous()
    finish = replace(finish, multiply=multiply if addend is None else None)
    target = _target(x.layout.rows, weight.outputs, finish)
    room = whole_vectors(max(padded_outputs(weight), _reach_of(target.result)))
    scratch = Scratch(threads, products.ROWS * room)
    wide_room = whole_vectors(max(_reach(x.layout), 2 * weight.data.size(1)))
    wide = Scratch(threads, products.ROWS * wide_room, torch.int16)
    vectors = _score_arguments(scores, weight)
    products.multiply_packed(
        x.layout.rows, x.codes.data_ptr(), segment_table(x.layout), x.parameters.numpy(), int(x.per == "row"),
        weight.data.data_ptr(), weight.data.size(1), weight.data.size(0), *wide.place[:2], wide_room,
        *scratch.place[:2], room, 0 if addend is None else addend.data_ptr(),
        multiply.data_ptr(), weight.outputs, vectors.arguments, target.arguments,
    )  # fmt: skip
    return target.result


def _multiply_sparse(
    x: SparseFeatures, weight: IntegerWeight, finish: Finish, *, scores: Scores | None
) -> Tensor | PackedTensor:
    """Multiply sparse features by a weight in rows."""
    threads = use_torch_threads((x.nonzeros + 4 * x.rows) * weight.outputs)
    finish = finish.scaled(weight.scale)
    packed = weight.packed
    assert packed is not None
    target = _target(x.rows, weight.outputs, finish)
    scratch = Scratch(threads, max(_reach(packed.layout), _reach_of(target.result)))
    zeros = np.ones(weight.outputs, np.float32)
    parameters = packed.parameters.data_ptr()
    if packed.per == "channel":
        zeros, parameters = np.ascontiguousarray(packed.parameters[:, 1].numpy()), COUNTING.ctypes.data
    vectors = _score_arguments(scores, weight)
    aggregation.combine_sparse(
        threads, x.rows, x.pointers.numpy(), x.columns.dtype == torch.int16, x.columns.data_ptr(),
        x.codes.data_ptr(), int(x.codes.numel() != 1), x.parameters.numpy(), packed.codes.data_ptr(),
        packed.layout.segments[0].row_bytes, parameters, zeros, *scratch.place, vectors.arguments,
        target.arguments,
    )  # fmt: skip
    return target.result


def _multiply_bits(
    x: BitFeatures, weight: IntegerWeight, finish: Finish, *, scores: Scores | None
) -> Tensor | PackedTensor:
    """Multiply rows of bits by a weight in tables."""
    threads = use_torch_threads(x.rows * weight.outputs * (4 + weight.inputs // 8))
    finish = finish.scaled(weight.scale)
    target = _target(x.rows, weight.outputs, finish)
    room = whole_vectors(max(padded_outputs(weight), _reach_of(target.result)))
    scratch = Scratch(threads, products.BIT_ROWS * room)
    sums = Scratch(threads, products.BIT_ROWS * products.TABLE_COLUMNS, torch.int16)
    vectors = _score_arguments(scores, weight)
    products.multiply_bits(
        x.rows, x.bits.data_ptr(), x.bits.size(1), x.levels.numpy(), weight.data.data_ptr(),
        weight.data.size(0), table_chunk(weight), *sums.place[:2], *scratch.place[:2], room,
        vectors.arguments, target.arguments,
    )  # fmt: skip
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
) -> EdgeAttention:
    """See `sgq.runtime.kernels.attention`."""
    threads = use_torch_threads(8 * graph.edges * source.layout.width)
    # Additive scores are a few numbers a node: unpacked once, not once an edge.
    ready = _in_float if kind == "additive" else _with_shared_scales
    source, target = ready(source), ready(target)
    per_head = source.layout.width // heads
    room = whole_vectors(max(_reach(source.layout), _reach(target.layout), heads))
    lanes = 1 if heads == 1 else whole_vectors(heads)
    scratch = Scratch(threads, 2 * room + whole_vectors(max(graph.longest, 1) * lanes))
    result = EdgeAttention.empty(graph.edges, heads, graph.columns.device, quantization)
    table = np.array([1.0, 0.0, 0.0, 255.0], np.float32)
    if quantization is not None:
        least, levels = code_ranges(quantization.spec)
        table = np.array([result.scale, result.zero_point, least[0], levels[0]], np.float32)
    # Past the last channel the vector is 0, whatever padding holds.
    vectors = torch.nn.functional.pad(vector.float(), (0, VECTOR))
    codes = NO_CODES if quantization is None else result.codes.view(-1).numpy()
    values = result.codes.view(-1).numpy() if quantization is None else NO_NUMBERS
    edges.edge_attention(
        threads, edges.KINDS[kind], graph.rows, graph.columns.numpy(), graph.pointers.numpy(), graph.step,
        _packed_arrays(source), _packed_arrays(target), heads, source.layout.width, whole_vectors(per_head),
        vectors.data_ptr(), np.float32(slope), table, *scratch.place[:2], room, codes, values,
    )  # fmt: skip
    return result


def quantize(values: Tensor, quantization: Quantization, rows: tuple[int, ...], heads: int) -> PackedTensor:
    """See `sgq.runtime.kernels.quantize`."""
    result = finish_values(values, Finish(quantization=quantization, rows=rows, heads=heads))
    assert isinstance(result, PackedTensor)
    return result


@lru_cache(maxsize=256)
def segment_table(layout: Layout) -> Any:
    """Return [segments, 5]: rows, bits, bytes a row, first row, first byte."""
    fields = [(s.rows, s.bits, s.row_bytes, s.first_row, s.first_byte) for s in layout.segments]
    return np.array(fields, np.int64)


def _head_table(layout: Layout, heads: int) -> Any:
    """Return the head of every 8 channels, as far as any segment's padding reaches."""
    lanes = np.arange(0, _reach(layout) + VECTOR, VECTOR)
    return np.minimum(lanes // (layout.width // heads), heads - 1).astype(np.int32)


def _with_shared_scales(packed: PackedTensor) -> PackedTensor:
    """Return rows whose channels share a scale: those in which each has its own, as fp32 values."""
    return _in_float(packed) if packed.per == "channel" else packed


def _in_float(packed: PackedTensor) -> PackedTensor:
    """Return rows as fp32 values in one segment."""
    given = packed.layout
    if len(given.segments) == 1 and given.segments[0].bits == FLOAT_BITS:
        return packed
    layout = layout_of((given.rows,), given.channels, (FLOAT_BITS,), heads=given.heads)
    values = with_head_padding(packed.values(), layout)
    return PackedTensor(pack_rows(values, layout), torch.tensor([[1.0, 0.0]]), "segment", layout)


def _packed_arrays(packed: PackedTensor) -> tuple[Any, ...]:
    return (
        packed.codes.data_ptr(),
        segment_table(packed.layout),
        packed.parameters.numpy(),
        packed.per == "row",
    )


@dataclass(frozen=True)
class _ScoreArguments:
    """What the kernels take to make scores; holds the vectors that it has addresses of."""

    vectors: Tensor
    arguments: tuple[int, int, int, int, int, int]


def _score_arguments(scores: Scores | None, weight: IntegerWeight) -> _ScoreArguments:
    if scores is None:
        return _ScoreArguments(weight.scale, (0, 0, 0, 0, 0, 1))
    count = scores.vectors.size(0)
    by_head = (scores.vectors * weight.scale).view(count, scores.heads, -1)
    lanes = whole_vectors(by_head.size(2))
    padded = torch.nn.functional.pad(by_head, (0, lanes - by_head.size(2))).contiguous()
    return _ScoreArguments(
        padded, (padded.data_ptr(), count, lanes, by_head.size(2), scores.values.data_ptr(), scores.heads)
    )


@lru_cache(maxsize=256)
def _reach(layout: Layout) -> int:
    """Return how many channels the rows of a layout take at most, padding included."""
    return max(
        (
            segment.row_bytes // 4 if segment.bits == FLOAT_BITS else segment.row_bytes * 8 // segment.bits
            for segment in layout.segments
        ),
        default=0,
    )


def _reach_of(result: Tensor | PackedTensor) -> int:
    return _reach(result.layout) if isinstance(result, PackedTensor) else result.size(1)


@dataclass(frozen=True)
class _Target:
    """A result to be filled, what `finish_row` takes, and the tensors whose addresses are in it."""

    result: Tensor | PackedTensor
    arguments: tuple[Any, ...]
    held: tuple[Any, ...]


def _target(rows: int, width: int, finish: Finish) -> _Target:
    """Return room for a result [rows, width], finished."""
    lanes = whole_vectors(width)
    # Past the last channel sums may be anything: times 0 they leave ranges alone.
    factors = np.zeros((2, lanes), np.float32)
    factors[0, :width] = 1.0 if finish.multiply is None else finish.multiply.numpy()
    if finish.add is not None:
        factors[1, :width] = finish.add.numpy()
    common = (
        width, lanes, factors.ctypes.data, factors.ctypes.data + factors.strides[0],
        finishing.ACTIVATIONS[finish.activation], np.float32(finish.slope),
    )  # fmt: skip
    quantization = finish.quantization
    if quantization is None:
        out = large_empty(rows, width)
        return _Target(out, (*common, 0, out.data_ptr(), 0, NO_SEGMENTS, 0, 0, NO_RANGES), (factors,))
    layout = quantization.layout(finish.rows or (rows,), width // finish.heads, heads=finish.heads)
    codes = large_empty(layout.nbytes, dtype=torch.uint8)
    stored = quantization.stored_parameters(layout)
    parameters = large_empty(rows, 2) if stored is None else stored
    own = parameters if quantization.parameters is None else quantization.parameters
    result = PackedTensor(codes, parameters, quantization.per, layout)
    arguments = (
        *common, finishing.MODES[quantization.per], 0, codes.data_ptr(), segment_table(layout),
        own.data_ptr(), parameters.data_ptr(), quantization.range_table.numpy(),
    )  # fmt: skip
    return _Target(result, arguments, (factors, own))
