"""Aggregation of a genotype: messages made of target and source, brought together by one reducer.

Messages are linear in the source, but for the distance: max_j (x_j − x_i) = (max_j x_j) − x_i, and likewise
for the other reducers. So only sources are gathered, and what of a message is the target's own is put beside
or taken off afterwards. Rows without edges get 0.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing
from torch_geometric.utils import scatter

from sgq.models.genotype import Message, Reducer
from sgq.models.neighbours import Neighbours


class Reducing(MessagePassing):
    """Message passing whose reducer uses that every node has k edges, where that is so."""

    def __init__(self, reducer: Reducer) -> None:
        """Reduce by a reducer."""
        super().__init__(aggr=reducer)
        self.reducer = reducer

    def aggregate(self, inputs: Tensor, index: Tensor, dim_size: int | None, k: int | None) -> Tensor:
        """Return one row a node of messages [edges, channels]."""
        if k is None:
            return scatter(inputs, index, dim=0, dim_size=dim_size, reduce=self.reducer)
        by_node = inputs.view(-1, k, inputs.size(1))
        if self.reducer == "max":
            return by_node.amax(1)
        if self.reducer == "min":
            return by_node.amin(1)
        return by_node.sum(1) if self.reducer == "sum" else by_node.mean(1)


class EdgeNetwork(Reducing):
    """The operation `edge_mlp`: a network on [x_i, x_j − x_i] of every edge (EdgeConv, arXiv 1801.07829)."""

    def __init__(self, network: nn.Module, reducer: Reducer) -> None:
        """Run `network` on every edge."""
        super().__init__(reducer)
        self.network = network

    def forward(self, x: Tensor, neighbours: Neighbours) -> Tensor:
        """Return one row a node of x [nodes, channels]."""
        reduced: Tensor = self.propagate(neighbours.edge_index, x=x, k=neighbours.k)
        return reduced

    def message(self, x_i: Tensor, x_j: Tensor) -> Tensor:
        """Return the network's rows, [edges, its width]."""
        made: Tensor = self.network(torch.cat([x_i, x_j - x_i], dim=1))
        return made


class GraphAggregate(Reducing):
    """The operation `aggregate` of a genotype (HGNAS, arXiv 2303.10875, table 2)."""

    def __init__(self, reducer: Reducer, message_kind: Message, *, k: int | None = None) -> None:
        """Reduce messages of a kind by a reducer; `k` edges a node, where neighbours are not asked for."""
        super().__init__(reducer)
        self.message_kind = message_kind
        self.k = k

    def forward(self, x: Tensor, neighbours: Neighbours | None) -> Tensor:
        """Return [nodes, channels of the message] of x [nodes, channels].

        Of targets alone, k of them a node, neighbours are not asked for.
        """
        kind = self.message_kind
        if neighbours is None:
            assert kind == "target"
            assert self.k is not None
            return x * self.k if self.reducer == "sum" else x
        if kind == "target":
            return self._own(x, neighbours)
        # What holds most intermediate values comes first, when least else is held.
        distance = self._distance(x, neighbours) if kind in ("distance", "full") else None
        if kind == "distance":
            assert distance is not None
            return distance
        source: Tensor = self.propagate(neighbours.edge_index, x=x, k=neighbours.k)
        if kind == "source":
            return source
        own = self._own(x, neighbours)
        relative = source - own
        if kind == "relative":
            return relative
        if kind == "source_relative":
            return torch.cat([source, relative], dim=1)
        if kind == "target_relative":
            return torch.cat([own, relative], dim=1)
        assert distance is not None
        return torch.cat([own, source, relative, distance], dim=1)

    def message(self, x_j: Tensor) -> Tensor:
        """Return the source's row of each edge, [edges, channels]."""
        return x_j

    def _own(self, x: Tensor, neighbours: Neighbours) -> Tensor:
        """Return what the reducer makes of the target's own row on each of its edges."""
        if neighbours.k is not None:
            return x * neighbours.k if self.reducer == "sum" else x
        degree = torch.bincount(neighbours.edge_index[1], minlength=x.size(0)).unsqueeze(1)
        return x * (degree if self.reducer == "sum" else degree.clamp(max=1))

    def _distance(self, x: Tensor, neighbours: Neighbours) -> Tensor:
        """Return the reduced ‖x_j − x_i‖, [nodes, 1]."""
        source, target = neighbours.edge_index
        length = torch.linalg.vector_norm(x[source] - x[target], dim=1, keepdim=True)
        return self.aggregate(length, target, x.size(0), neighbours.k)

    def __repr__(self) -> str:
        """Return the reducer and the kind of message."""
        return f"{type(self).__name__}({self.reducer}, {self.message_kind})"
