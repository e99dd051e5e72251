"""GCN (Kipf and Welling, arXiv 1609.02907)."""

from __future__ import annotations

from torch import Tensor, nn
from torch_geometric.nn import GCNConv

from sgq.models.options import ModelOptions
from sgq.models.stack import ConvStack


class GCN(ConvStack):
    """GCNConv -> ReLU -> dropout -> GCNConv.

    With `options.normalise` every layer normalises the edges anew, as mini-batches need; for a transductive
    graph normalise them once with `sgq.data.normalise_adjacency` and build with `normalise=False`.
    """

    def __init__(self, in_channels: int, out_channels: int, *, options: ModelOptions) -> None:
        """Build the stack; see ModelOptions."""

        def conv(channels: int, width: int, last: bool) -> nn.Module:
            return GCNConv(channels, width, normalize=options.normalise)

        super().__init__(in_channels, out_channels, options=options, conv=conv)

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        edge_weight: Tensor | None = None,
        batch: Tensor | None = None,
        batch_size: int | None = None,
    ) -> Tensor:
        """Return logits [nodes, classes], or [graphs, classes] with a readout.

        `x` is dense or sparse CSR, `edge_index` [2, edges] or a sparse CSR `adj_t` that holds any weights;
        `edge_weight` [edges] goes with [2, edges] only. `batch` and `batch_size` are for the readout.
        """
        return self.run(x, edge_index, edge_weight, batch, batch_size)
