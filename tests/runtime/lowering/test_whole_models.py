"""Whole models on real graphs: the integer model predicts what the simulated one does."""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest
import torch
from torch import nn

import sgq
from sgq.data import load
from sgq.models import training_defaults
from sgq.models.zoo import resolve_model
from sgq.pipeline.tasks import NodeTask, as_task
from sgq.pipeline.training import TrainingSettings, fit

EPOCHS = {"cora": 40, "computers": 12, "cs": 6}
"""Enough for predictions that differ from node to node."""
SAMPLED = [("cora", "gcn", "int8")]
MODELS = ("gcn", "sage", "gin", "gat", "gatv2", "agnn")
IN_FULL = [
    *(("cora", model, recipe) for model in MODELS for recipe in ("int8", "int4")),
    ("cora", "gcn", "sgquant/gcn-lwq-cwq-taq"),
    ("cora", "gat", "sgquant/gat-lwq-cwq-taq"),
    ("cora", "agnn", "sgquant/agnn-lwq-cwq-taq"),
    *(("computers", model, "int8") for model in ("gcn", "sage", "gin", "gat", "agnn")),
    ("computers", "gcn", "int4"),
    *(("cs", model, "int8") for model in ("gcn", "gat", "agnn")),
    ("cs", "gcn", "int4"),
]  # fmt: skip


@functools.cache
def trained(data: str, name: str) -> tuple[nn.Module, NodeTask]:
    torch.manual_seed(0)
    dataset = load(data)
    model, _ = resolve_model(name, dataset=dataset)
    task = as_task(dataset)
    assert isinstance(task, NodeTask)
    optimiser = torch.optim.Adam(training_defaults(name).parameter_groups(model))
    fit(model, task, optimiser=optimiser, settings=TrainingSettings(EPOCHS[data], evaluate_every=10))
    return model.eval(), task


def check(data: str, name: str, recipe: str) -> None:
    model, task = trained(data, name)
    plan = sgq.plan(model, recipe, task)
    plan = replace(plan, finetuning=replace(plan.finetuning, epochs=2))
    applied = sgq.apply(model, plan, task)
    bucketed = task.with_buckets(plan.bucket_edges) if plan.bucket_edges else task
    with torch.no_grad():
        simulated = bucketed.forward(applied.model, bucketed.sample())
    lowered = sgq.lower(applied.model, bucketed.sample())
    logits = [lowered() for _ in range(3)][-1]
    assert lowered.report.simulated == ()
    same = (logits.argmax(1) == simulated.argmax(1)).float().mean()
    assert float(same) >= 0.999
    labels, mask = task.data.y, task.data.test_mask
    accuracies = [float((one.argmax(1) == labels)[mask].float().mean()) for one in (logits, simulated)]
    assert accuracies[0] == pytest.approx(accuracies[1], abs=0.001)


@pytest.mark.parametrize(("data", "name", "recipe"), SAMPLED)
def test_a_model_predicts_what_its_simulation_does(data: str, name: str, recipe: str) -> None:
    check(data, name, recipe)


@pytest.mark.soak
@pytest.mark.parametrize(("data", "name", "recipe"), IN_FULL)
def test_every_model_predicts_what_its_simulation_does(data: str, name: str, recipe: str) -> None:
    check(data, name, recipe)
