"""Degree buckets: which nodes share a width, and how their ids reach a quantizer inside a model.

Buckets come from the in-degree in the whole graph, so they are made before any sampling: `DegreeBuckets`
writes `data.bucket`, which PyG's loaders slice and concatenate like any node attribute. A wrapped model
keeps the whole graph's ids as a buffer; a mini-batch passes its own (`model(x, edge_index,
bucket=batch.bucket)`). Either is bound to the calling thread for one call of the root's forward.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from sgq.errors import PlanError
from sgq.graph.adjacency import in_degree

MAX_BUCKETS = 255

_call = threading.local()


@contextmanager
def bound_buckets(bucket: Tensor | None) -> Iterator[None]:
    """Bind bucket ids [nodes] to this thread, for the quantizers that run inside the block."""
    outer = getattr(_call, "bucket", None)
    _call.bucket = bucket
    try:
        yield
    finally:
        _call.bucket = outer


def current_buckets() -> Tensor | None:
    """Return the ids bound by the innermost `bound_buckets` of this thread, or None."""
    return getattr(_call, "bucket", None)


def check_edges(edges: Sequence[int]) -> tuple[int, ...]:
    """Return bucket edges as a tuple; they must be positive and strictly increasing, and 254 at most."""
    result = tuple(int(edge) for edge in edges)
    increasing = all(low < high for low, high in pairwise(result))
    if not result or result[0] < 1 or not increasing:
        raise PlanError(f"expected degree bucket edges that are positive and increasing (got {list(edges)})")
    if len(result) >= MAX_BUCKETS:
        raise PlanError(f"expected at most {MAX_BUCKETS - 1} degree bucket edges (got {len(result)})")
    return result


def assign_buckets(degree: Tensor, edges: Sequence[int]) -> Tensor:
    """Return the bucket of each in-degree: bucket k holds edges[k-1] <= degree < edges[k]; uint8 [nodes]."""
    boundaries = torch.tensor(check_edges(edges), device=degree.device)
    return torch.bucketize(degree, boundaries, right=True).to(torch.uint8)


def quantile_edges(degree: Tensor, buckets: int) -> tuple[int, ...]:
    """Return bucket edges that split the nodes into `buckets` parts of about equal size by in-degree."""
    shares = torch.arange(1, buckets, dtype=torch.float64) / buckets
    ordered = degree.sort().values
    if ordered.numel() == 0:
        raise PlanError("degree buckets by quantiles need a graph with nodes (got 0 nodes)")
    edges = ordered[(shares * ordered.numel()).long()].clamp(min=1).tolist()
    if len(set(edges)) != len(edges):
        raise PlanError(
            f"the in-degrees of this graph cannot be split into {buckets} quantile buckets: the boundaries "
            f"would be {edges}. Use fewer buckets, or give edges (degree_buckets: {{edges: [...]}})"
        )
    return check_edges(edges)


@functional_transform("sgq_degree_buckets")
class DegreeBuckets(BaseTransform):
    """Write `data.bucket` [nodes]: each node's degree bucket in the graph that the transform sees.

    Apply it to the whole graph, before a NeighborLoader samples from it, or as the `transform` of a data
    set of graphs. `edges` are the boundaries; `quantiles` finds them on the graph itself.
    """

    def __init__(self, edges: Sequence[int] | None = None, *, quantiles: int | None = None) -> None:
        if (edges is None) == (quantiles is None):
            raise PlanError("expected either edges or quantiles for degree buckets")
        self.edges = None if edges is None else check_edges(edges)
        self.quantiles = quantiles

    def forward(self, data: Any) -> Any:
        """Return the data with its `bucket` attribute."""
        degree = in_degree(data)
        edges = self.edges if self.edges is not None else quantile_edges(degree, self.quantiles or 1)
        data.bucket = assign_buckets(degree, edges)
        return data

    def __repr__(self) -> str:
        how = f"edges={list(self.edges)}" if self.edges is not None else f"quantiles={self.quantiles}"
        return f"DegreeBuckets({how})"
