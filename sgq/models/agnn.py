"""AGNN (Thekumparampil, Wang, Oh and Li, arXiv 1803.03735)."""

from __future__ import annotations

from torch import Tensor, nn
from torch_geometric.nn import Linear

from sgq.models.agnn_conv import SeparableAGNNConv
from sgq.models.dropout import FeatureDropout
from sgq.models.options import ModelOptions
from sgq.models.readout import Readout


class AGNN(nn.Module):
    """lin1 -> ReLU -> propagations with cosine attention -> dropout -> lin2.

    With two propagations it has the four sites of SGQuant's layer-wise bits (arXiv 2007.05100): the input,
    the input of either propagation and the input of lin2.
    """

    def __init__(self, in_channels: int, out_channels: int, *, options: ModelOptions) -> None:
        """Build it; `layers` counts propagations, and the first one's beta stays 1 as in PyG's example."""
        super().__init__()
        self.lin1 = Linear(in_channels, options.hidden)
        self.activations = nn.ModuleList([nn.ReLU()])
        self.convs = nn.ModuleList(SeparableAGNNConv(learn_beta=layer > 0) for layer in range(options.layers))
        self.dropouts = nn.ModuleList(FeatureDropout(options.dropout) for _ in range(2))
        self.readout = None if options.readout is None else Readout(options.readout)
        self.lin2 = Linear(options.hidden, out_channels)

    def forward(
        self, x: Tensor, edge_index: Tensor, batch: Tensor | None = None, batch_size: int | None = None
    ) -> Tensor:
        """Return logits [nodes, classes], or [graphs, classes] with a readout; see GCN for the arguments."""
        x = self.activations[0](self.lin1(self.dropouts[0](x)))
        for conv in self.convs:
            x = conv(x, edge_index)
        if self.readout is not None:
            x = self.readout(x, batch, batch_size)
        logits: Tensor = self.lin2(self.dropouts[1](x))
        return logits
