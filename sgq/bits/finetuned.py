"""The accuracy of an assignment: quantize the float model by its plan, finetune, read validation.

Every trial starts from the float checkpoint and not from a finished trial, so that an accuracy depends on the
plan and the seed alone: it can be remembered, and `sgq apply` of the recipe to this model finds it again.
Finetuning is given up at rungs of 5 % and 25 % of its epochs where accuracy is hopelessly below what is
looked for. Test accuracy is never read here.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cached_property
from math import ceil

import torch
from torch import Tensor, nn

from sgq.bits.changes import Changes
from sgq.bits.front import FRAME_HEIGHT
from sgq.bits.memo import Memo
from sgq.bits.planned_space import PlannedSpace
from sgq.bits.space import Assignment
from sgq.bits.trials import Evaluation
from sgq.models import GENERAL_TRAINING, TrainingDefaults
from sgq.pipeline.applying import finetune
from sgq.pipeline.distillation import Teacher
from sgq.pipeline.evaluation import accuracy, evaluating
from sgq.pipeline.tasks import NodeTask, Task
from sgq.pipeline.training import EpochRecord
from sgq.pipeline.wrapping import apply_plan, prequantized
from sgq.recipe import Finetuning, Plan
from sgq.recipe.plan import Limits

RUNGS = ((0.05, 0.10), (0.25, 0.04))
"""Share of the epochs, and by how much validation accuracy may be too low there to go on."""


class FinetunedAccuracy:
    """A callable from an assignment to its validation accuracy after finetuning.

    `least_accuracy` (0 to 1) is what any assignment that holds the search's limit reaches; without one, all
    that is within ten points of the float model is of interest. `memo` remembers results by plan, data, float
    weights, seed and budget: identical plans are never trained twice.
    """

    def __init__(
        self,
        model: nn.Module,
        space: PlannedSpace,
        task: Task,
        *,
        training: TrainingDefaults = GENERAL_TRAINING,
        least_accuracy: float | None = None,
        seed: int = 0,
        memo: Memo | None = None,
    ) -> None:
        self.model = model
        self.space = space
        self.task = task
        self.training = training
        self.least_accuracy = least_accuracy
        self.seed = seed
        self.memo = memo or Memo(None)
        self._references: dict[int, Evaluation] = {}

    def __call__(self, assignment: Assignment) -> Evaluation:
        """Return an assignment's validation accuracy, its standard error, and the share of epochs it had."""
        return self.of_plan(self.space.plan_of(assignment), seed=self.seed)

    def of_plan(self, plan: Plan, *, seed: int) -> Evaluation:
        """Return the validation accuracy that a plan has after finetuning with a seed."""
        key = self._key(plan, seed)
        known = self.memo.get(key)
        if known is None:
            known = self._trained(plan, seed)
            self.memo.put(key, known)
        return known

    def reference(self, seed: int) -> Evaluation:
        """Return what a drop counts from: the widest assignment, finetuned with a seed, or the float model.

        It is the more accurate one of both. A finetuning keeps its best epoch on validation, which is better
        there than elsewhere by some luck: the widest assignment has had as much of it.
        """
        found = self._references.get(seed)
        if found is None:
            plain = self.space.space
            found = self.of_plan(self.space.plan_of(plain.assignment(plain.widest)), seed=seed)
            if found.accuracy < self.float_accuracy:
                unchanged = Changes(len(self.task.rows_of("val")), seen=len(self._float_classes))
                found = Evaluation(self.float_accuracy, changed=str(unchanged))
            self._references[seed] = found
        return found

    @cached_property
    def float_accuracy(self) -> float:
        """The validation accuracy of the float model."""
        return accuracy(self.model, self.task, "val")

    @cached_property
    def _teacher(self) -> Teacher:
        return Teacher(self.model, self.task)

    @cached_property
    def digest(self) -> str:
        """A hash of the float weights and of the data: features, structure, labels and splits."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.model.state_dict().items()):
            _add(digest, name, tensor)
        for split in ("train", "val"):
            _add(digest, split, self.task.predictions(self.model, split)[1])
        sample = self.task.sample()
        for name, value in sorted(sample.to_dict().items()):
            _add(digest, name, value)
        return digest.hexdigest()[:16]

    def _key(self, plan: Plan, seed: int) -> str:
        bare = replace(plan, recipe="", limits=Limits(), notes=())
        parts = (
            bare.digest,
            self.digest,
            repr(self.training),
            str(seed),
            repr(self._floors(plan.finetuning)),
            "with all changed classes",
        )
        return hashlib.sha256("|".join(parts).encode()).hexdigest()[:24]

    def _floors(self, settings: Finetuning) -> dict[int, float]:
        """Return the least validation accuracy to go on with, by epoch."""
        wanted = self.float_accuracy - FRAME_HEIGHT if self.least_accuracy is None else self.least_accuracy
        every = settings.evaluate_every
        rungs = {every * ceil(share * settings.epochs / every): wanted - slack for share, slack in RUNGS}
        return {epoch: floor for epoch, floor in rungs.items() if epoch < settings.epochs}

    def _trained(self, plan: Plan, seed: int) -> Evaluation:
        floors = self._floors(plan.finetuning)
        best = [0.0]

        def give_up(record: EpochRecord) -> bool:
            best[0] = max(best[0], record.val_accuracy or 0.0)
            return best[0] < floors.get(record.epoch, 0.0)

        wrapped, bucketed = apply_plan(self.model, plan, self.task)
        with prequantized(wrapped, plan, bucketed) as static:
            history = finetune(
                wrapped,
                plan,
                static,
                training=self.training,
                teacher=self._teacher if plan.finetuning.distill > 0 else None,
                seed=seed,
                give_up=give_up,
            )
            changes = self._changes(wrapped, static)
        epochs = plan.finetuning.epochs
        budget = len(history.epochs) / epochs if epochs else 1.0
        return Evaluation(history.val_accuracy, budget, changes.error, str(changes))

    def _changes(self, model: nn.Module, task: Task) -> Changes:
        """Return which rows of validation the float model gets right and this one wrong, and the reverse.

        And at which of all rows it says another class.
        """
        validated, seen = _classes(model, task)
        right = validated == self._labels
        rows = task.rows_of("val")
        wrong, mended = rows[self._float_right & ~right], rows[right & ~self._float_right]
        flipped = (seen != self._float_classes).nonzero().squeeze(1)
        return Changes(
            len(rows),
            wrong=tuple(wrong.tolist()),
            right=tuple(mended.tolist()),
            seen=len(self._float_classes),
            flipped=tuple(flipped.tolist()),
        )

    @cached_property
    def _labels(self) -> Tensor:
        with evaluating(self.model):
            return self.task.predictions(self.model, "val")[1]

    @cached_property
    def _float_classes(self) -> Tensor:
        return _classes(self.model, self.task)[1]

    @cached_property
    def _float_right(self) -> Tensor:
        return _classes(self.model, self.task)[0] == self._labels


def _classes(model: nn.Module, task: Task) -> tuple[Tensor, Tensor]:
    """Return the class that a model says of each row of validation, and of each row that may be seen.

    Those are all nodes of a graph, whose features finetuning has seen as well, or the graphs to train and to
    validate on.
    """
    with evaluating(model):
        if isinstance(task, NodeTask):
            seen = task.forward(model, task.sample()).argmax(dim=-1)
            return seen[task.rows_of("val")], seen
        trained, validated = (task.predictions(model, split)[0].argmax(dim=-1) for split in ("train", "val"))
    return validated, torch.cat([trained, validated])


def _add(digest: hashlib._Hash, name: str, value: object) -> None:
    digest.update(name.encode())
    if not isinstance(value, Tensor):
        digest.update(repr(value).encode())
        return
    parts = (
        (value.crow_indices(), value.col_indices(), value.values())
        if value.layout is torch.sparse_csr
        else (value,)
    )
    for part in parts:
        digest.update(f"{part.dtype}{list(part.shape)}".encode())
        digest.update(part.detach().cpu().contiguous().numpy().tobytes())
