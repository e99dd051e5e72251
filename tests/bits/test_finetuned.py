"""The accuracy of an assignment depends on plan, data, weights and seed alone, and is trained for once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch_geometric.data import Data

import sgq
from sgq.bits import finetuned
from sgq.bits.changes import Changes
from sgq.bits.finetuned import FinetunedAccuracy
from sgq.bits.memo import Memo
from sgq.bits.planned_space import planned_space
from sgq.bits.trials import Evaluation
from sgq.pipeline.tasks import GraphTask, NodeTask
from sgq.pipeline.training import EpochRecord, TrainingHistory
from sgq.recipe.filling import filled
from tests.pipeline.trained_models import CLASSES, community_graph, float_model, recipe

SPACE = """
version: 1
name: short
rules:
  - match: {component: weight}
    bits: {choices: [1, 8]}
    granularity: channel
  - match: {component: [input, message], rows: node}
    bits: {choices: [1, 8]}
  - match: {module: nowhere}
    bits: {choices: [2, 4]}
    optional: true
finetune: {epochs: 6, lr: 0.01}
"""
WIDE = {"*:weight": 8, "*:input+message": 8, "nowhere:*": 4}
NARROW = {"*:weight": 1, "*:input+message": 1, "nowhere:*": 2}


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return float_model(trained=True)


def evaluation_of(
    model: nn.Module, *, data: Data | None = None, text: str = SPACE, **options: Any
) -> FinetunedAccuracy:
    task = NodeTask(community_graph() if data is None else data)
    return FinetunedAccuracy(model, planned_space(model, recipe(text), task), task, **options)


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The seed of every training from now on."""
    seeds: list[int] = []
    whole = finetuned.finetune

    def counted(*arguments: Any, seed: int, **options: Any) -> TrainingHistory:
        seeds.append(seed)
        return whole(*arguments, seed=seed, **options)

    monkeypatch.setattr(finetuned, "finetune", counted)
    return seeds


Script = Callable[[list[float]], None]


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Script:
    """Return a function that says which validation accuracies the next training has, epoch by epoch."""
    accuracies: list[float] = []

    def finetune(*arguments: Any, give_up: Callable[[EpochRecord], bool], **options: Any) -> TrainingHistory:
        records = []
        for epoch, accuracy in enumerate(accuracies, start=1):
            records.append(EpochRecord(epoch, 1.0, accuracy))
            if give_up(records[-1]):
                break
        best = max(record.val_accuracy or 0.0 for record in records)
        return TrainingHistory(tuple(records), len(records), best)

    monkeypatch.setattr(finetuned, "finetune", finetune)
    return lambda given: accuracies.__setitem__(slice(None), given)


def test_the_same_plan_and_seed_give_the_same_accuracy_whatever_was_evaluated_before(
    model: nn.Module, trainings: list[int]
) -> None:
    first, second = evaluation_of(model), evaluation_of(model)
    found = first(WIDE)
    second(NARROW)
    torch.manual_seed(99)
    assert second(WIDE) == found
    assert found.accuracy > 0.6
    assert len(trainings) == 3


def test_the_error_is_that_of_a_drop_on_the_same_nodes(model: nn.Module) -> None:
    evaluation = evaluation_of(model, text=SPACE.replace("epochs: 6", "epochs: 0"))
    found = evaluation(NARROW)
    task = evaluation.task
    quantized = sgq.apply(model, evaluation.space.plan_of(NARROW), task).model
    rights = []
    for network in (model, quantized):
        logits, labels = task.predictions(network.eval(), "val")
        rights.append(logits.argmax(dim=-1) == labels)
    before, after = rights
    wrong, right, nodes = int((before & ~after).sum()), int((after & ~before).sum()), len(before)
    assert wrong > 0
    expected = ((wrong + right - (wrong - right) ** 2 / nodes) ** 0.5) / nodes
    assert found.error == pytest.approx(expected)
    assert found.accuracy == pytest.approx(evaluation.float_accuracy - (wrong - right) / nodes)
    everywhere = [
        task.forward(network, task.sample()).argmax(dim=-1) for network in (model.eval(), quantized.eval())
    ]
    flipped = (everywhere[0] != everywhere[1]).nonzero().squeeze(1).tolist()
    assert len(flipped) >= wrong + right
    assert list(Changes.parse(found.changed).flipped) == flipped
    assert Changes.parse(found.changed).flipped_share == len(flipped) / task.sample().num_nodes


class Sums(nn.Module):
    """Says of each graph the class of its largest sum of features."""

    def forward(self, x: torch.Tensor, edge_index: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
        del edge_index
        return torch.zeros(int(batch.max()) + 1, x.size(1)).index_add(0, batch, x)


def test_of_graphs_those_to_train_and_to_validate_on_are_seen() -> None:
    classes = (2, 0, 1, 1, 0)
    graphs = [
        Data(x=torch.eye(3)[[number]], edge_index=torch.empty(2, 0, dtype=torch.long), y=torch.tensor([0]))
        for number in classes
    ]
    splits = {"train": torch.tensor([1, 3]), "val": torch.tensor([0]), "test": torch.tensor([2, 4])}
    validated, seen = finetuned._classes(Sums(), GraphTask(graphs, splits, batch_size=2))
    assert (validated.tolist(), seen.tolist()) == ([2], [0, 1, 2])


def test_a_drop_counts_from_the_widest_assignment_in_the_same_run(
    model: nn.Module, trainings: list[int]
) -> None:
    evaluation = evaluation_of(model)
    for seed in (0, 3, 3):
        found = evaluation.reference(seed)
        assert found == evaluation.of_plan(evaluation.space.plan_of(WIDE), seed=seed)
        assert found.accuracy >= evaluation.float_accuracy
    assert trainings == [0, 3]


def test_a_drop_counts_from_the_float_model_where_that_is_better(model: nn.Module, scripted: Script) -> None:
    evaluation = evaluation_of(model)
    scripted([evaluation.float_accuracy - 0.1] * 6)
    nodes = evaluation.task.sample().num_nodes
    assert evaluation.reference(0) == Evaluation(evaluation.float_accuracy, changed=f"30;;;{nodes};")


def test_applying_the_filled_recipe_gives_the_accuracy_of_the_trial(model: nn.Module) -> None:
    evaluation = evaluation_of(model, seed=3, least_accuracy=0.0)
    for assignment in (WIDE, NARROW):
        applied = sgq.apply(model, filled(evaluation.space.recipe, assignment), evaluation.task, seed=3)
        found = evaluation(assignment)
        assert (found.accuracy, found.budget) == (applied.accuracy.val, 1.0)


def test_the_float_model_stays_as_it_is(model: nn.Module) -> None:
    before = copy.deepcopy(model.state_dict())
    kinds = [type(module) for module in model.modules()]
    evaluation_of(model)(NARROW)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert [type(module) for module in model.modules()] == kinds
    assert not any(module.training for module in model.modules())


def test_labels_of_test_nodes_change_nothing(model: nn.Module) -> None:
    data = community_graph()
    data.y = torch.where(data.test_mask, (data.y + 1) % CLASSES, data.y)
    assert evaluation_of(model, data=data)(WIDE) == evaluation_of(model)(WIDE)


def test_what_was_measured_is_not_trained_again_in_this_process_or_another(
    model: nn.Module, trainings: list[int], tmp_path: Path
) -> None:
    path = tmp_path / "memo.jsonl"
    first = evaluation_of(model, memo=Memo(path))
    found = first(WIDE)
    assert first(WIDE) == found
    assert evaluation_of(model, memo=Memo(path))(WIDE) == found
    assert trainings == [0]


def test_assignments_of_one_plan_are_trained_once(model: nn.Module, trainings: list[int]) -> None:
    evaluation = evaluation_of(model)
    assert evaluation(WIDE) == evaluation(WIDE | {"nowhere:*": 2})
    assert trainings == [0]


def test_what_a_recipe_is_called_and_its_limits_decide_nothing(
    model: nn.Module, trainings: list[int]
) -> None:
    memo = Memo(None)
    other = recipe(SPACE, name="other", limits="{packed_bytes: 9}").text
    assert evaluation_of(model, memo=memo)(WIDE) == evaluation_of(model, memo=memo, text=other)(WIDE)
    assert trainings == [0]


def another_weight(model: nn.Module) -> dict[str, Any]:
    changed = copy.deepcopy(model)
    with torch.no_grad():
        next(changed.parameters()).view(-1)[0] += 0.5
    return {"model": changed}


def another_label(model: nn.Module) -> dict[str, Any]:
    data = community_graph()
    data.y[0] = (data.y[0] + 1) % CLASSES
    return {"model": model, "data": data}


def another_schedule(model: nn.Module) -> dict[str, Any]:
    return {"model": model, "text": recipe(SPACE, finetune="{epochs: 5, lr: 0.01}").text}


@pytest.mark.parametrize(
    "changed",
    [
        another_weight,
        another_label,
        another_schedule,
        lambda model: {"model": model, "seed": 1},
        # Other rungs: what was given up for one limit may be good enough for another.
        lambda model: {"model": model, "least_accuracy": 0.1},
    ],
)
def test_anything_else_that_is_changed_is_trained_for(
    model: nn.Module, trainings: list[int], changed: Callable[[nn.Module], dict[str, Any]]
) -> None:
    memo = Memo(None)
    evaluation_of(model, memo=memo)(WIDE)
    evaluation_of(memo=memo, **changed(model))(WIDE)
    assert len(trainings) == 2


def changed_graphs() -> Iterator[Data]:
    for key in ("x", "edge_index", "y", "train_mask", "val_mask"):
        data = community_graph()
        data[key] = data[key].clone(memory_format=torch.contiguous_format)
        flat = data[key].view(-1)
        flat[0] = ~flat[0] if flat.dtype == torch.bool else (flat[0] + 1) % CLASSES
        yield data


def test_the_digest_is_of_weights_and_of_all_of_the_data(model: nn.Module) -> None:
    digest = evaluation_of(model).digest
    assert evaluation_of(copy.deepcopy(model)).digest == digest
    assert evaluation_of(model, text=recipe(SPACE, name="other").text, seed=5).digest == digest
    others = [evaluation_of(model, data=data).digest for data in changed_graphs()]
    others.append(evaluation_of(**another_weight(model)).digest)
    assert len({digest, *others}) == 7


def test_a_hopeless_assignment_is_given_up_at_the_first_rung(model: nn.Module) -> None:
    twenty = recipe(SPACE, finetune="{epochs: 20, lr: 0.000001}").text
    evaluation = evaluation_of(model, text=twenty, least_accuracy=1.0)
    assert evaluation(NARROW).budget == 1 / 20
    assert evaluation_of(model, text=twenty, least_accuracy=0.2)(NARROW).budget == 1.0


@pytest.mark.parametrize(
    ("start", "rest", "epochs"),
    [
        ([0.69], 0.9, 1),  # more than 10 points below 0.8 after 5 % of the epochs
        ([0.71, 0.72, 0.73, 0.74, 0.75], 0.9, 5),  # more than 4 points below after 25 %
        ([0.71, 0.72, 0.73, 0.74, 0.77], 0.1, 20),  # never after that
        ([0.71, 0.77, 0.0, 0.0, 0.0], 0.1, 20),  # the best epoch counts
        ([0.71, 0.0, 0.0, 0.0, 0.77], 0.1, 20),  # nothing is asked between the rungs
    ],
)
def test_finetuning_is_given_up_at_5_and_25_percent_where_it_is_far_below_the_limit(
    model: nn.Module, scripted: Script, start: list[float], rest: float, epochs: int
) -> None:
    scripted(start + [rest] * (20 - len(start)))
    text = recipe(SPACE, finetune="{epochs: 20}").text
    found = evaluation_of(model, text=text, least_accuracy=0.8)(WIDE)
    assert found.accuracy == max(start + [rest] * (epochs - len(start)))
    assert found.budget == epochs / 20


@pytest.mark.parametrize(("below", "epochs"), [(0.19, 20), (0.21, 1)])
def test_without_a_limit_ten_points_below_the_float_model_are_of_interest(
    model: nn.Module, scripted: Script, below: float, epochs: int
) -> None:
    evaluation = evaluation_of(model, text=recipe(SPACE, finetune="{epochs: 20}").text)
    first = evaluation.float_accuracy - below
    scripted([first] + [evaluation.float_accuracy] * 19)
    assert evaluation(WIDE).budget == epochs / 20


def test_rungs_stand_at_epochs_whose_accuracy_is_read(model: nn.Module, scripted: Script) -> None:
    text = recipe(SPACE, finetune="{epochs: 20, evaluate_every: 4}").text
    scripted([0.0, 0.0, 0.0, 0.65, 0.9])
    assert evaluation_of(model, text=text, least_accuracy=0.8)(WIDE).budget == 4 / 20


@pytest.mark.parametrize("epochs", [0, 1])
def test_a_finetuning_without_a_quarter_to_save_is_never_given_up(model: nn.Module, epochs: int) -> None:
    text = recipe(SPACE, finetune=f"{{epochs: {epochs}}}").text
    assert evaluation_of(model, text=text, least_accuracy=1.0)(NARROW).budget == 1.0
