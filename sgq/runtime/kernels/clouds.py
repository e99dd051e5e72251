"""Kernels of networks on point clouds: neighbours, lengths of edges, and rows put together from others.

What the operations of searched networks (HGNAS, arXiv 2408.12840; GCoDE, arXiv 2404.05605) and of DGCNN
(arXiv 1801.07829) need besides aggregation and linear layers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sgq.errors import ModelError
from sgq.runtime.csr import COLUMN_PADDING
from sgq.runtime.finish import Finish
from sgq.runtime.kernels.contract import Blocks, Implementation, Reduction
from sgq.runtime.kernels.dispatch import check_finish, clipped, clips_rows, kernel_of
from sgq.runtime.packed import PackedTensor
from sgq.runtime.workspace import AT_ONCE, Workspace

if TYPE_CHECKING:
    from sgq.runtime.csr import Csr

MOST_EDGES = 2**31 - COLUMN_PADDING


def neighbours(
    x: PackedTensor,
    *,
    clouds: int,
    k: int,
    implementation: Implementation | None = None,
    workspace: Workspace = AT_ONCE,
) -> Csr:
    """Return the k nearest rows of each row among those of its own cloud, itself included, as edges into it.

    `clouds` are equally many rows each, one after another. The edges of a row go by squared Euclidean
    distance, then by index; they are exact for codes of at most 8 bits that share a scale, in fp32 else.
    Raise ModelError for a k that is less than 1 or greater than a cloud, for rows that are not whole clouds,
    for several heads, and for bits by bucket.
    """
    rows = x.layout.rows
    if clouds < 1 or rows % clouds:
        raise ModelError(f"expected rows of equally large clouds (got {rows} rows, {clouds} clouds)")
    if not 1 <= k <= rows // clouds:
        raise ModelError(f"expected 1 to {rows // clouds} neighbours, as many as a cloud has rows (got {k})")
    if rows * k >= MOST_EDGES:
        raise ModelError(f"expected fewer than 2^31 edges (got {rows * k})")
    if len(x.layout.segments) != 1:
        raise ModelError(f"expected rows of one width (got {len(x.layout.segments)}, by bucket)")
    _check_heads(x)
    return kernel_of("neighbours", x.codes.device, implementation, workspace)(x, clouds=clouds, k=k)


def edge_distances(
    graph: Csr,
    x: PackedTensor,
    finish: Finish,
    *,
    reduction: Reduction,
    implementation: Implementation | None = None,
    workspace: Workspace = AT_ONCE,
) -> Tensor | PackedTensor:
    """Return, for every node, the Euclidean distances to its sources brought together, finished: [rows, 1].

    Nodes without edges get 0 before the finish; weights of edges do not count. Sums of squares are exact for
    codes of at most 8 bits that share a scale, in fp32 else. Raise ModelError where sources and targets are
    not the rows of x, and for several heads.
    """
    if clips_rows(finish):
        values = edge_distances(
            graph, x, finish.in_float(), reduction=reduction, implementation=implementation,
            workspace=workspace,
        )  # fmt: skip
        return clipped(values, finish, workspace)
    check_finish(finish, graph.rows, 1)
    if not x.layout.rows == graph.sources == graph.rows:
        raise ModelError(
            f"expected rows of {graph.sources} sources and {graph.rows} targets (got {x.layout.rows})"
        )
    _check_heads(x)
    kernel = kernel_of("edge_distances", x.codes.device, implementation, workspace)
    return kernel(graph, x, finish, reduction=reduction)


def assemble(
    blocks: Blocks,
    finish: Finish,
    *,
    implementation: Implementation | None = None,
    workspace: Workspace = AT_ONCE,
) -> Tensor | PackedTensor:
    """Return blocks side by side as channels, each the sum of its terms (rows times a factor), finished.

    ((x), (y)) concatenates, ((x, y),) adds, ((x,), (max, x · −1)) puts a node's row beside the difference
    from it. The terms of a block are equally wide, and all have the same number of rows. Raise ModelError
    where they do not, for no blocks or terms, and for several heads.
    """
    if clips_rows(finish):
        values = assemble(blocks, finish.in_float(), implementation=implementation, workspace=workspace)
        return clipped(values, finish, workspace)
    if not blocks or not all(blocks):
        raise ModelError("expected blocks of at least one term (got none)")
    first = blocks[0][0]
    for terms in blocks:
        for term in terms:
            if (term.count, term.width) != (first.count, terms[0].width):
                raise ModelError(
                    f"expected terms of {first.count} rows and {terms[0].width} channels "
                    f"(got {term.count} and {term.width})"
                )
            if isinstance(term.rows, PackedTensor):
                _check_heads(term.rows)
            elif term.rows.dim() != 2 or term.rows.dtype != torch.float32:
                raise ModelError(f"expected rows of fp32 (got {term.rows.dtype}, {tuple(term.rows.shape)})")
    if finish.heads != 1:
        raise ModelError(f"expected a result of one head (got {finish.heads})")
    check_finish(finish, first.count, sum(terms[0].width for terms in blocks))
    rows = first.rows
    device = rows.codes.device if isinstance(rows, PackedTensor) else rows.device
    return kernel_of("assemble", device, implementation, workspace)(blocks, finish)


def _check_heads(x: PackedTensor) -> None:
    if x.layout.heads != 1:
        raise ModelError(f"expected rows of one head (got {x.layout.heads})")
