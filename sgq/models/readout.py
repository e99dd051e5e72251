"""From one row a node to one row a graph."""

from __future__ import annotations

from torch import Tensor, nn
from torch_geometric.nn import global_add_pool, global_max_pool, global_mean_pool

from sgq.models.options import ReadoutKind

_POOLS = {"mean": global_mean_pool, "sum": global_add_pool, "max": global_max_pool}


class Readout(nn.Module):
    """Mean, sum or maximum over the nodes of each graph."""

    def __init__(self, kind: ReadoutKind) -> None:
        """Pool by `kind`."""
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor, batch: Tensor | None, batch_size: int | None = None) -> Tensor:
        """Return [graphs, features] of x [nodes, features]; without `batch` all nodes are one graph.

        `batch_size` is the number of graphs; export needs it, since it cannot be read off `batch`.
        """
        pooled: Tensor = _POOLS[self.kind](x, batch, batch_size)
        return pooled

    def extra_repr(self) -> str:
        """Return the kind, for the module's repr."""
        return self.kind
