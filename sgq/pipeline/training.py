"""The training loop, for float models and for quantized ones: one optimiser, one choice of epoch."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from sgq.errors import ModelError
from sgq.pipeline.distillation import Teacher
from sgq.pipeline.evaluation import accuracy
from sgq.pipeline.tasks import Task
from sgq.report.progress import progress


@dataclass(frozen=True)
class TrainingSettings:
    """How long to train, on what, and which epoch wins: `select_on` "val" keeps the best on validation.

    `distill` (0 to 1) is the share of a teacher's predictions in the loss. Validation accuracy is read
    every `evaluate_every` epochs, and after the last one.
    """

    epochs: int
    distill: float = 0.0
    select_on: Literal["val", "last"] = "val"
    evaluate_every: int = 1
    seed: int = 0


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch left: the mean training loss, and the validation accuracy (0 to 1) where it was read."""

    epoch: int
    loss: float
    val_accuracy: float | None


@dataclass(frozen=True)
class TrainingHistory:
    """All epochs, and the one whose weights the model has now (0: the weights before training)."""

    epochs: tuple[EpochRecord, ...]
    chosen_epoch: int
    val_accuracy: float


def fit(
    model: nn.Module,
    task: Task,
    *,
    optimiser: torch.optim.Optimizer,
    settings: TrainingSettings,
    teacher: Teacher | None = None,
    before_epoch: Callable[[int], None] | None = None,
    give_up: Callable[[EpochRecord], bool] | None = None,
    keep_initial: bool = False,
    quiet: bool = True,
    description: str = "train",
) -> TrainingHistory:
    """Train `model` in place and leave it with the weights of the chosen epoch.

    `before_epoch(epoch)` is called first in every epoch (1, 2, …). `keep_initial` lets the weights before
    training win when no epoch is better on validation. `give_up(record)` is asked after every epoch whose
    validation accuracy was read, with `keep_initial` first for an epoch 0; True ends the training there.
    With a `teacher` the loss is (1 - distill) cross-entropy + distill KL(teacher ‖ model) over all rows of a
    batch. Ties go to the epoch of the lower training loss.
    """
    records: list[EpochRecord] = []
    best: tuple[float, float] = (-1.0, 0.0)
    best_state: dict[str, Tensor] = {}
    chosen = 0
    if keep_initial or settings.epochs == 0:
        best = (accuracy(model, task, "val"), -float("inf"))
        best_state = copy.deepcopy(model.state_dict())
    hopeless = bool(best_state) and give_up is not None and give_up(EpochRecord(0, float("inf"), best[0]))
    epochs = 0 if hopeless else settings.epochs
    torch.manual_seed(settings.seed)
    for epoch in progress(range(1, epochs + 1), description=description, quiet=quiet):
        if before_epoch is not None:
            before_epoch(epoch)
        model.train()
        losses = []
        for batch in task.batches(seed=settings.seed * 100_003 + epoch):
            optimiser.zero_grad(set_to_none=True)
            logits = task.forward(model, batch)
            loss = task.loss(logits, batch)
            if teacher is not None:
                loss = (1 - settings.distill) * loss + settings.distill * teacher.divergence(logits, batch)
            loss.backward()
            optimiser.step()
            losses.append(loss.detach())
        mean_loss = float(torch.stack(losses).mean())
        if mean_loss != mean_loss:
            raise ModelError(
                f"the training loss of epoch {epoch} is not a number: either the train split is empty, or "
                "the learning rate is too high"
            )
        if epoch % settings.evaluate_every and epoch != settings.epochs:
            records.append(EpochRecord(epoch, mean_loss, None))
            continue
        found = accuracy(model, task, "val")
        records.append(EpochRecord(epoch, mean_loss, found))
        score = (found, -mean_loss)
        if settings.select_on == "last" or score >= best:
            best, chosen = score, epoch
            best_state = copy.deepcopy(model.state_dict())
        if give_up is not None and give_up(records[-1]):
            break
    model.load_state_dict(best_state)
    model.eval()
    return TrainingHistory(tuple(records), chosen, best[0])
