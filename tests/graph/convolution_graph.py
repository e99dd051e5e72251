"""The random graph that every convolution case runs on, and the forward arguments taken from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch_geometric.utils import to_torch_csr_tensor

Arguments = tuple[tuple[Any, ...], dict[str, Any]]

NODES, TARGETS, CHANNELS, EDGE_CHANNELS, RELATIONS, HYPEREDGES = 60, 40, 16, 6, 3, 20
ISOLATED = 6
METADATA = (["a", "b"], [("a", "to", "b"), ("b", "within", "b"), ("b", "back", "a")])


@dataclass(frozen=True)
class Graph:
    """A random graph of `NODES` nodes, with its bipartite and heterogeneous relatives and every extra input.

    `bipartite` has edges from the `NODES` nodes to `TARGETS` others, `within` among these, `back` is
    `bipartite` turned round; `mesh` gives each node four neighbours, in order. The last `ISOLATED` nodes of
    `edge_index` have no edge, the one before them has one.
    """

    x: Tensor
    x_target: Tensor
    x_initial: Tensor
    pos: Tensor
    normal: Tensor
    node_type: Tensor
    batch: Tensor
    edge_index: Tensor
    edge_weight: Tensor
    edge_attr: Tensor
    edge_type: Tensor
    negative: Tensor
    bipartite: Tensor
    bipartite_weight: Tensor
    bipartite_attr: Tensor
    within: Tensor
    back: Tensor
    mesh: Tensor
    hyperedge_index: Tensor
    hyperedge_weight: Tensor
    hyperedge_attr: Tensor

    @property
    def pair(self) -> tuple[Tensor, Tensor]:
        """Source and target features of `bipartite`."""
        return self.x, self.x_target

    @property
    def x_dict(self) -> dict[str, Tensor]:
        """Features by node type of `METADATA`."""
        return {"a": self.x, "b": self.x_target}

    @property
    def edge_index_dict(self) -> dict[tuple[str, str, str], Tensor]:
        """Edges by edge type of `METADATA`."""
        return dict(zip(METADATA[1], (self.bipartite, self.within, self.back), strict=True))


def sorted_by_target(edge_index: Tensor, *, simple: bool) -> Tensor:
    """Edges in the order that a CSR adjacency keeps; `simple` drops self-loops and repeated edges."""
    if simple:
        edge_index = torch.unique(edge_index[:, edge_index[0] != edge_index[1]], dim=1)
    order = torch.argsort(edge_index[1] * NODES + edge_index[0], stable=True)
    return edge_index[:, order] if simple else edge_index


def random_graph(*, simple: bool = False) -> Graph:
    """The graph of all cases: about 300 edges with self-loops and multi-edges, or without them (`simple`)."""
    generator = torch.Generator().manual_seed(7)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator) * 0.8 + 0.2

    def whole(high: int, *shape: int) -> Tensor:
        return torch.randint(high, shape, generator=generator)

    def edges(count: int, sources: int, targets: int) -> Tensor:
        ends = torch.stack([whole(sources, count), whole(targets, count)])
        return sorted_by_target(ends, simple=simple)

    connected = NODES - ISOLATED - 1
    leaf = torch.tensor([[0], [connected]])
    random, loops = (
        torch.stack([whole(connected, 280), whole(connected, 280)]),
        whole(connected, 8).expand(2, 8),
    )
    edge_index = sorted_by_target(torch.cat([random, loops, random[:, :12], leaf], dim=1), simple=simple)
    bipartite = edges(240, connected, TARGETS - ISOLATED)
    back = sorted_by_target(bipartite.flip(0), simple=simple)
    normals = normal(NODES, 3)
    count = edge_index.size(1)
    mesh = torch.stack([whole(NODES, 4 * NODES), torch.arange(NODES).repeat_interleave(4)])
    return Graph(
        x=normal(NODES, CHANNELS),
        x_target=normal(TARGETS, CHANNELS),
        x_initial=normal(NODES, CHANNELS),
        pos=normal(NODES, 3),
        normal=normals / normals.norm(dim=1, keepdim=True),
        node_type=whole(2, NODES),
        batch=torch.arange(NODES) // 20,
        edge_index=edge_index,
        edge_weight=uniform(count),
        edge_attr=normal(count, EDGE_CHANNELS),
        edge_type=whole(RELATIONS, count),
        negative=edges(150, connected, connected),
        bipartite=bipartite,
        bipartite_weight=uniform(bipartite.size(1)),
        bipartite_attr=normal(bipartite.size(1), EDGE_CHANNELS),
        within=edges(120, TARGETS - ISOLATED, TARGETS - ISOLATED),
        back=back,
        mesh=mesh,
        hyperedge_index=torch.stack([whole(connected, 150), whole(HYPEREDGES, 150)]),
        hyperedge_weight=uniform(HYPEREDGES),
        hyperedge_attr=normal(HYPEREDGES, CHANNELS),
    )


def with_csr(graph: Graph, arguments: Arguments) -> Arguments:
    """The same arguments with adjacencies as CSR (targets by sources) and edge weights as their values.

    Where edge weights were an argument of their own there is None.
    """
    args, kwargs = arguments
    sizes = {
        id(graph.edge_index): (NODES, NODES),
        id(graph.negative): (NODES, NODES),
        id(graph.mesh): (NODES, NODES),
        id(graph.bipartite): (TARGETS, NODES),
        id(graph.within): (TARGETS, TARGETS),
        id(graph.back): (NODES, TARGETS),
    }
    weighted_edges = ((graph.edge_index, graph.edge_weight), (graph.bipartite, graph.bipartite_weight))
    given = {id(value) for value in (*args, *kwargs.values())}
    values = {id(edges): weight for edges, weight in weighted_edges if id(weight) in given}
    absorbed = {id(weight) for weight in values.values()}

    def convert(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: convert(item) for key, item in value.items()}
        if id(value) in sizes:
            return to_torch_csr_tensor(value.flip(0), values.get(id(value)), size=sizes[id(value)])
        return None if id(value) in absorbed else value

    return tuple(convert(value) for value in args), convert(kwargs)


def plain(graph: Graph) -> Arguments:
    return (graph.x, graph.edge_index), {}


def weighted(graph: Graph) -> Arguments:
    return (graph.x, graph.edge_index, graph.edge_weight), {}


def attributed(graph: Graph) -> Arguments:
    return (graph.x, graph.edge_index), {"edge_attr": graph.edge_attr}


def typed(graph: Graph) -> Arguments:
    return (graph.x, graph.edge_index, graph.edge_type), {}


def bipartite(graph: Graph) -> Arguments:
    return (graph.pair, graph.bipartite), {}


def bipartite_weighted(graph: Graph) -> Arguments:
    return (graph.pair, graph.bipartite), {"edge_weight": graph.bipartite_weight}


def bipartite_attributed(graph: Graph) -> Arguments:
    return (graph.pair, graph.bipartite), {"edge_attr": graph.bipartite_attr}


def initial(graph: Graph) -> Arguments:
    return (graph.x, graph.x_initial, graph.edge_index), {}


def located(graph: Graph) -> Arguments:
    return (graph.x, graph.pos, graph.edge_index), {}


def signed(graph: Graph) -> Arguments:
    return (graph.x, graph.edge_index, graph.negative), {}


def heterogeneous(graph: Graph) -> Arguments:
    return (graph.x_dict, graph.edge_index_dict), {}
