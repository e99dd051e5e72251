"""What `sgq.lower` refuses, leaves to the simulation, and says about it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch_geometric import nn as pyg
from torch_geometric.data import Data

import sgq
from sgq.errors import DataError, ModelError, PlanError
from sgq.pipeline.tasks import NodeTask
from sgq.runtime.lowering.model import LoweredModel
from sgq.runtime.packed import PackedTensor
from sgq.runtime.workspace import Workspace
from tests.runtime.lowering.lowered_models import (
    BUCKETS,
    CHANNELS,
    CLASSES,
    OneLayer,
    quantized,
    random_graph,
    recipe,
    run_simulated,
)


class Unusual(nn.Module):
    """A convolution without an integer form between two that have one, a residual, and a functional ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.first = pyg.GCNConv(CHANNELS, 8)
        self.middle = pyg.TransformerConv(8, 8)
        self.last = pyg.GCNConv(8, CLASSES)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        x = torch.relu(self.first(x, edge_index))
        x = x + self.middle(x, edge_index)
        logits: Tensor = self.last(x, edge_index)
        return logits


class Choosy(nn.Module):
    """Its control flow reads a tensor, which no trace can follow."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = pyg.GCNConv(CHANNELS, CLASSES)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        logits: Tensor = self.conv(x if x.sum() > -1e9 else -x, edge_index)
        return logits


def lowered_beside(model: nn.Module, text: str) -> tuple[LoweredModel, Tensor]:
    wrapped, _, task = quantized(model.eval(), random_graph(1, 40, 100), text)
    logits, _ = run_simulated(wrapped, task)
    return sgq.lower(wrapped, task.sample()), logits


def test_a_layer_without_an_integer_form_stays_simulated_and_says_why() -> None:
    torch.manual_seed(0)
    lowered, logits = lowered_beside(Unusual(), recipe(8))
    assert [(layer.name, layer.reason) for layer in lowered.report.simulated] == [
        ("middle", "TransformerConv has no integer form")
    ]
    assert "middle TransformerConv: simulated: TransformerConv has no integer form" in str(lowered.report)
    assert torch.allclose(lowered(), logits, atol=0.05 * float(logits.abs().max()))


def test_bits_by_bucket_reach_a_simulated_layer_too() -> None:
    torch.manual_seed(0)
    lowered, logits = lowered_beside(Unusual(), BUCKETS)
    assert len(lowered.report.simulated) == 1
    assert torch.allclose(lowered(), logits, atol=0.1 * float(logits.abs().max()))


def test_a_forward_that_cannot_be_traced_stays_simulated_as_a_whole() -> None:
    lowered, logits = lowered_beside(Choosy(), recipe(8))
    (layer,) = lowered.report.layers
    assert not layer.lowered
    assert "cannot be traced" in layer.reason
    assert torch.equal(lowered(), logits)
    other = random_graph(2, 30, 60)
    assert lowered(lowered.prepare(other)).shape == (30, CLASSES)


def test_a_float_model_is_refused() -> None:
    with pytest.raises(PlanError, match="expected a quantized model"):
        sgq.lower(OneLayer("gcn"), random_graph(1, 10, 20))


def test_a_model_without_ranges_is_refused() -> None:
    model, data = OneLayer("gcn").eval(), random_graph(1, 10, 20)
    plan = sgq.plan(model, "int8", NodeTask(data))
    with pytest.raises(PlanError, match="expected a calibrated model"):
        sgq.lower(sgq.wrap(model, plan), data)


def test_another_graph_of_another_size() -> None:
    wrapped, _, task = quantized(OneLayer("gat").eval(), random_graph(1, 40, 100), recipe(8))
    lowered = sgq.lower(wrapped, task.sample())
    other = NodeTask(random_graph(5, 25, 50))
    logits, _ = run_simulated(wrapped, other)
    assert torch.allclose(lowered(lowered.prepare(other.data)), logits, atol=0.05 * float(logits.abs().max()))


def test_data_without_buckets_is_refused() -> None:
    wrapped, _, task = quantized(OneLayer("gcn").eval(), random_graph(1, 40, 100), BUCKETS)
    lowered = sgq.lower(wrapped, task.sample())
    with pytest.raises(DataError, match="expected degree bucket ids for 25 nodes"):
        lowered.prepare(random_graph(5, 25, 50))


def test_features_of_another_form_are_refused() -> None:
    data = random_graph(1, 40, 100)
    data.x = (torch.rand(40, CHANNELS) < 0.3).float()
    wrapped, _, task = quantized(OneLayer("gcn").eval(), data, recipe(8))
    lowered = sgq.lower(wrapped, task.sample())
    assert lowered.report.feature_form == "bits"
    other = copy.copy(data)
    other.x = torch.rand(40, CHANNELS)
    with pytest.raises(DataError, match="lower it on this data"):
        lowered.prepare(other)


def test_lowering_leaves_the_model_as_it_was_and_keeps_rows_packed() -> None:
    wrapped, _, task = quantized(OneLayer("gcn").eval(), random_graph(1, 40, 100), recipe(4))
    before = {name: tensor.clone() for name, tensor in wrapped.state_dict().items()}
    lowered = sgq.lower(wrapped, task.sample())
    values = {0: lowered.inputs.features}
    for step in lowered.steps[:-1]:
        step.run(values, lowered.inputs, Workspace())
    assert all(isinstance(value, PackedTensor) for value in values.values())
    assert all(torch.equal(before[name], tensor) for name, tensor in wrapped.state_dict().items())
    assert lowered.nbytes < sum(4 * tensor.numel() for tensor in wrapped.parameters()) * 2
    assert list(lowered.parameters()) == []


def test_edge_weights_of_the_data_reach_gcn() -> None:
    class Weighted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = pyg.GCNConv(CHANNELS, CLASSES)

        def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
            logits: Tensor = self.conv(x, edge_index, edge_weight)
            return logits

    torch.manual_seed(0)
    data: Data = random_graph(1, 40, 100)
    data.edge_weight = torch.rand(data.edge_index.size(1))
    wrapped, _, task = quantized(Weighted().eval(), data, recipe(8))
    logits, _ = run_simulated(wrapped, task)
    lowered = sgq.lower(wrapped, task.sample())
    assert lowered.report.simulated == ()
    assert torch.allclose(lowered(), logits, atol=1e-4)


class Jumping(nn.Module):
    """A value that is read under two names: as it is, and after a dropout that does nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.first = pyg.GCNConv(CHANNELS, 8)
        self.dropout = nn.Dropout(0.5)
        self.last = pyg.GCNConv(8, 8)
        self.lin = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        early = self.first(x, edge_index).relu()
        late = self.last(self.dropout(early), edge_index)
        logits: Tensor = self.lin(torch.cat([early, late], dim=1))
        return logits


class Tied(nn.Module):
    """One convolution, called three times."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = pyg.SAGEConv(CHANNELS, CHANNELS)
        self.lin = nn.Linear(CHANNELS, CLASSES)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        for _ in range(3):
            x = self.conv(x, edge_index)
        logits: Tensor = self.lin(x)
        return logits


class Reversed(nn.Module):
    """Its second convolution runs along the edges the other way round."""

    def __init__(self) -> None:
        super().__init__()
        self.first = pyg.GCNConv(CHANNELS, 8)
        self.last = pyg.GCNConv(8, CLASSES)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        x = self.first(x, edge_index)
        logits: Tensor = self.last(x, edge_index.flip(0))
        return logits


class Pooled(nn.Module):
    """Picks nodes by their number, which bucket order would change."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = pyg.GCNConv(CHANNELS, CLASSES)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        logits: Tensor = self.conv(x, edge_index)
        return logits[:7]


class Averaging(nn.Module):
    """A GCNConv that takes the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = pyg.GCNConv(CHANNELS, CLASSES, aggr="mean")

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        logits: Tensor = self.conv(x, edge_index)
        return logits


class Steep(nn.Module):
    """A LeakyReLU that is no maximum of two lines."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = pyg.GCNConv(CHANNELS, CLASSES)
        self.activation = nn.LeakyReLU(1.5)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        logits: Tensor = self.activation(self.conv(x, edge_index))
        return logits


@pytest.mark.parametrize("text", [recipe(8), BUCKETS], ids=["uniform", "by bucket"])
@pytest.mark.parametrize("kind", [Jumping, Tied, Reversed, Pooled, Averaging, Steep])
def test_unusual_forwards_give_what_their_simulation_gives(kind: type[nn.Module], text: str) -> None:
    torch.manual_seed(0)
    lowered, logits = lowered_beside(kind(), text)
    scale = float(logits.abs().max())
    for _ in range(3):  # recorded, bound, and again
        assert torch.allclose(lowered(), logits, atol=(0.05 if text is not BUCKETS else 0.25) * scale)


def test_what_stays_simulated_in_unusual_forwards() -> None:
    reasons = {
        kind: [layer.reason for layer in lowered_beside(kind(), recipe(8))[0].report.simulated]
        for kind in (Reversed, Averaging, Jumping)
    }
    assert reasons[Reversed] == ["it is called with other edges than the data's own"]
    assert reasons[Averaging] == ["it aggregates by mean, not by a sum"]
    assert reasons[Jumping] == []


def test_features_of_another_width_are_refused() -> None:
    wrapped, _, task = quantized(OneLayer("gcn").eval(), random_graph(1, 40, 100), recipe(8))
    lowered = sgq.lower(wrapped, task.sample())
    other = random_graph(1, 40, 100)
    other.x = torch.rand(40, CHANNELS + 1)
    with pytest.raises(DataError, match=f"expected {CHANNELS} features a node"):
        lowered.prepare(other)


def test_a_lowered_model_is_not_moved_or_cast_in_silence() -> None:
    wrapped, _, task = quantized(OneLayer("gcn").eval(), random_graph(1, 40, 100), recipe(8))
    lowered = sgq.lower(wrapped, task.sample())
    assert lowered.to("cpu") is lowered
    for change in (lowered.half, lowered.double, lambda: lowered.to("meta")):
        with pytest.raises(ModelError, match="stays on cpu"):
            change()
