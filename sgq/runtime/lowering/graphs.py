"""The graph that a lowered model runs on: nodes by bucket, edges in the forms that its layers need."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from sgq.graph.adjacency import adjacency_of, edge_list, is_sparse
from sgq.runtime.baselines import MODEL_INPUTS
from sgq.runtime.csr import Csr, csr_of
from sgq.runtime.features import BitFeatures, SparseFeatures
from sgq.runtime.measuring import stored_bytes, tensors_in
from sgq.runtime.packed import PackedTensor
from sgq.runtime.workspace import Schedule

Rows = Tensor | PackedTensor | SparseFeatures | BitFeatures
"""What rows of numbers may be at run time."""


@dataclass(frozen=True)
class EdgeForm:
    """Which edges a layer sees: its treatment of self-loops, and where weights come from.

    `loops`: "keep", "fill" (add those that are missing, as GCN does), "renew" (remove all, then add one a
    node, as GAT does), "own" (add one a node of weight `own_weight`, beside what there is: GIN's own row) or
    "self" (each edge comes from its target: what the target's own row is on its edges).
    `weights`: "none", "data" (the data's own) or "gcn" (Kipf and Welling's normalisation, arXiv 1609.02907,
    eq. 2; `own_weight` is that of a self-loop before it). `given` tells whether the data's weights reach the
    layer.
    """

    loops: Literal["keep", "fill", "renew", "own", "self"] = "keep"
    weights: Literal["none", "data", "gcn"] = "none"
    own_weight: float = 1.0
    given: bool = False


Edges = EdgeForm | int
"""Which edges a step runs along: the data's own in a form, or those of a value (sampled neighbours)."""


@dataclass(frozen=True)
class PreparedInputs:
    """A graph as a lowered model takes it: packed features, CSR edges, bucket order.

    Nodes are numbered by degree bucket where the model has any: `order` [nodes] holds the nodes of the data
    in that numbering, `rows` counts those of each bucket. `original` is the data's own adjacency, for layers
    that stay simulated, in the same numbering; `data` itself is kept only for a model that stays simulated as
    a whole. `count` is the number of graphs (or point clouds) in the batch;
    `members` leads from the nodes of each to it, for models that pool them by integer kernels.
    """

    features: Rows
    graphs: dict[EdgeForm, Csr]
    nodes: int
    rows: tuple[int, ...]
    order: Tensor | None = None
    bucket: Tensor | None = None
    original: dict[str, Any] = field(default_factory=dict)
    data: Any = None
    count: int = 1
    members: Csr | None = None
    schedule: Schedule = field(default_factory=Schedule, init=False, compare=False)

    @property
    def device(self) -> torch.device:
        """Where the graph is."""
        return next(rows_tensors(self.features)).device

    def tensors(self) -> Iterator[Tensor]:
        """Yield what it holds in memory, the features first; of `data`, what a model reads."""
        yield from rows_tensors(self.features)
        if self.data is not None:
            yield from tensors_in([self.data.get(name) for name in MODEL_INPUTS])
        for graph in self.graphs.values():
            yield from graph.tensors()
        if self.members is not None:
            yield from self.members.tensors()
        for tensor in (self.order, self.bucket, *self.original.values()):
            if isinstance(tensor, Tensor):
                yield tensor
        yield from self.schedule.tensors()

    def edges(self, edges: Edges, values: dict[int, Any]) -> Csr:
        """Return the edges of a form, or those of a value."""
        graph: Csr = values[edges] if isinstance(edges, int) else self.graphs[edges]
        return graph

    @property
    def feature_nbytes(self) -> int:
        """Bytes of the input features alone."""
        return stored_bytes(rows_tensors(self.features))

    @property
    def nbytes(self) -> int:
        """Bytes of everything that it holds, each storage once."""
        return stored_bytes(self.tensors())


def rows_tensors(rows: Rows) -> Iterator[Tensor]:
    """Yield the tensors of any form of rows."""
    if isinstance(rows, Tensor):
        yield rows
    else:
        yield from rows.tensors()


def edges_of(data: Any) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return (source, target, weights or None) of a graph; a sparse adjacency of ones has no weights."""
    adjacency = adjacency_of(data)
    source, target = edge_list(adjacency)
    if not is_sparse(adjacency):
        weights = getattr(data, "edge_weight", None)
        return source, target, weights
    if isinstance(adjacency, Tensor):
        values = adjacency.to_sparse_coo().coalesce().values()
    else:
        values = adjacency.storage.value()
    if values is None or bool((values == 1).all()):
        return source, target, None
    return source, target, values


def build_csr(
    source: Tensor,
    target: Tensor,
    weights: Tensor | None,
    form: EdgeForm,
    *,
    nodes: int,
    rows: tuple[int, ...] | None,
) -> Csr:
    """Return the edges of a graph in a layer's form; `rows` counts the nodes of each bucket, or is None."""
    weights = weights if form.given else None
    own = weights if form.weights != "none" else None
    if form.weights == "gcn":
        from torch_geometric.nn.conv.gcn_conv import gcn_norm

        edge_index, own = gcn_norm(
            torch.stack([source, target]),
            weights,
            nodes,
            improved=form.own_weight == 2.0,
            add_self_loops=form.loops == "fill",
            dtype=torch.float32,
        )
        source, target = edge_index
    elif form.loops == "self":
        source = target
    elif form.loops in ("renew", "own"):
        if form.loops != "own":
            kept = source != target
            source, target = source[kept], target[kept]
            own = None if own is None else own[kept]
        loops = torch.arange(nodes, device=source.device)
        if own is not None or form.own_weight != 1.0:
            old = torch.ones(source.numel(), device=source.device) if own is None else own
            own = torch.cat([old, torch.full((nodes,), form.own_weight, device=source.device)])
        source, target = torch.cat([source, loops]), torch.cat([target, loops])
    return csr_of(source, target, own, rows=nodes, segments=rows)
