from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sgq.errors import ModelError
from sgq.pipeline.distillation import Teacher
from sgq.pipeline.evaluation import evaluating
from sgq.pipeline.tasks import NodeTask
from sgq.pipeline.training import TrainingSettings, fit
from tests.pipeline.trained_models import community_graph, float_model


class Constant(nn.Module):
    """Logits that do not depend on the data; only the bias of the first class is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.logits.expand(x.size(0), 3)


def test_evaluating_puts_every_module_back_into_its_own_mode() -> None:
    model = float_model().train()
    frozen = model.dropouts[0].eval()
    with evaluating(model):
        assert not any(module.training for module in model.modules())
        assert not torch.is_grad_enabled()
    assert [module for module in model.modules() if not module.training] == [frozen]
    assert torch.is_grad_enabled()


def trained(model: nn.Module, *, lr: float = 0.02, seed: int = 0, **settings: object) -> object:
    optimiser = torch.optim.Adam(model.parameters(), lr=lr)
    return fit(
        model,
        NodeTask(community_graph()),
        optimiser=optimiser,
        settings=TrainingSettings(seed=seed, **settings),
    )


def test_training_lowers_the_loss_and_learns() -> None:
    history = trained(float_model(), epochs=30)
    assert len(history.epochs) == 30
    assert history.epochs[-1].loss < history.epochs[0].loss
    assert history.val_accuracy > 0.6


def test_the_model_ends_with_the_weights_of_the_epoch_that_was_best_on_validation() -> None:
    model = float_model()
    history = trained(model, epochs=25)
    best = max(record.val_accuracy for record in history.epochs)
    assert history.val_accuracy == best
    chosen = history.epochs[history.chosen_epoch - 1]
    assert chosen.val_accuracy == best
    ties = [record for record in history.epochs if record.val_accuracy == best]
    assert chosen.loss == min(record.loss for record in ties)
    data = community_graph()
    found = model(data.x, data.edge_index).argmax(1)[data.val_mask]
    assert float((found == data.y[data.val_mask]).double().mean()) == best
    assert not model.training


def test_select_on_last_keeps_the_last_epoch() -> None:
    assert trained(float_model(), epochs=5, select_on="last").chosen_epoch == 5


def test_the_same_seed_gives_the_same_weights_and_another_one_others() -> None:
    states = []
    for seed in (0, 0, 1):
        model = float_model()
        trained(model, epochs=3, seed=seed)
        states.append(torch.cat([parameter.flatten() for parameter in model.parameters()]).detach())
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_no_epochs_keep_the_weights_and_measure_them() -> None:
    model = float_model(trained=True)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    history = trained(model, epochs=0)
    assert history.epochs == ()
    assert history.chosen_epoch == 0
    assert history.val_accuracy > 0.5
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_the_weights_before_training_win_when_no_epoch_is_better() -> None:
    model = float_model(trained=True)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimiser = torch.optim.Adam(model.parameters(), lr=10.0)
    history = fit(
        model,
        NodeTask(community_graph()),
        optimiser=optimiser,
        settings=TrainingSettings(3),
        keep_initial=True,
    )
    assert history.chosen_epoch == 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_loss_that_is_not_a_number_stops_with_advice() -> None:
    model = Constant()
    with torch.no_grad():
        model.logits.fill_(float("nan"))
    with pytest.raises(ModelError, match=r"epoch 1 is not a number: .* or the learning rate is too high"):
        trained(model, epochs=2, select_on="last")


def test_before_epoch_is_called_first_in_every_epoch() -> None:
    calls: list[int] = []
    model = float_model()
    fit(
        model,
        NodeTask(community_graph()),
        optimiser=torch.optim.Adam(model.parameters()),
        settings=TrainingSettings(3),
        before_epoch=calls.append,
    )
    assert calls == [1, 2, 3]


def test_a_teacher_pulls_the_model_towards_its_own_predictions() -> None:
    task = NodeTask(community_graph())
    teacher_model = float_model(trained=True)
    teacher = Teacher(teacher_model, task)
    logits = teacher_model(task.data.x, task.data.edge_index).detach()
    assert float(teacher.divergence(logits, task.data)) == pytest.approx(0.0, abs=1e-6)
    model = Constant()
    before = float(teacher.divergence(model(task.data.x, task.data.edge_index), task.data).detach())
    fit(
        model,
        task,
        optimiser=torch.optim.Adam(model.parameters(), lr=0.1),
        settings=TrainingSettings(20, distill=1.0, select_on="last"),
        teacher=teacher,
    )
    assert float(teacher.divergence(model(task.data.x, task.data.edge_index), task.data).detach()) < before


def test_distillation_weighs_labels_and_teacher() -> None:
    task = NodeTask(community_graph())
    teacher = Teacher(float_model(trained=True), task)
    model = Constant()
    logits = model(task.data.x, task.data.edge_index)
    wanted = 0.25 * task.loss(logits, task.data) + 0.75 * teacher.divergence(logits, task.data)
    history = fit(
        model,
        task,
        optimiser=torch.optim.SGD(model.parameters(), lr=0.0),
        settings=TrainingSettings(1, distill=0.75),
        teacher=teacher,
    )
    assert history.epochs[0].loss == pytest.approx(float(wanted.detach()))
