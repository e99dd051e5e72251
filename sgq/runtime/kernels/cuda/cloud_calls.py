"""What networks on point clouds do, on a GPU: neighbours, lengths of edges, rows put together from others."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sgq.runtime.csr import COLUMN_PADDING, Csr
from sgq.runtime.finish import Finish
from sgq.runtime.kernels.contract import Blocks, Reduction, Term, exact_distances
from sgq.runtime.kernels.cuda import aggregation, assembling, edge_lengths, nearest
from sgq.runtime.kernels.cuda.launching import GATHERED, MOST_EDGES, check_segments, launch
from sgq.runtime.kernels.cuda.pieces import pieces_of, power_of_two, source_arguments
from sgq.runtime.packed import PackedTensor

MOST_COLUMNS = 1024
"""Rows of a cloud whose distances a program holds at a time."""
CHANNELS = 16
"""Channels of a block of distances."""


def neighbours(x: PackedTensor, *, clouds: int, k: int) -> Csr:
    """See `sgq.runtime.kernels.neighbours`."""
    rows, device = x.layout.rows, x.device
    size = rows // clouds
    pointers = torch.full((rows + 1,), rows * k, dtype=torch.int32, device=device)
    columns = torch.zeros(rows * k + COLUMN_PADDING, dtype=torch.int32, device=device)
    source = source_arguments(x)
    at_once = min(MOST_COLUMNS, power_of_two(size))
    channels = min(CHANNELS, power_of_two(x.layout.width))
    launch(
        nearest.nearest_rows, (rows,), device, tile=at_once * channels, size=size, k=k,
        width=x.layout.width, pointers=pointers, columns=columns, FLOATS=source["HELD"] == 2,
        EXACT=exact_distances(x), KEPT=power_of_two(k), COLUMNS=at_once, CHANNELS=channels,
        **{name: source[name] for name in ("codes", "floats", "table", "parameters", "PER")},
    )  # fmt: skip
    return Csr(pointers, columns, None, rows, rows, 1, k)


def edge_distances(
    graph: Csr, x: PackedTensor, finish: Finish, *, reduction: Reduction
) -> Tensor | PackedTensor:
    """See `sgq.runtime.kernels.edge_distances`."""
    check_segments(graph, x)
    result, pieces = pieces_of(graph.rows, 1, finish, x.device)
    channels = power_of_two(x.layout.width)
    at_once = max(1, min(MOST_EDGES, GATHERED // channels))
    for piece in pieces:
        launch(
            edge_lengths.reduce_lengths, (piece.end - piece.start,), x.device, tile=at_once * channels,
            first=piece.start, stride=piece.stride, pointers=graph.pointers, columns=graph.columns,
            step=graph.step, channels=x.layout.width, addend=None, EXACT=exact_distances(x),
            REDUCTION=aggregation.REDUCTIONS[reduction], PLANES=piece.planes, LANES=piece.lanes(whole=True),
            CHANNELS=channels, EDGES=at_once, **source_arguments(x), **piece.arguments,
        )  # fmt: skip
    return result


def assemble(blocks: Blocks, finish: Finish) -> Tensor | PackedTensor:
    """See `sgq.runtime.kernels.assemble`."""
    first = blocks[0][0].rows
    terms, kinds, begin = [], [], 0
    for block in blocks:
        for term in block:
            arguments, kind = _term_arguments(term, begin)
            terms.append(arguments)
            kinds.append(kind)
        begin += block[0].width
    result, pieces = pieces_of(blocks[0][0].count, begin, finish, first.device)
    for piece in pieces:
        lanes = piece.lanes()
        launch(
            assembling.assemble_rows, (piece.end - piece.start, piece.blocks(lanes)), first.device,
            tile=piece.planes * lanes, first=piece.start, stride=piece.stride, terms=tuple(terms),
            addend=None, KINDS=tuple(kinds), PLANES=piece.planes, LANES=lanes, **piece.arguments,
        )  # fmt: skip
    return result


def _term_arguments(term: Term, begin: int) -> tuple[tuple[Any, ...], tuple[int, int, int]]:
    """Return what the kernel takes of a term whose channels begin there, and its kind."""
    given = term.rows
    if isinstance(given, Tensor):
        return (None, given.contiguous(), None, None, begin, term.width, term.factor), (
            assembling.DENSE,
            0,
            1,
        )
    source = source_arguments(given)
    held = tuple(source[name] for name in ("codes", "floats", "table", "parameters"))
    return (*held, begin, term.width, term.factor), (source["HELD"], source["PER"], source["SEGMENTS"])
