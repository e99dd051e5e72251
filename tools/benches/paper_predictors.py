"""The latency predictors of HGNAS and GCoDE, rebuilt from their papers: what ours is measured against.

HGNAS (arXiv 2303.10875): one-hots of operations and functions, a global node, three GCN layers of 256, 512
and 512, sum pooling and a network of 256, 128 and 1. GCoDE (arXiv 2404.05605): one-hots of operations and the
z-scored value of the look-up table, three GIN layers 1,024 wide, sum pooling. Both learn with MAPE. Bits are
in neither paper; as the space has them, HGNAS's functions have one-hots of them here, while GCoDE's table
knows them. Both are given positions as they are: up to 12, then the head's layers.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sgq.cost.architecture_graph import PLACE
from sgq.cost.architectures import MeasuredArchitecture
from sgq.cost.predictor_training import FitSettings
from sgq.cost.pricing import Pricer
from sgq.models.genotype import Genotype

Paper = Literal["HGNAS", "GCoDE"]
SETTINGS: dict[Paper, FitSettings] = {
    "HGNAS": FitSettings(epochs=100, lr=8e-4, batch=32),
    "GCoDE": FitSettings(epochs=25, lr=8e-4, batch=32),
}
"""Epochs are fewer than HGNAS's 250; as in ours the epoch with the least validation error is kept."""
GLOBAL, INPUT, OUTPUT, LAYER = "global", "input", "output", "layer"


@dataclass(frozen=True)
class Graphs:
    """Features [graphs, nodes, columns], links [graphs, nodes, nodes], and which nodes there are."""

    nodes: Tensor
    links: Tensor
    present: Tensor

    def part(self, index: Tensor) -> Graphs:
        """Return some of the graphs."""
        return Graphs(self.nodes[index], self.links[index], self.present[index])


def predictions(
    paper: Paper,
    training: Sequence[MeasuredArchitecture],
    testing: Sequence[MeasuredArchitecture],
    pricer: Pricer,
    *,
    settings: FitSettings | None = None,
) -> list[float]:
    """Return the latency in seconds that a paper's predictor, trained on some, gives of others."""
    settings = settings or SETTINGS[paper]
    torch.manual_seed(settings.seed)
    if paper == "HGNAS":
        words = _vocabulary(training)
        known, asked = (_hgnas_graphs(part, words) for part in (training, testing))
        network: nn.Module = HgnasNetwork(known.nodes.size(2))
    else:
        known, asked = _gcode_graphs(training, pricer), _gcode_graphs(testing, pricer)
        _score(known, asked)
        network = GcodeNetwork(known.nodes.size(2))
    seconds = torch.tensor([one.latency_s for one in training])
    scale = float(seconds.mean())
    trained = _trained(network, known, seconds / scale, settings)
    with torch.inference_mode():
        found = torch.cat([trained(asked.part(rows)) for rows in torch.arange(len(testing)).split(64)])
    return [float(one) * scale for one in found]


class HgnasNetwork(nn.Module):
    """Three GCN layers, sum pooling, and a network, with LeakyReLU throughout."""

    def __init__(self, columns: int) -> None:
        """Build it for nodes of so many columns."""
        super().__init__()
        widths = (columns, 256, 512, 512)
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(widths))
        self.network = nn.Sequential(
            nn.Linear(512, 256), nn.LeakyReLU(), nn.Linear(256, 128), nn.LeakyReLU(), nn.Linear(128, 1)
        )

    def forward(self, graphs: Graphs) -> Tensor:
        """Return a latency for each graph."""
        degree = graphs.links.sum(2, keepdim=True).clamp(min=1.0)
        links = graphs.links / degree.sqrt() / degree.sqrt().transpose(1, 2)
        hidden = graphs.nodes
        for layer in self.layers:
            hidden = nn.functional.leaky_relu(links @ layer(hidden))
        latency: Tensor = self.network((hidden * graphs.present).sum(1)).squeeze(1)
        return latency


class GcodeNetwork(nn.Module):
    """Three GIN layers with batch norm and mean aggregation, sum pooling, dropout and a network."""

    def __init__(self, columns: int, width: int = 1024) -> None:
        """Build it for nodes of so many columns."""
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.Linear(columns if place == 0 else width, width),
                nn.ReLU(),
                nn.Linear(width, width),
            )
            for place in range(3)
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(3))
        self.dropout = nn.Dropout(0.5)
        self.last = nn.Linear(width, 1)

    def forward(self, graphs: Graphs) -> Tensor:
        """Return a latency for each graph."""
        there = graphs.present.squeeze(2).bool()
        links = graphs.links / graphs.links.sum(2, keepdim=True).clamp(min=1.0)
        hidden = graphs.nodes
        for layer, norm in zip(self.layers, self.norms, strict=True):
            seen = (hidden + links @ hidden)[there]
            spread = hidden.new_zeros(*there.shape, self.last.in_features)
            spread[there] = torch.relu(norm(layer(seen)))
            hidden = spread
        latency: Tensor = self.last(self.dropout(hidden.sum(1))).squeeze(1)
        return latency


def _trained(network: nn.Module, graphs: Graphs, wanted: Tensor, settings: FitSettings) -> nn.Module:
    """Train with MAPE; return the network of the epoch with the least error on the validation part."""
    order = list(range(len(wanted)))
    random.Random(settings.seed).shuffle(order)
    held_out = max(1, round(settings.validation * len(order)))
    validating, training = torch.tensor(order[:held_out]), torch.tensor(order[held_out:])
    optimiser = torch.optim.Adam(network.parameters(), lr=settings.lr)
    best, least = network, float("inf")
    for _ in range(settings.epochs):
        network.train()
        for chosen in training[torch.randperm(len(training))].split(settings.batch):
            optimiser.zero_grad()
            (network(graphs.part(chosen)) / wanted[chosen] - 1.0).abs().mean().backward()
            optimiser.step()
        network.eval()
        with torch.inference_mode():
            error = float((network(graphs.part(validating)) / wanted[validating] - 1.0).abs().mean())
        if error < least:
            best, least = copy.deepcopy(network), error
    return best.eval()


def _words(genotype: Genotype) -> list[tuple[str, ...]]:
    """Return what is known of each node: its operation, and its functions with their values."""
    found: list[tuple[str, ...]] = [(GLOBAL,), (INPUT,)]
    for operation in genotype.positions:
        given: dict[str, Any] = {one.name: getattr(operation, one.name) for one in fields(operation)}
        values = (f"{operation.verb} {name} {value}" for name, value in given.items())
        found.append((operation.verb, *values))
    head = genotype.head
    for width in (*head.widths, 0):
        found.append((LAYER, f"width {width}", f"input {head.input_bits}", f"weight {head.weight_bits}"))
    return [*found, (OUTPUT,)]


def _vocabulary(architectures: Sequence[MeasuredArchitecture]) -> dict[str, int]:
    words = {word for one in architectures for node in _words(one.genotype) for word in node}
    return {word: place for place, word in enumerate(sorted(words))}


def _hgnas_graphs(architectures: Sequence[MeasuredArchitecture], words: dict[str, int]) -> Graphs:
    every = [_words(one.genotype) for one in architectures]
    nodes = torch.zeros(len(every), max(map(len, every)), len(words))
    for row, named in enumerate(every):
        for place, own in enumerate(named):
            nodes[row, place, [words[word] for word in own if word in words]] = 1.0
    return _linked(nodes, [len(named) for named in every])


def _gcode_graphs(architectures: Sequence[MeasuredArchitecture], pricer: Pricer) -> Graphs:
    """Return one-hots of operations, and the table's seconds as the last column."""
    kinds = sorted({node[0] for one in architectures for node in _words(one.genotype)} | set(KINDS))
    places = {kind: place for place, kind in enumerate(kinds)}
    every = [_words(one.genotype) for one in architectures]
    nodes = torch.zeros(len(every), max(map(len, every)), len(kinds) + 1)
    for row, named in enumerate(every):
        nodes[row, range(len(named)), [places[own[0]] for own in named]] = 1.0
    [workload] = {one.workload for one in architectures}
    table = pricer.inputs([one.genotype for one in architectures], workload)
    nodes[:, 1:, -1] = (table.nodes[:, 1:, PLACE["log seconds"]].exp()) * table.present[:, 1:]
    return _linked(nodes, [len(named) for named in every])


KINDS = (
    GLOBAL, INPUT, OUTPUT, LAYER, "sample", "aggregate", "combine", "connect", "pool", "communicate",
)  # fmt: skip


def _score(known: Graphs, asked: Graphs) -> None:
    """Scale the table's values by the training set's mean and deviation."""
    values = known.nodes[..., -1][known.present.squeeze(2).bool()]
    for graphs in (known, asked):
        graphs.nodes[..., -1] = (graphs.nodes[..., -1] - values.mean()) / values.std()
        graphs.nodes[..., -1] *= graphs.present.squeeze(2)


def _linked(nodes: Tensor, counts: Sequence[int]) -> Graphs:
    """Link a chain in its direction, every node with the global one, and each with itself."""
    most = nodes.size(1)
    present = torch.arange(most) < torch.tensor(counts)[:, None]
    links = torch.eye(most)
    links[0, :] = 1.0
    following = torch.arange(2, most)
    links[following, following - 1] = 1.0
    there = present.float()
    return Graphs(nodes, links * there[:, None] * there[:, :, None], there[:, :, None])
