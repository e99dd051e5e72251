from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Data

import sgq
from quantizers import Phase
from sgq.errors import DataError, ModelError, RecipeError
from sgq.graph.wrap import quantizers_of
from sgq.models import build, default_options
from sgq.pipeline.quantization_error import site_errors
from sgq.pipeline.tasks import GraphTask
from sgq.recipe.plan import Limits
from tests.pipeline.trained_models import INT4, TAQ, community_graph, float_model, recipe

GRAPH_TAQ = TAQ.replace("epochs: 4", "epochs: 2")


def test_apply_gives_model_plan_metrics_and_a_repr_that_names_what_is_simulated() -> None:
    data = community_graph()
    applied = sgq.apply(float_model(trained=True), recipe(INT4), data)
    assert applied.plan.recipe == "int4-short"
    assert applied.accuracy.test > 0.5
    assert applied.metrics["test/accuracy"] == applied.accuracy.test
    assert applied.metrics["memory/packed_bytes"] == applied.memory.packed_bytes
    assert applied.metrics["memory/ratio"] == applied.memory.ratio_dense > 4
    assert set(applied.metrics) >= {"val/accuracy", "float/test/accuracy", "memory/ratio_sparse"}
    assert "int4-short" in repr(applied)
    assert "simulated" in repr(applied)
    assert "modelled" in repr(applied)
    assert {quantizer.phase for quantizer in quantizers_of(applied.model).values()} == {Phase.FROZEN}
    assert not applied.model.training


def test_the_reported_accuracy_is_that_of_the_returned_model() -> None:
    data = community_graph()
    applied = sgq.apply(float_model(trained=True), recipe(TAQ), data)
    found = applied.model(data.x, data.edge_index).argmax(1)
    for split, reported in (("val", applied.accuracy.val), ("test", applied.accuracy.test)):
        mask = data[f"{split}_mask"]
        assert float((found[mask] == data.y[mask]).double().mean()) == reported


def test_the_users_model_and_data_are_left_as_they_were() -> None:
    data = community_graph()
    model = float_model(trained=True)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    keys, x = sorted(data.keys()), data.x.clone()
    sgq.apply(model, recipe(TAQ), data)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert sorted(data.keys()) == keys
    assert torch.equal(data.x, x)


@pytest.mark.parametrize("text", [INT4, TAQ])
def test_applying_twice_with_a_seed_gives_identical_state_and_metrics(text: str) -> None:
    first, second = (
        sgq.apply(float_model(trained=True), recipe(text), community_graph(), seed=3) for _ in range(2)
    )
    assert first.metrics == second.metrics
    assert first.history == second.history
    assert list(first.model.state_dict()) == list(second.model.state_dict())
    for name, tensor in first.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[name]), name


def test_another_seed_trains_otherwise() -> None:
    first, second = (
        sgq.apply(float_model(trained=True), recipe(INT4), community_graph(), seed=seed) for seed in (0, 1)
    )
    assert first.history != second.history


def test_a_plan_is_applied_as_it_is_and_on_plan_sees_it_first() -> None:
    data = community_graph()
    model = float_model(trained=True)
    plan = sgq.plan(model, recipe(INT4), data)
    seen: list[sgq.Plan] = []
    assert sgq.apply(model, plan, data, on_plan=seen.append).plan is plan
    assert seen == [plan]


def test_post_training_quantization_trains_nothing() -> None:
    data = community_graph()
    model = float_model(trained=True)
    applied = sgq.apply(model, recipe(INT4.replace("epochs: 4", "epochs: 0")), data)
    assert applied.history.epochs == ()
    for name, parameter in applied.model.named_parameters():
        assert torch.equal(parameter, dict(model.named_parameters())[name])


def test_observers_follow_the_data_first_and_are_frozen_after_their_share_of_the_epochs() -> None:
    data = community_graph()
    phases: list[set[Phase]] = []

    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = float_model()

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            if self.training:
                phases.append({quantizer.phase for quantizer in quantizers_of(self).values()})
            return self.inner(x, edge_index)

    text = INT4.replace("lr: 0.01", "lr: 0.01, observe: 0.5")
    sgq.apply(Watched(), recipe(text), data)
    assert [Phase.TRACK in each for each in phases] == [True, True, False, False]


def test_distillation_trains_towards_the_float_model_on_unlabelled_nodes_too() -> None:
    data = community_graph()
    model = float_model(trained=True)
    plan = sgq.plan(model, recipe(INT4.replace("epochs: 4", "epochs: 15")), data)
    plan = replace(plan, finetuning=replace(plan.finetuning, select_on="last"))
    wanted = model(data.x, data.edge_index).softmax(1)

    def distance(distill: float) -> float:
        tuned = replace(plan, finetuning=replace(plan.finetuning, distill=distill))
        found = sgq.apply(model, tuned, data).model(data.x, data.edge_index).softmax(1)
        return float((found - wanted).norm().detach())

    assert distance(1.0) < distance(0.0)


def test_graph_classification_with_buckets_runs_end_to_end_on_the_embedded_graphs() -> None:
    dataset = sgq.load_data("synthetic-graphs")
    torch.manual_seed(0)
    options = replace(default_options("gin", task="graph"), hidden=16, layers=2)
    model = build("gin", in_channels=dataset.num_features, out_channels=2, options=options)
    text = GRAPH_TAQ.replace("[input, message], rows: node", "[input, message], module: 'convs*', rows: node")
    applied = sgq.apply(model, recipe(text), dataset)
    assert isinstance(applied.task, GraphTask)
    assert applied.plan.buckets == 3
    assert len(applied.history.epochs) == 2
    assert 0.3 <= applied.accuracy.test <= 1.0
    bucketed = [quantizer for quantizer in quantizers_of(applied.model).values() if quantizer.spec.bucketed]
    assert len(bucketed) >= 2
    assert "bucket" not in applied.task.sample()
    assert len(site_errors(applied.model, applied.plan, applied.task)) == len(applied.plan.quantized)
    batch = applied.task.with_buckets(applied.plan.bucket_edges).sample()
    logits = applied.model(
        batch.x, batch.edge_index, batch=batch.batch, batch_size=batch.num_graphs, bucket=batch.bucket
    )
    assert logits.shape == (batch.num_graphs, 2)


def test_the_task_of_a_result_serves_the_float_model_and_the_quantized_one() -> None:
    model = float_model(trained=True)
    applied = sgq.apply(model, recipe(TAQ), community_graph())
    assert sgq.accuracy(model, applied.task, "test") == applied.float_accuracy.test
    assert sgq.accuracy(applied.model, applied.task, "test") == applied.accuracy.test
    again = sgq.apply(model, recipe(INT4), applied.task)
    assert again.float_accuracy == applied.float_accuracy


def test_graph_buckets_are_those_of_each_graph_whatever_the_batch() -> None:
    dataset = sgq.load_data("synthetic-graphs")
    task = sgq.as_task(dataset).with_buckets((3, 6))
    for batch in task.batches(seed=0):
        degree = torch.bincount(batch.edge_index[1], minlength=int(batch.num_nodes))
        assert torch.equal(torch.bucketize(degree, torch.tensor([3, 6]), right=True), batch.bucket.long())


def test_limits_that_do_not_hold_are_listed_and_the_result_is_there() -> None:
    data = community_graph()
    model = float_model(trained=True)
    plan = sgq.plan(model, recipe(INT4), data)
    tight = replace(plan, limits=Limits(packed_bytes=10, accuracy_drop=0.0))
    applied = sgq.apply(model, tight, data)
    assert [unmet.name for unmet in applied.unmet_limits][:1] == ["packed_bytes"]
    assert "over the limit of 10" in str(applied.unmet_limits[0])
    generous = replace(plan, limits=Limits(packed_bytes=10**9, accuracy_drop=1.0))
    assert sgq.apply(model, generous, data).unmet_limits == ()


def test_a_rule_without_a_match_is_a_recipe_error_before_anything_is_trained() -> None:
    text = INT4.replace('match: {component: "*"}', 'match: {module: "layers.*", component: weight}')
    with pytest.raises(RecipeError, match=r"<string>:5:\d+"):
        sgq.apply(float_model(), recipe(text), community_graph())


def test_nan_features_and_empty_graphs_are_data_errors() -> None:
    data = community_graph()
    data.x[3, 3] = float("nan")
    with pytest.raises(DataError):
        sgq.apply(float_model(), recipe(INT4), data)
    empty = Data(
        x=torch.empty(0, 16),
        edge_index=torch.empty(2, 0, dtype=torch.long),
        y=torch.empty(0, dtype=torch.long),
    )
    with pytest.raises(DataError):
        sgq.apply(float_model(), recipe(INT4), empty)


def test_a_model_whose_outputs_are_not_finite_is_a_model_error() -> None:
    model = float_model()
    with torch.no_grad():
        model.convs[1].bias.fill_(float("inf"))
    with pytest.raises(ModelError, match="not finite on the val split"):
        sgq.apply(model, recipe(INT4), community_graph())


@pytest.mark.parametrize("name", ["gcn", "sage", "gin", "gat", "gatv2", "agnn"])
def test_every_zoo_model_is_applied_on_csr_as_on_edge_index(name: str) -> None:
    from sgq.data.adjacency import with_adjacency

    text = INT4.replace("bits: 4", "bits: 8").replace("epochs: 4", "epochs: 0")
    data = community_graph()
    model = float_model(name)
    dense = sgq.apply(model, recipe(text), data)
    sparse = sgq.apply(model, recipe(text), with_adjacency(community_graph(), adjacency="csr"))
    sparse_data = sparse.task.data
    found = sparse.model(sparse_data.x, sparse_data.adj_t)
    wanted = dense.model(data.x, data.edge_index)
    assert float((found - wanted).norm().detach()) < 0.03 * float(wanted.norm().detach())
    assert sparse.memory.packed_bytes == dense.memory.packed_bytes
