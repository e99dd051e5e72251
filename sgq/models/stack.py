"""The shape that the zoo's models share: a stack of convolutions, and a head for graph tasks.

Between two convolutions come the activation and then dropout, each a submodule of its own, so that the
tensor between them can be quantized: `convs.0` -> `activations.0` -> `dropouts.1` -> `convs.1`.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch_geometric.nn import Linear

from sgq.models.dropout import FeatureDropout, densify
from sgq.models.options import ModelOptions
from sgq.models.readout import Readout

ConvBuilder = Callable[[int, int, bool], nn.Module]
"""Makes one convolution of `(in_channels, out_channels, last)`; `last` marks a node task's output layer."""


class ConvStack(nn.Module):
    """Convolutions with activation and dropout between; logits of nodes or, with a readout, of graphs."""

    aggregates_input = False
    """Whether the convolution aggregates its input before a matrix product; sparse input is densified."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        options: ModelOptions,
        conv: ConvBuilder,
        activation: Callable[[], nn.Module] = nn.ReLU,
        width: int | None = None,
    ) -> None:
        """Build `options.layers` convolutions by `conv`, each hidden one `width` wide (default: `hidden`)."""
        super().__init__()
        width = options.hidden if width is None else width
        node_task = options.readout is None
        widths = [in_channels, *(width for _ in range(options.layers))]
        if node_task:
            widths[-1] = out_channels
        last = options.layers - 1
        self.convs = nn.ModuleList(
            conv(widths[layer], widths[layer + 1], node_task and layer == last)
            for layer in range(options.layers)
        )
        hidden_layers = last if node_task else options.layers
        activations = hidden_layers if node_task else hidden_layers + 1
        dropouts = options.layers if node_task else options.layers + 1
        self.activations = nn.ModuleList(activation() for _ in range(activations))
        self.dropouts = nn.ModuleList(FeatureDropout(options.dropout) for _ in range(dropouts))
        self.readout: Readout | None = None
        if options.readout is not None:
            self.readout = Readout(options.readout)
            self.lin1 = Linear(width, width)
            self.lin2 = Linear(width, out_channels)

    def run(
        self,
        x: Tensor,
        edge_index: Tensor,
        edge_weight: Tensor | None = None,
        batch: Tensor | None = None,
        batch_size: int | None = None,
    ) -> Tensor:
        """Return logits; `edge_weight` reaches the convolutions only where it is given."""
        weights = () if edge_weight is None else (edge_weight,)
        layers = len(self.convs)
        for layer, conv in enumerate(self.convs):
            x = self.dropouts[layer](x)
            x = conv(densify(x) if self.aggregates_input else x, edge_index, *weights)
            if layer < layers - 1 or self.readout is not None:
                x = self.activations[layer](x)
        if self.readout is None:
            return x
        x = self.activations[layers](self.lin1(self.readout(x, batch, batch_size)))
        logits: Tensor = self.lin2(self.dropouts[layers](x))
        return logits
