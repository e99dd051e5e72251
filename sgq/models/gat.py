"""GAT (Velickovic et al., arXiv 1710.10903) and GATv2 (Brody, Alon and Yahav, arXiv 2105.14491)."""

from __future__ import annotations

from torch import Tensor, nn
from torch_geometric.nn import GATConv, GATv2Conv

from sgq.models.options import ModelOptions
from sgq.models.stack import ConvStack


class GAT(ConvStack):
    """GATConv with concatenated heads -> ELU -> dropout -> GATConv with averaged heads.

    A hidden layer is `heads` x `hidden` wide; `dropout` also drops attention coefficients.
    """

    conv_class: type[GATConv] | type[GATv2Conv] = GATConv

    def __init__(self, in_channels: int, out_channels: int, *, options: ModelOptions) -> None:
        """Build the stack; see ModelOptions."""

        def conv(channels: int, width: int, last: bool) -> nn.Module:
            heads = options.output_heads if last else options.heads
            size = width if last else options.hidden
            return self.conv_class(channels, size, heads=heads, concat=not last, dropout=options.dropout)

        super().__init__(
            in_channels,
            out_channels,
            options=options,
            conv=conv,
            activation=nn.ELU,
            width=options.heads * options.hidden,
        )

    def forward(
        self, x: Tensor, edge_index: Tensor, batch: Tensor | None = None, batch_size: int | None = None
    ) -> Tensor:
        """Return logits [nodes, classes], or [graphs, classes] with a readout; see GCN for the arguments."""
        return self.run(x, edge_index, batch=batch, batch_size=batch_size)


class GATv2(GAT):
    """GAT with dynamic attention."""

    conv_class = GATv2Conv
