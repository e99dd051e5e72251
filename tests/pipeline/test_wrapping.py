from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv

import sgq
from quantizers import Phase, QuantizerSpec
from sgq.errors import PlanError
from sgq.graph.sites import Place
from sgq.graph.wrap import quantizers_of
from sgq.pipeline.tasks import NodeTask
from sgq.pipeline.wrapping import prequantized, set_phase
from sgq.recipe.plan import Plan
from tests.pipeline.trained_models import CHANNELS, EDGES, INT4, TAQ, community_graph, float_model, recipe


def calibrated(model: nn.Module, plan: Plan, task: NodeTask) -> nn.Module:
    wrapped = sgq.wrap(model, plan, bucket=task.data.bucket if plan.buckets else None)
    sgq.calibrate(wrapped, plan, task)
    return wrapped


def loss_and_gradients(model: nn.Module, task: NodeTask) -> list[Tensor]:
    model.train()
    loss = task.loss(task.forward(model, task.data), task.data)
    return [loss.detach(), *torch.autograd.grad(loss, list(model.parameters()))]


def test_a_wrapped_model_is_float_until_it_is_calibrated_and_quantized_after() -> None:
    data = community_graph()
    model = float_model()
    plan = sgq.plan(model, recipe(INT4), data)
    wrapped = sgq.wrap(model, plan).eval()
    wanted = model(data.x, data.edge_index)
    assert torch.equal(wrapped(data.x, data.edge_index), wanted)
    sgq.calibrate(wrapped, plan, NodeTask(data))
    assert {quantizer.phase for quantizer in quantizers_of(wrapped).values()} == {Phase.FROZEN}
    assert not torch.equal(wrapped(data.x, data.edge_index), wanted)
    assert torch.equal(model(data.x, data.edge_index), wanted)


def test_calibration_keeps_the_mode_of_the_model() -> None:
    data = community_graph()
    model = float_model().train()
    plan = sgq.plan(model, recipe(INT4), data)
    wrapped = sgq.wrap(model, plan)
    sgq.calibrate(wrapped, plan, NodeTask(data))
    assert wrapped.training


def test_a_site_that_never_runs_is_a_plan_error_that_names_it_and_likely_reasons() -> None:
    class Skips(nn.Module):
        """Runs its second layer only while `whole` holds."""

        def __init__(self) -> None:
            super().__init__()
            self.whole = True
            self.first = GCNConv(CHANNELS, 3)
            self.second = GCNConv(3, 3)

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            x = self.first(x, edge_index)
            return self.second(x, edge_index) if self.whole else x

    data = community_graph()
    model = Skips()
    plan = sgq.plan(model, recipe(INT4), data)
    model.whole = False
    with pytest.raises(PlanError, match=r"sites never ran while calibrating: .*second\.lin:weight") as raised:
        sgq.apply(model, plan, data)
    assert "the model skips that layer" in str(raised.value)
    assert "first.lin:weight" not in str(raised.value)


def test_a_message_on_the_edges_never_runs_on_a_fused_adjacency() -> None:
    data = community_graph()
    model = float_model()
    plan = sgq.plan(model, recipe(INT4), data)
    entries = list(plan.entries)
    position = next(k for k, entry in enumerate(entries) if str(entry.site.name) == "convs.0:message")
    site = replace(entries[position].site, place=Place("convs.0", "edge_message"))
    entries[position] = replace(entries[position], site=site)
    on_edges = replace(plan, entries=tuple(entries))
    calibrated(model, on_edges, NodeTask(data))  # with edge_index the message of every edge is made
    from sgq.data.adjacency import with_adjacency

    sparse = with_adjacency(copy.copy(data), adjacency="csr")
    with pytest.raises(PlanError, match=r"convs\.0:message.*a sparse one fuses messages"):
        calibrated(model, on_edges, NodeTask(sparse))


@pytest.mark.parametrize("layout", ["dense", "csr"])
@pytest.mark.parametrize("text", [INT4, TAQ])
@pytest.mark.parametrize("name", ["gcn", "sage", "gat"])
def test_prequantized_features_train_exactly_like_features_quantized_in_every_step(
    name: str, text: str, layout: str
) -> None:
    data = community_graph()
    if layout == "csr":
        data.x = data.x.to_sparse_csr()
    # SAGE makes sparse features dense behind the dropout, and is quantized there.
    dropout = 0.0 if (name, layout) == ("sage", "csr") else 0.3
    model = float_model(name, dropout=dropout)
    plan = sgq.plan(model, recipe(text), data)
    task = NodeTask(data).with_buckets(EDGES) if plan.buckets else NodeTask(data)
    wrapped = calibrated(model, plan, task)
    torch.manual_seed(0)
    wanted = loss_and_gradients(wrapped, task)
    count = len(quantizers_of(wrapped))
    with prequantized(wrapped, plan, task) as static:
        assert static is not task
        assert len(quantizers_of(wrapped)) == count - 1
        torch.manual_seed(0)
        found = loss_and_gradients(wrapped, static)
    assert len(quantizers_of(wrapped)) == count
    for got, expected in zip(found, wanted, strict=True):
        assert torch.equal(got, expected)


class TwoReaders(nn.Module):
    """The features go into a convolution and, past it, into a linear layer or the output itself."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.conv = GCNConv(CHANNELS, CHANNELS)
        self.skip = nn.Linear(CHANNELS, CHANNELS)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        hidden = self.conv(x, edge_index)
        return hidden + (self.skip(x) if self.kind == "layer" else x)


@pytest.mark.parametrize("kind", ["layer", "residual"])
def test_features_that_are_read_twice_are_not_prequantized_for_the_other_reader(kind: str) -> None:
    data = community_graph()
    torch.manual_seed(0)
    model = TwoReaders(kind)
    plan = sgq.plan(model, recipe(INT4), data).with_specs({"conv:input": QuantizerSpec(1)})
    task = NodeTask(data)
    wrapped = calibrated(model, plan, task)
    with torch.no_grad():
        wanted = wrapped(data.x, data.edge_index)
        with prequantized(wrapped, plan, task) as static:
            found = wrapped(static.data.x, data.edge_index)
    assert torch.equal(found, wanted)


def test_features_that_stay_in_float_are_left_alone() -> None:
    data = community_graph()
    model = float_model()
    plan = sgq.plan(model, recipe(INT4), data).with_specs({"convs.0:input": None})
    task = NodeTask(data)
    with prequantized(calibrated(model, plan, task), plan, task) as static:
        assert static is task


def test_the_features_quantizer_comes_back_after_an_error() -> None:
    data = community_graph()
    model = float_model()
    plan = sgq.plan(model, recipe(INT4), data)
    task = NodeTask(data)
    wrapped = calibrated(model, plan, task)
    wanted = wrapped.eval()(data.x, data.edge_index)
    with pytest.raises(KeyboardInterrupt), prequantized(wrapped, plan, task):
        raise KeyboardInterrupt
    assert torch.equal(wrapped(data.x, data.edge_index), wanted)


def test_phases_are_set_on_every_quantizer() -> None:
    data = community_graph()
    model = float_model()
    plan = sgq.plan(model, recipe(INT4), data)
    wrapped = sgq.wrap(model, plan)
    set_phase(wrapped, Phase.TRACK)
    assert {quantizer.phase for quantizer in quantizers_of(wrapped).values()} == {Phase.TRACK}


def test_an_already_quantized_model_is_refused_by_plan_wrap_and_apply() -> None:
    data = community_graph()
    model = float_model()
    plan = sgq.plan(model, recipe(INT4), data)
    wrapped = sgq.wrap(model, plan)
    for use in (
        lambda: sgq.plan(wrapped, recipe(INT4), data),
        lambda: sgq.wrap(wrapped, plan),
        lambda: sgq.apply(wrapped, plan, data),
    ):
        with pytest.raises(PlanError, match="already quantized"):
            use()


def test_a_plan_with_buckets_wrapped_without_ids_wants_them_in_every_call() -> None:
    data = NodeTask(community_graph()).with_buckets(EDGES).data
    model = float_model()
    plan = sgq.plan(model, recipe(TAQ), data)
    wrapped = sgq.wrap(model, plan)
    with pytest.raises(PlanError, match="DegreeBuckets"):
        wrapped(data.x, data.edge_index)
    assert wrapped(data.x, data.edge_index, bucket=data.bucket).shape == (90, 3)


def test_isolated_nodes_are_quantized_in_the_lowest_bucket() -> None:
    data: Data = community_graph()
    data.edge_index = data.edge_index[:, (data.edge_index != 7).all(0)]
    task = NodeTask(data).with_buckets(EDGES)
    model = float_model()
    plan = sgq.plan(model, recipe(TAQ), data)
    wrapped = calibrated(model, plan, task)
    assert int(task.data.bucket[7]) == 0
    assert bool(torch.isfinite(wrapped(data.x, data.edge_index)).all())


def test_a_graph_without_edges_is_calibrated_like_any_other() -> None:
    data = community_graph()
    data.edge_index = torch.empty(2, 0, dtype=torch.long)
    model = float_model()
    plan = sgq.plan(model, recipe(INT4), data)
    wrapped = calibrated(model, plan, NodeTask(data))
    assert bool(torch.isfinite(wrapped(data.x, data.edge_index)).all())
