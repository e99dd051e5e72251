"""Degrees and edge counts of a graph, whichever form its adjacency has.

PyG's convention throughout: `edge_index` [2, edges] runs from row 0 (source) to row 1 (target); a sparse
adjacency is the transposed one, `adj_t` [targets, sources].
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sgq.errors import DataError


def adjacency_of(data: Any) -> Any:
    """Return a graph's `edge_index`, else its `adj_t`; raise DataError when it has neither."""
    for name in ("edge_index", "adj_t"):
        value = getattr(data, name, None)
        if value is not None:
            return value
    raise DataError('the data has neither "edge_index" nor "adj_t"')


def is_sparse(adjacency: Any) -> bool:
    """Whether the adjacency is a sparse matrix rather than an edge list."""
    return not isinstance(adjacency, Tensor) or adjacency.layout != torch.strided


def edge_count(adjacency: Any) -> int:
    """Return the number of edges (stored entries of a sparse adjacency)."""
    if isinstance(adjacency, Tensor):
        return int(adjacency._nnz()) if adjacency.layout != torch.strided else int(adjacency.size(1))
    return int(adjacency.nnz())


def edge_list(adjacency: Any) -> tuple[Tensor, Tensor]:
    """Return (source, target) node ids, each [edges]."""
    if not is_sparse(adjacency):
        return adjacency[0], adjacency[1]
    if isinstance(adjacency, Tensor):
        target, source = adjacency.to_sparse_coo().coalesce().indices()
        return source, target
    target, source, _ = adjacency.coo()
    return source, target


def in_degree(data: Any) -> Tensor:
    """Return the in-degree of every node, int64 [nodes]; multi-edges count as often as they stand.

    Data that holds `in_degree`, because its edges were changed since (self-loops), keeps those.
    """
    if getattr(data, "in_degree", None) is not None:
        return data.in_degree
    _, target = edge_list(adjacency_of(data))
    return torch.bincount(target, minlength=int(data.num_nodes))


def out_degree(data: Any) -> Tensor:
    """Return the out-degree of every node, int64 [nodes]."""
    source, _ = edge_list(adjacency_of(data))
    return torch.bincount(source, minlength=int(data.num_nodes))
