"""The main job: plan → wrap → calibrate → finetune → evaluate, and what comes out of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from quantizers import Phase
from sgq.cost.memory import MemoryReport, memory_of
from sgq.graph.sites import Site
from sgq.graph.swap import slots_of
from sgq.graph.wrap import quantizer_at
from sgq.models import GENERAL_TRAINING, TrainingDefaults
from sgq.pipeline.distillation import Teacher
from sgq.pipeline.evaluation import accuracy
from sgq.pipeline.planning import plan_for
from sgq.pipeline.tasks import Task, as_task
from sgq.pipeline.training import EpochRecord, TrainingHistory, TrainingSettings, fit
from sgq.pipeline.wrapping import apply_plan, prequantized
from sgq.recipe import LoadedRecipe, load_recipe
from sgq.recipe.plan import Plan


@dataclass(frozen=True)
class Accuracies:
    """Accuracy on the validation and test splits, 0 to 1."""

    val: float
    test: float


@dataclass(frozen=True)
class UnmetLimit:
    """A limit of the recipe that the result does not hold."""

    name: str
    limit: float
    found: float

    def __str__(self) -> str:
        return f"{self.name} is {self.found:g}, over the limit of {self.limit:g}"


@dataclass(frozen=True, repr=False)
class Applied:
    """A quantized model and all that is known of it.

    `model` simulates the plan in float and is ready for inference; `memory` is modelled from the plan.
    `task` is the one that was given, fit for the float model too; on mini-batches a model with degree
    buckets takes `task.with_buckets(plan.bucket_edges)`. `recipe_text` is the recipe's YAML (None where a
    plan was applied).
    """

    model: nn.Module
    plan: Plan
    float_accuracy: Accuracies
    accuracy: Accuracies
    memory: MemoryReport
    history: TrainingHistory
    task: Task
    unmet_limits: tuple[UnmetLimit, ...] = ()
    recipe_text: str | None = None

    @property
    def metrics(self) -> dict[str, float]:
        """The figures by the names that TensorBoard uses."""
        return {
            "val/accuracy": self.accuracy.val,
            "test/accuracy": self.accuracy.test,
            "float/val/accuracy": self.float_accuracy.val,
            "float/test/accuracy": self.float_accuracy.test,
            "memory/packed_bytes": float(self.memory.packed_bytes),
            "memory/file_bytes": float(self.memory.file_bytes),
            "memory/ratio": self.memory.ratio_dense,
            "memory/ratio_sparse": self.memory.ratio_sparse,
        }

    def __repr__(self) -> str:
        return (
            f"Applied({self.plan.recipe}: test accuracy {self.accuracy.test:.1%} simulated "
            f"(float {self.float_accuracy.test:.1%}), {self.memory.packed_bytes:,} packed bytes modelled, "
            f"{self.memory.ratio_dense:.1f}x less than dense fp32, "
            f"{self.memory.ratio_sparse:.1f}x less than sparse)"
        )


def plan(model: nn.Module, recipe: LoadedRecipe | str | Path, data: Any, *, seed: int = 0) -> Plan:
    """Return what `recipe` makes of every site of `model` on `data`: a dry run, nothing is trained.

    `recipe` is a shipped name (`"int8"`), a file or a loaded recipe; `data` a data set name, a PyG `Data`,
    a list of graphs, or a loader.
    """
    return plan_for(model, recipe, as_task(data, seed=seed))


def apply(
    model: nn.Module,
    recipe: LoadedRecipe | Plan | str | Path,
    data: Any,
    *,
    training: TrainingDefaults = GENERAL_TRAINING,
    seed: int = 0,
    quiet: bool = True,
    on_plan: Callable[[Plan], None] | None = None,
) -> Applied:
    """Quantize a trained model: plan, wrap, calibrate, finetune and evaluate; `model` itself stays float.

    `training` gives the learning rate and weight decay where the recipe does not. The epoch is chosen on
    validation and test is read once. `on_plan` sees the plan before anything is trained. Limits that the
    result does not hold are listed in `unmet_limits`, not raised.
    """
    task = as_task(data, seed=seed)
    loaded = load_recipe(recipe) if isinstance(recipe, str | Path) else recipe
    made = loaded if isinstance(loaded, Plan) else plan_for(model, loaded, task)
    if on_plan is not None:
        on_plan(made)
    float_accuracy = Accuracies(accuracy(model, task, "val"), accuracy(model, task, "test"))
    wrapped, bucketed = apply_plan(model, made, task)
    teacher = Teacher(model, task) if made.finetuning.distill > 0 else None
    with prequantized(wrapped, made, bucketed) as static:
        history = finetune(wrapped, made, static, training=training, teacher=teacher, seed=seed, quiet=quiet)
    wrapped.eval()
    found = Accuracies(accuracy(wrapped, bucketed, "val"), accuracy(wrapped, bucketed, "test"))
    memory = memory_of(made)
    return Applied(
        wrapped,
        made,
        float_accuracy,
        found,
        memory,
        history,
        task,
        _unmet(made, memory, float_accuracy, found),
        recipe_text=loaded.text if isinstance(loaded, LoadedRecipe) else None,
    )


def finetune(
    model: nn.Module,
    plan: Plan,
    task: Task,
    *,
    training: TrainingDefaults = GENERAL_TRAINING,
    teacher: Teacher | None = None,
    seed: int = 0,
    quiet: bool = True,
    give_up: Callable[[EpochRecord], bool] | None = None,
) -> TrainingHistory:
    """Train a calibrated model on, in place, as the plan says; it ends frozen, at the epoch of the best val.

    Ranges follow the data for the plan's share of the epochs and are frozen after it. The calibrated
    model before any training counts as epoch 0. `give_up` may end it early, see `sgq.pipeline.training.fit`.
    """
    settings = plan.finetuning
    rates = replace(
        training,
        lr=training.lr if settings.lr is None else settings.lr,
        weight_decay=training.weight_decay if settings.weight_decay is None else settings.weight_decay,
    )
    tracked = [
        quantizer_at(model, entry.site) for entry in plan.quantized if not _is_taken_out(model, entry.site)
    ]
    last_observed = round(settings.observe * settings.epochs)

    def set_phases(epoch: int) -> None:
        if epoch == 1 and last_observed >= 1:
            for quantizer in tracked:
                quantizer.phase = Phase.TRACK
        if epoch == last_observed + 1:
            for quantizer in tracked:
                quantizer.freeze()

    history = fit(
        model,
        task,
        optimiser=torch.optim.Adam(rates.parameter_groups(model)),
        settings=TrainingSettings(
            epochs=settings.epochs,
            distill=settings.distill,
            select_on=settings.select_on,
            evaluate_every=settings.evaluate_every,
            seed=seed,
        ),
        teacher=teacher,
        before_epoch=set_phases,
        give_up=give_up,
        keep_initial=settings.select_on == "val",
        quiet=quiet,
        description="finetune",
    )
    for quantizer in tracked:
        quantizer.freeze()
    return history


def _is_taken_out(model: nn.Module, site: Site) -> bool:
    """Whether the features' quantizer is out of the model for now (see `prequantized`)."""
    return site.features and site.place.slot not in slots_of(model.get_submodule(site.place.module))


def _unmet(plan: Plan, memory: MemoryReport, before: Accuracies, after: Accuracies) -> tuple[UnmetLimit, ...]:
    """Return the limits that do not hold; the accuracy drop is judged on validation, as every choice is."""
    unmet = []
    limits = plan.limits
    if limits.packed_bytes is not None and memory.packed_bytes > limits.packed_bytes:
        unmet.append(UnmetLimit("packed_bytes", limits.packed_bytes, memory.packed_bytes))
    if limits.accuracy_drop is not None and before.val - after.val > limits.accuracy_drop:
        unmet.append(UnmetLimit("accuracy_drop", limits.accuracy_drop, before.val - after.val))
    return tuple(unmet)
