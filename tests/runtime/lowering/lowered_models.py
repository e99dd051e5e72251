"""Small models and recipes for lowering, and what their simulated form computes on the way."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric import nn as pyg
from torch_geometric.data import Data

from sgq.graph.wrap import quantizers_of
from sgq.models.agnn_conv import SeparableAGNNConv
from sgq.pipeline.planning import plan_for
from sgq.pipeline.tasks import NodeTask
from sgq.pipeline.wrapping import calibrate, wrap
from sgq.recipe import parse_recipe
from sgq.runtime.lowering.model import LoweredModel
from sgq.runtime.lowering.program import lower
from sgq.runtime.packed import PackedTensor
from sgq.runtime.workspace import AT_ONCE

CHANNELS, HIDDEN, CLASSES = 12, 10, 5

CONVOLUTIONS = (
    "gcn", "sage mean", "sage max", "gin", "gat", "gat mean", "gatv2", "agnn", "edge",
)  # fmt: skip


class OneLayer(nn.Module):
    """A convolution, batch norm, LeakyReLU and a linear layer."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.conv, width = convolution(kind)
        self.norm = nn.BatchNorm1d(width)
        self.activation = nn.LeakyReLU(0.1)
        self.lin = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        hidden: Tensor = self.activation(self.norm(self.conv(x, edge_index)))
        logits: Tensor = self.lin(hidden)
        return logits


def convolution(kind: str) -> tuple[nn.Module, int]:
    """Return a convolution of CHANNELS, and how many channels come out."""
    heads = 3
    if kind == "gcn":
        return pyg.GCNConv(CHANNELS, HIDDEN), HIDDEN
    if kind.startswith("sage"):
        return pyg.SAGEConv(CHANNELS, HIDDEN, aggr=kind.removeprefix("sage ")), HIDDEN
    if kind == "gin":
        network = nn.Sequential(pyg.Linear(CHANNELS, 9), nn.ReLU(), pyg.Linear(9, HIDDEN))
        return pyg.GINConv(network, eps=0.25), HIDDEN
    if kind == "gat":
        return pyg.GATConv(CHANNELS, HIDDEN, heads=heads), heads * HIDDEN
    if kind == "gat mean":
        return pyg.GATConv(CHANNELS, HIDDEN, heads=heads, concat=False), HIDDEN
    if kind == "gatv2":
        return pyg.GATv2Conv(CHANNELS, 8, heads=heads), heads * 8
    if kind == "agnn":
        return SeparableAGNNConv(), CHANNELS
    return pyg.EdgeConv(nn.Sequential(nn.Linear(2 * CHANNELS, 9), nn.ReLU(), nn.Linear(9, HIDDEN))), HIDDEN


def recipe(bits: int) -> str:
    """Return int8.yaml's recipe at other bits."""
    return f"""
version: 1
name: uniform
rules:
  - match: {{component: [weight, input, message]}}
    bits: {bits}
  - match: {{component: attention}}
    bits: {min(bits, 8)}
    optional: true
  - match: {{component: weight}}
    bits: {bits}
    granularity: channel
    symmetric: true
    signed: true
    optional: true
  - match: {{component: input, rows: node}}
    bits: {bits}
    granularity: node
    optional: true
"""


BUCKETS = """
version: 1
name: by-bucket
degree_buckets: {edges: [1, 3, 6]}
rules:
  - match: {component: [weight, input, message, attention]}
    bits: 8
  - match: {component: [input, message], rows: node}
    bits: {by_bucket: [8, 3, 2, 4]}
    optional: true
"""


def quantized(model: nn.Module, data: Data, text: str) -> tuple[nn.Module, Any, NodeTask]:
    """Return a model calibrated by a recipe's text, its plan and the task with its buckets."""
    task = NodeTask(data)
    plan = plan_for(model, parse_recipe(text), task)
    if plan.bucket_edges:
        task = task.with_buckets(plan.bucket_edges)
    wrapped = wrap(model, plan, bucket=task.data.bucket if plan.buckets else None)
    calibrate(wrapped, plan, task)
    return wrapped.eval(), plan, task


def random_graph(seed: int, nodes: int, edges: int) -> Data:
    """Return a graph with isolated nodes, self-loops, multi-edges and a hub that every node points to."""
    generator = torch.Generator().manual_seed(seed)
    source = torch.randint(nodes, (edges,), generator=generator)
    target = torch.randint(max(1, nodes - 2), (edges,), generator=generator)
    everyone = torch.arange(nodes)
    hub = torch.zeros_like(everyone)
    pairs = torch.stack([torch.cat([source, everyone, source[:3]]), torch.cat([target, hub, target[:3]])])
    mask = torch.ones(nodes, dtype=torch.bool)
    return Data(
        x=torch.randn(nodes, CHANNELS, generator=generator),
        edge_index=pairs,
        y=everyone % CLASSES,
        train_mask=mask,
        val_mask=mask,
        test_mask=mask,
    )


def run_simulated(model: nn.Module, task: NodeTask) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """Return logits, and what every quantizer got and gave on the way."""
    seen: list[tuple[Tensor, Tensor]] = []
    hooks = [
        quantizer.register_forward_hook(lambda _module, inputs, output: seen.append((inputs[0], output)))
        for quantizer in quantizers_of(model).values()
    ]
    with torch.no_grad():
        logits = task.forward(model, task.sample())
    for hook in hooks:
        hook.remove()
    return logits, seen


def run_lowered(model: nn.Module, task: NodeTask) -> tuple[LoweredModel, Tensor, list[PackedTensor]]:
    """Return the lowered model, its logits, and every packed tensor of node rows on the way, features too."""
    lowered = lower(model, task.sample())
    inputs = lowered.inputs
    assert inputs is not None
    values: dict[int, Any] = {
        number: inputs.features if name == "x" else inputs.original.get(name)
        for name, number in lowered.arguments.items()
    }
    for step in lowered.steps:
        step.run(values, inputs, AT_ONCE)
    packed = [value for value in values.values() if isinstance(value, PackedTensor)]
    logits = lowered()
    # The second run binds the steps to an arena, the third one finds them bound.
    assert all(torch.equal(lowered(), logits) for _ in range(2))
    return lowered, logits, packed
