"""The learned predictor: latency and measured peak memory of an architecture, from its graph.

A GIN or a GCN over the architecture's graph (see `sgq.cost.architecture_graph`), sum pooling, and a head each
for latency and peak. A head gives a factor: on the look-up table's sum, and on the modelled peak. Each node
has a factor of its own besides, on its part of the sum: what an operation takes depends on those around it.
So an untrained predictor says what table and model say, and one that is moved to another device starts from
its table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from sgq.cost.architecture_graph import COLUMNS, PLACE, SCALED

Layer = Literal["gin", "gcn"]
METRICS = ("latency_s", "peak_bytes")
LARGEST_LOG_FACTOR = 3.0
SHARE = PLACE["share of the time"]


@dataclass(frozen=True)
class PredictorShape:
    """Which network: the kind of layer, their number and width, and dropout before the heads."""

    layer: Layer = "gin"
    layers: int = 3
    width: int = 64
    dropout: float = 0.2


@dataclass(frozen=True)
class Batch:
    """Architectures together: node features [batch, nodes, columns], which nodes there are, and base values.

    `base` [batch, 2] is the look-up table's sum in seconds and the modelled peak in bytes.
    """

    nodes: Tensor
    present: Tensor
    base: Tensor

    def __len__(self) -> int:
        return self.nodes.size(0)

    def part(self, index: Tensor) -> Batch:
        """Return some of the architectures."""
        return Batch(self.nodes[index], self.present[index], self.base[index])


class Predictor(nn.Module):
    """Predicts latency and peak of a batch of architectures; see the module."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, shape: PredictorShape | None = None) -> None:
        """Build it, with heads that give the factor 1."""
        super().__init__()
        self.shape = shape or PredictorShape()
        width = self.shape.width
        self.register_buffer("mean", torch.zeros(len(SCALED)))
        self.register_buffer("deviation", torch.ones(len(SCALED)))
        self.enter = nn.Linear(len(COLUMNS), width)
        self.kind = GinLayer if self.shape.layer == "gin" else GcnLayer
        self.layers = nn.ModuleList(self.kind(width) for _ in range(self.shape.layers))
        self.dropout = nn.Dropout(self.shape.dropout)
        self.heads = nn.ModuleList(_head(2 * width) for _ in METRICS)
        self.node_head = NodeHead(width)

    def scale_to(self, batch: Batch) -> None:
        """Take mean and standard deviation of the table's values from a training set."""
        values = batch.nodes[..., list(SCALED)][batch.present]
        self.mean.copy_(values.mean(0))
        self.deviation.copy_(values.std(0).clamp(min=1e-6))

    def forward(self, batch: Batch) -> Tensor:
        """Return seconds and bytes, [batch, 2]."""
        scaled = list(SCALED)
        nodes = batch.nodes.clone()
        nodes[..., scaled] = (nodes[..., scaled] - self.mean) / self.deviation
        hidden = self.enter(nodes).relu_()
        weights = self.kind.weights(chain_links(batch.present))
        for layer in self.layers:  # nothing sees a node that is not there
            hidden = layer(hidden, weights)
        # What is pooled is a sum, as latency is; the global node has seen all.
        present = batch.present.unsqueeze(1).to(hidden.dtype)
        pooled = torch.cat([(present @ hidden).squeeze(1) / 8.0, hidden[:, 0]], dim=1)
        factors = torch.cat([_factor(head(self.dropout(pooled))) for head in self.heads], dim=1)
        # The global node has all of the time; the others share it.
        parts = batch.nodes[:, 1:, SHARE] * _factor(self.node_head(hidden[:, 1:], hidden[:, 0]))
        latency = factors[:, 0] * parts.sum(1)
        return batch.base * torch.stack([latency, factors[:, 1]], dim=1)


def chain_links(present: Tensor) -> Tensor:
    """Return which node sees which, [batch, nodes, nodes]: itself, the one before and the global one."""
    nodes = present.size(1)
    links = torch.eye(nodes, device=present.device)
    links[1:, 0] = links[0, 1:] = 1.0
    following = torch.arange(2, nodes, device=present.device)
    links[following, following - 1] = 1.0
    there = present.float()
    return links * there.unsqueeze(1) * there.unsqueeze(2)


class GinLayer(nn.Module):
    """A network of the node and the mean of what it sees (GIN with ε = 0, as GCoDE's predictor has it)."""

    def __init__(self, width: int) -> None:
        """Build the network."""
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(width, width), nn.LayerNorm(width), nn.ReLU(inplace=True), nn.Linear(width, width)
        )

    @staticmethod
    def weights(links: Tensor) -> Tensor:
        """Return how much each node counts for each, by who sees whom [batch, nodes, nodes]."""
        mean = links / links.sum(2, keepdim=True).clamp(min=1.0)
        return mean + torch.eye(links.size(1), device=links.device)

    def forward(self, hidden: Tensor, weights: Tensor) -> Tensor:
        """Return new features [batch, nodes, width]."""
        made: Tensor = self.network(weights @ hidden)
        return made.add_(hidden).relu_()


class GcnLayer(nn.Module):
    """A linear layer of what is seen, by the symmetric normalisation of GCN, as HGNAS's predictor has it."""

    def __init__(self, width: int) -> None:
        """Build the linear layer."""
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)

    @staticmethod
    def weights(links: Tensor) -> Tensor:
        """Return how much each node counts for each, by who sees whom [batch, nodes, nodes]."""
        into = links.sum(2, keepdim=True).clamp(min=1.0).rsqrt()
        out = links.sum(1, keepdim=True).clamp(min=1.0).rsqrt()
        return links * into * out

    def forward(self, hidden: Tensor, weights: Tensor) -> Tensor:
        """Return new features [batch, nodes, width]."""
        return torch.nn.functional.leaky_relu(hidden + self.norm(self.linear(weights @ hidden)))


class NodeHead(nn.Module):
    """A factor for each node, from what it knows and what the global node does."""

    def __init__(self, width: int) -> None:
        """Build it so that it gives the factor 1."""
        super().__init__()
        self.of_node = nn.Linear(width, width)
        self.of_all = nn.Linear(width, width, bias=False)
        self.last = nn.Linear(width, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, nodes: Tensor, all_nodes: Tensor) -> Tensor:
        """Return logarithms [batch, nodes]; nodes: [batch, nodes, width], all_nodes: [batch, width]."""
        known = self.of_node(nodes) + self.of_all(all_nodes).unsqueeze(1)
        logarithms: Tensor = self.last(known.relu_()).squeeze(2)
        return logarithms


def _factor(log_factor: Tensor) -> Tensor:
    return log_factor.clamp(-LARGEST_LOG_FACTOR, LARGEST_LOG_FACTOR).exp()


def _head(width: int) -> nn.Module:
    last = nn.Linear(width // 2, 1)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(width, width // 2), nn.ReLU(), last)
