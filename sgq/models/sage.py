"""GraphSAGE (Hamilton, Ying and Leskovec, arXiv 1706.02216)."""

from __future__ import annotations

from torch import Tensor, nn
from torch_geometric.nn import SAGEConv

from sgq.models.options import ModelOptions
from sgq.models.stack import ConvStack


class SAGE(ConvStack):
    """SAGEConv (mean) -> ReLU -> dropout -> SAGEConv.

    Sparse input features are made dense: the first layer aggregates them.
    """

    aggregates_input = True

    def __init__(self, in_channels: int, out_channels: int, *, options: ModelOptions) -> None:
        """Build the stack; see ModelOptions."""

        def conv(channels: int, width: int, last: bool) -> nn.Module:
            return SAGEConv(channels, width)

        super().__init__(in_channels, out_channels, options=options, conv=conv)

    def forward(
        self, x: Tensor, edge_index: Tensor, batch: Tensor | None = None, batch_size: int | None = None
    ) -> Tensor:
        """Return logits [nodes, classes], or [graphs, classes] with a readout; see GCN for the arguments."""
        return self.run(x, edge_index, batch=batch, batch_size=batch_size)
