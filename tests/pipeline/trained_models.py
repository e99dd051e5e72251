"""A small graph on which a zoo model learns in a second, and short recipes for it."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn
from torch_geometric.data import Data

from sgq.models import build, default_options
from sgq.pipeline.tasks import NodeTask
from sgq.pipeline.training import TrainingSettings, fit
from sgq.recipe import LoadedRecipe, parse_recipe

NODES, CHANNELS, CLASSES = 90, 16, 3
EDGES = (3, 6)

INT4 = """
version: 1
name: int4-short
rules:
  - match: {component: "*"}
    bits: 4
finetune: {epochs: 4, lr: 0.01}
"""

TAQ = """
version: 1
name: taq-short
degree_buckets: {edges: [3, 6]}
rules:
  - match: {component: weight}
    bits: 8
    granularity: channel
  - match: {component: [input, message], rows: node}
    bits: {by_bucket: [8, 4, 2]}
finetune: {epochs: 4, lr: 0.01}
"""


def recipe(text: str, **changes: str) -> LoadedRecipe:
    for old, new in changes.items():
        text = text.replace(f"{old}:", f"{old}: {new} #") if f"\n{old}:" in text else f"{text}{old}: {new}\n"
    return parse_recipe(text)


def community_graph(*, seed: int = 0) -> Data:
    """Three communities of 30 nodes, with 2 to 8 edges a node that mostly stay inside."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(NODES) % CLASSES
    count = 2 + 6 * (torch.rand(NODES, generator=generator) ** 2)
    target = torch.arange(NODES).repeat_interleave(count.long())
    shift = torch.randint(NODES // CLASSES, target.shape, generator=generator) * CLASSES
    stray = torch.rand(target.shape, generator=generator) < 0.15
    source = (target + shift + stray.long()) % NODES
    edge_index = torch.unique(torch.stack([source, target])[:, source != target], dim=1)
    x = (torch.rand(NODES, CHANNELS, generator=generator) < 0.15).float()
    x[torch.arange(NODES), y] += (torch.rand(NODES, generator=generator) < 0.6).float()
    node = torch.arange(NODES)
    return Data(
        x=x,
        edge_index=edge_index,
        y=y,
        train_mask=node < 30,
        val_mask=(node >= 30) & (node < 60),
        test_mask=node >= 60,
    )


def float_model(name: str = "gcn", *, trained: bool = False, dropout: float = 0.3) -> nn.Module:
    torch.manual_seed(0)
    options = replace(default_options(name), dropout=dropout)
    model = build(name, in_channels=CHANNELS, out_channels=CLASSES, options=options)
    if trained:
        optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
        fit(model, NodeTask(community_graph()), optimiser=optimiser, settings=TrainingSettings(30))
    return model.eval()
