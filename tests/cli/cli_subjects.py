"""Models and graphs that the command-line tests name as `cli_subjects:factory`."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv

NODES, FEATURES, CLASSES = 24, 6, 3


def ring() -> Data:
    """A ring of 24 nodes whose first features tell their class; 8 nodes a split."""
    label = torch.arange(NODES) % CLASSES
    source = torch.arange(NODES)
    target = (source + 3) % NODES
    part = torch.arange(NODES) // 8
    return Data(
        x=nn.functional.one_hot(label, FEATURES).float() + 0.125,
        edge_index=torch.stack([torch.cat([source, target]), torch.cat([target, source])]),
        y=label,
        train_mask=part == 0,
        val_mask=part == 1,
        test_mask=part == 2,
    )


def with_nan() -> Data:
    data = ring()
    data.x[5, 2] = float("nan")
    return data


def with_integer_features() -> Data:
    data = ring()
    data.x = data.x.long()
    return data


def failing() -> Data:
    raise KeyError("a defect of the user's own")


def without_nodes() -> Data:
    data = Data(x=torch.empty(0, FEATURES), y=torch.empty(0, dtype=torch.long))
    data.edge_index = torch.empty(2, 0, dtype=torch.long)
    return data


def without_edges() -> Data:
    data = ring()
    data.edge_index = torch.empty(2, 0, dtype=torch.long)
    return data


def with_isolated_nodes() -> Data:
    data = ring()
    data.edge_index = data.edge_index[:, (data.edge_index >= 6).all(dim=0)]
    return data


class Skipping(nn.Module):
    """Runs its second convolution on the first call of a process only, as a probe would see it."""

    calls = 0

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.first = GCNConv(in_channels, out_channels)
        self.second = GCNConv(out_channels, out_channels)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        Skipping.calls += 1
        hidden = self.first(x, edge_index)
        return self.second(hidden, edge_index) if Skipping.calls == 1 else hidden


def skipping(in_channels: int, out_channels: int) -> nn.Module:
    Skipping.calls = 0
    return Skipping(in_channels, out_channels)
