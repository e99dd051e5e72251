"""AGNN's propagation layer with its attention in a step of its own."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.nn import MessagePassing
from torch_geometric.utils import add_self_loops, remove_self_loops, softmax


class SeparableAGNNConv(MessagePassing):
    """Propagation by cosine attention (Thekumparampil et al., arXiv 1803.03735, section 4).

    attention(j -> i) = softmax over j in N(i) + {i} of beta * cos(x_i, x_j); x'_i = sum of attention * x_j.
    The same numbers as PyG's AGNNConv, which computes attention inside `message`; here it is made in
    `edge_update`, so that attention and messages can be quantized apart.
    """

    def __init__(self, *, learn_beta: bool = True) -> None:
        """Start with beta = 1, trained or fixed."""
        super().__init__(aggr="add")
        self.beta = nn.Parameter(torch.ones(1), requires_grad=learn_beta)

    def reset_parameters(self) -> None:
        """Set beta back to 1."""
        super().reset_parameters()
        nn.init.ones_(self.beta)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """Return propagated features [nodes, features]; `edge_index` [2, edges] or a sparse CSR adj_t."""
        edge_index, _ = remove_self_loops(edge_index)
        edge_index, _ = add_self_loops(edge_index, num_nodes=x.size(0))
        direction = functional.normalize(x, p=2.0, dim=-1)
        # edge_updater_type: (direction: Tensor)
        attention = self.edge_updater(edge_index, direction=direction)
        # propagate_type: (x: Tensor, attention: Tensor)
        out: Tensor = self.propagate(edge_index, x=x, attention=attention)
        return out

    def edge_update(
        self,
        direction_i: Tensor,
        direction_j: Tensor,
        index: Tensor,
        ptr: Tensor | None,
        dim_size: int | None,
    ) -> Tensor:
        """Return attention [edges], summing to 1 over the edges into each node."""
        cosine = (direction_i * direction_j).sum(dim=-1)
        return softmax(self.beta * cosine, index, ptr, dim_size)

    def message(self, x_j: Tensor, attention: Tensor) -> Tensor:
        """Return each edge's message [edges, features]."""
        return attention.unsqueeze(-1) * x_j
