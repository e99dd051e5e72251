"""The kernels on a GPU, called with packed tensors: allocates results and launches what makes their pieces.

A result whose segments differ in width takes a launch a segment: all of a kernel's rows pack alike.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

import sgq.runtime.kernels.reference as reference
from quantizers.spec import FLOAT_BITS
from sgq.errors import ModelError
from sgq.runtime.csr import Csr
from sgq.runtime.features import BitFeatures, SparseFeatures
from sgq.runtime.finish import Finish, finished
from sgq.runtime.kernels.contract import AttentionKind, EdgeAttention, Reduction, Scores
from sgq.runtime.kernels.cuda import aggregation, products, rounding
from sgq.runtime.kernels.cuda import attention as edges
from sgq.runtime.kernels.cuda.cloud_calls import assemble, edge_distances, neighbours
from sgq.runtime.kernels.cuda.launching import GATHERED, MOST_EDGES, check_segments, launch
from sgq.runtime.kernels.cuda.pieces import (
    overlaps,
    pieces_of,
    power_of_two,
    source_arguments,
)
from sgq.runtime.packed import BYTE_BITS, PackedTensor, layout_of
from sgq.runtime.quantization import Quantization, code_ranges
from sgq.runtime.weights import IntegerWeight

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

LEAST_EDGES = 4
MOST_COLUMNS = 512
"""Columns of the widest tile of a product; wider rows that must be seen whole are finished apart."""
LEAST_COLUMNS = 16
KEYS = 32
"""Inputs of a block of a product; matrix units take no fewer bytes."""
LARGEST_DIGIT, LARGEST_PAIR = 127, 127 * 256 + 127
MOST_INPUTS = 2**17 - 1
"""Products of two bytes that a 32-bit sum holds."""


def aggregate(
    graph: Csr,
    x: PackedTensor,
    finish: Finish,
    *,
    reduction: Reduction = "sum",
    coefficients: EdgeAttention | None = None,
) -> Tensor | PackedTensor:
    """See `sgq.runtime.kernels.aggregate`."""
    weights: dict[str, Any] = {"weights": None, "weight_stride": 0, "weight_pairs": None, "WEIGHT": "none"}
    head_channels = x.layout.width
    if coefficients is not None:
        pair = _pair(coefficients.scale, coefficients.zero_point, x.device)
        weights = {
            "weights": coefficients.codes, "weight_stride": coefficients.heads, "weight_pairs": pair,
        "WEIGHT": "head", }  # fmt: skip
        head_channels = x.layout.width // coefficients.heads
    elif graph.weights is not None and reduction == "sum":
        pair = _pair(1.0, 0.0, x.device)
        weights = {"weights": graph.weights, "weight_stride": 1, "weight_pairs": pair, "WEIGHT": "edge"}
    return _gather(graph, x, finish, reduction, weights, head_channels=head_channels)


def _gather(
    graph: Csr,
    x: PackedTensor,
    finish: Finish,
    reduction: Reduction,
    weights: dict[str, Any],
    *,
    head_channels: int,
    column_scale: Tensor | None = None,
    addend: Tensor | None = None,
    scores: Scores | None = None,
) -> Tensor | PackedTensor:
    """Bring the rows of x together over the edges of a graph; see `aggregation.aggregate_rows`."""
    check_segments(graph, x)
    segments = x.layout.segments
    only = segments[0] if len(segments) == 1 else None
    result, pieces = pieces_of(graph.rows, x.layout.width, finish, x.device, source=only)
    weights = {"weight_pair_stride": 0} | weights | {"WEIGHT": aggregation.WEIGHTS[weights["WEIGHT"]]}
    shared = weights | source_arguments(x) | _score_arguments(scores)
    usual_edges = power_of_two(graph.edges // max(graph.rows, 1))
    for piece in pieces:
        lanes = piece.lanes(whole=scores is not None)
        at_once = min(MOST_EDGES, max(LEAST_EDGES, usual_edges))
        tile = piece.planes * lanes
        at_once = max(1, min(at_once, GATHERED // tile))
        uniform = False
        if only is not None and only.bits != FLOAT_BITS:
            uniform = (only.row_bytes, BYTE_BITS // only.bits) == (piece.stride, piece.planes)
        launch(
            aggregation.aggregate_rows, (piece.end - piece.start, piece.blocks(lanes)), x.device,
            tile=at_once * tile, first=piece.start, stride=piece.stride, pointers=graph.pointers,
            columns=graph.columns, step=graph.step, head_channels=max(head_channels, 1),
            column_scale=column_scale, addend=addend, REDUCTION=aggregation.REDUCTIONS[reduction],
            UNIFORM=uniform, PLANES=piece.planes, LANES=lanes, EDGES=at_once, **shared, **piece.arguments,
        )  # fmt: skip
    return result


def linear(
    x: PackedTensor | SparseFeatures | BitFeatures,
    weight: IntegerWeight,
    finish: Finish,
    *,
    addend: Tensor | None = None,
    scores: Scores | None = None,
) -> Tensor | PackedTensor:
    """See `sgq.runtime.kernels.linear`."""
    if weight.form == "float":
        return reference.linear(x, weight, finish, addend=addend, scores=scores)
    if weight.inputs > MOST_INPUTS:
        raise ModelError(f"expected at most {MOST_INPUTS} inputs of an integer product (got {weight.inputs})")
    addend = None if addend is None else addend.contiguous()
    if isinstance(x, SparseFeatures):
        return _multiply_sparse(x, weight, finish, addend, scores)
    if isinstance(x, BitFeatures):
        layout = layout_of((x.rows,), BYTE_BITS * x.bits.size(1), (1,))
        # Rows of bits are not padded to the bytes of a packed row.
        segment = replace(layout.segments[0], row_bytes=x.bits.size(1))
        pairs = torch.stack([x.levels, torch.zeros_like(x.levels)], dim=1)
        x = PackedTensor(x.bits.view(-1), pairs, "row", replace(layout, segments=(segment,)))
    return _multiply(x, weight, finish, addend, scores)


def _multiply(
    x: PackedTensor, weight: IntegerWeight, finish: Finish, addend: Tensor | None, scores: Scores | None
) -> Tensor | PackedTensor:
    """Multiply packed rows by a weight in tiles, or rows of bits by one in tables."""
    if x.per == "channel":
        raise ModelError("expected rows whose codes share a scale (got one a channel): use a weight in fp32")
    rows, width = x.layout.rows, weight.outputs
    result, pieces = pieces_of(rows, width, finish, x.device)
    whole = scores is not None or any(piece.whole_rows for piece in pieces)
    if any(piece.planes * piece.lanes(whole=whole) > MOST_COLUMNS for piece in pieces):
        return _multiply_wide(x, weight, finish, addend, scores)
    shared = _score_arguments(scores) | {
        "codes": x.codes, "weights": weight.data, "extent": weight.data.size(1), "inputs": weight.inputs,
        "column_scale": _column_scale(weight), "addend": addend,
        "parameter_stride": 2 if x.per == "row" else 0, "FORM": products.FORMS[weight.form],
        "PARTS": 1 + (weight.largest > LARGEST_DIGIT) + (weight.largest > LARGEST_PAIR),
    }  # fmt: skip
    for number, segment, piece in overlaps(x.layout, pieces):
        lanes = piece.lanes(channels=128, least=-(-LEAST_COLUMNS // piece.planes), whole=whole)
        columns = piece.planes * lanes
        block = max(16, min(64, power_of_two(piece.end - piece.start), 8192 // columns))
        codes = x.codes[segment.first_byte :]
        shared |= {
            "codes": codes,
            "floats": codes.view(torch.float32) if segment.bits == FLOAT_BITS else None,
            "parameters": x.parameters if x.per == "row" else x.parameters[number],
        }
        launch(
            products.multiply_rows, (-(-(piece.end - piece.start) // block), piece.blocks(lanes)), x.device,
            tile=block * columns, first=piece.start, last=piece.end, stride=piece.stride,
            row_bytes=segment.row_bytes, source_first_row=segment.first_row, SOURCE_BITS=segment.bits,
            ROWS=block, PLANES=piece.planes, LANES=lanes, KEYS=KEYS, **shared, **piece.arguments,
        )  # fmt: skip
    return result


def _multiply_wide(
    x: PackedTensor, weight: IntegerWeight, finish: Finish, addend: Tensor | None, scores: Scores | None
) -> Tensor | PackedTensor:
    """Multiply, and finish in a second kernel: for rows too wide for one tile that must be seen whole."""
    sums = _multiply(x, weight, Finish(), None, None)
    assert isinstance(sums, Tensor)
    if scores is not None:
        reference.fill_scores(sums, scores)
    return _finished(sums, finish, addend)


def _multiply_sparse(
    x: SparseFeatures, weight: IntegerWeight, finish: Finish, addend: Tensor | None, scores: Scores | None
) -> Tensor | PackedTensor:
    """Multiply sparse features by a weight in rows: gather a weight row for every non-zero."""
    assert weight.packed is not None
    columns = x.columns.view(torch.uint16) if x.columns.dtype == torch.int16 else x.columns
    graph = Csr(x.pointers, columns, None, x.rows, x.channels, 1, 0)
    weights = {
        "weights": x.codes, "weight_stride": int(x.codes.numel() != 1), "weight_pairs": x.parameters,
        "weight_pair_stride": 2 * int(x.parameters.size(0) != 1), "WEIGHT": "edge",
    }  # fmt: skip
    return _gather(
        graph, weight.packed, finish, "sum", weights, head_channels=weight.outputs,
        column_scale=_column_scale(weight), addend=addend, scores=scores,
    )  # fmt: skip


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
    result = EdgeAttention.empty(graph.edges, heads, source.device, quantization)
    least, levels = (0.0, 0.0)
    if quantization is not None:
        least, levels = (numbers[0] for numbers in code_ranges(quantization.spec))
    if graph.rows == 0 or graph.edges == 0:
        return result
    per_head = source.layout.width // heads
    tile_heads, tile_channels = power_of_two(heads), power_of_two(per_head)
    tile = tile_heads * tile_channels
    at_once = max(1, min(MOST_EDGES, GATHERED // tile))
    other = source_arguments(target)
    of_target = {f"target_{name}": other[name] for name in ("codes", "floats", "table", "parameters")}
    of_target |= {f"TARGET_{name}": other[name] for name in ("SEGMENTS", "HELD", "PER")}
    launch(
        edges.edge_attention, (graph.rows,), source.device, tile=at_once * tile, pointers=graph.pointers,
        columns=graph.columns, step=graph.step, vector=vector, slope=slope, heads=heads, per_head=per_head,
        out=result.codes, scale=result.scale, zero=result.zero_point, least=least, levels=levels,
        KIND=edges.KINDS[kind], QUANTIZED=quantization is not None, HEADS=tile_heads, CHANNELS=tile_channels,
        EDGES=at_once, **source_arguments(source), **of_target,
    )  # fmt: skip
    return result


def quantize(values: Tensor, quantization: Quantization, rows: tuple[int, ...], heads: int) -> PackedTensor:
    """See `sgq.runtime.kernels.quantize`."""
    flat = values.reshape(values.size(0), -1).float().contiguous()
    result = _finished(flat, Finish(quantization=quantization, rows=rows, heads=heads), None)
    assert isinstance(result, PackedTensor)
    # The kernel counts the padding of heads as channels; the layout does not.
    return replace(result, layout=quantization.layout(rows, flat.size(1) // heads, heads=heads))


def _finished(values: Tensor, finish: Finish, addend: Tensor | None) -> Tensor | PackedTensor:
    """Return fp32 rows [rows, heads · channels] finished."""
    rows, heads = values.size(0), finish.heads
    channels = values.size(1) // heads
    layout = layout_of((rows,), channels, (FLOAT_BITS,), heads=heads)
    result, pieces = pieces_of(rows, layout.width, finish, values.device)
    for piece in pieces:
        lanes = piece.lanes()
        tile = piece.planes * lanes
        block = max(1, min(64, GATHERED // tile))
        launch(
            rounding.finish_rows, (-(-(piece.end - piece.start) // block), piece.blocks(lanes)),
            values.device, tile=block * tile, first=piece.start, last=piece.end, stride=piece.stride,
            values=values, heads=heads, channels=channels, head_channels=max(layout.head_channels, 1),
            addend=addend, ROWS=block, PLANES=piece.planes, LANES=lanes, **piece.arguments,
        )  # fmt: skip
    return result


def _pair(scale: float, zero: float, device: torch.device) -> Tensor:
    return torch.tensor([scale, zero], device=device)


def _column_scale(weight: IntegerWeight) -> Tensor:
    """Return the scale of each output of a weight."""
    return weight.scale.expand(weight.outputs).contiguous()


def _score_arguments(scores: Scores | None) -> dict[str, Any]:
    if scores is None:
        return {"vectors": None, "score_values": None, "score_count": 0, "score_heads": 1, "score_apart": 0}
    return {
        "vectors": scores.vectors.contiguous(), "score_values": scores.values,
        "score_count": scores.vectors.size(0), "score_heads": scores.heads,
        "score_apart": scores.values.stride(0),
    }  # fmt: skip


def finish_values(values: Tensor, finish: Finish) -> Tensor | PackedTensor:
    """See `sgq.runtime.kernels.finish_values`; by torch operations, which run on the device as well."""
    return finished(values, finish)
