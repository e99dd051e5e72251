"""From a plan to a quantized model, and the check that every site of it really runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from quantizers import Phase
from sgq.errors import PlanError
from sgq.graph.wrap import Assignment, quantizer_at, quantizers_of, wrap_sites
from sgq.pipeline.evaluation import evaluating
from sgq.pipeline.tasks import NodeTask, Task, as_task
from sgq.recipe.plan import Plan


def wrap(model: nn.Module, plan: Plan, *, bucket: Tensor | None = None) -> nn.Module:
    """Return a copy of `model` with the plan's quantizers in it, observing and not yet quantizing.

    `bucket` [nodes] are the whole graph's bucket ids, for a plan with degree buckets; without them every
    call must pass its own (`model(..., bucket=batch.bucket)`). Continue with `sgq.calibrate`.
    """
    assignments = [Assignment(entry.site, entry.spec) for entry in plan.quantized if entry.spec is not None]
    if bucket is None and any(assignment.spec.bucketed for assignment in assignments):
        bucket = torch.empty(0, dtype=torch.uint8)
    return wrap_sites(model, assignments, bucket=bucket)


def set_phase(model: nn.Module, phase: Phase) -> None:
    """Put every quantizer of a wrapped model in a phase."""
    for quantizer in quantizers_of(model).values():
        if phase is Phase.FROZEN:
            quantizer.freeze()
        else:
            quantizer.phase = phase


def calibrate(model: nn.Module, plan: Plan, data: Any) -> None:
    """Find the ranges of all quantizers on training data, in place, and check that every site fired.

    `data` is a task, or anything that `sgq.as_task` takes; its nodes get the plan's degree buckets.
    Afterwards the quantizers are frozen: the model is quantized, post-training. A site that never ran is
    a PlanError that names the likely reason.
    """
    task = as_task(data)
    if plan.bucket_edges and task.buckets != plan.bucket_edges:
        task = task.with_buckets(plan.bucket_edges)
    set_phase(model, Phase.OBSERVE)
    with _firing(model, plan) as fired, evaluating(model):
        for count, batch in enumerate(task.batches(seed=0), start=1):
            task.forward(model, batch)
            if count == plan.calibration.batches:
                break
    silent = [str(entry.site.name) for entry in plan.quantized if str(entry.site.name) not in fired]
    if silent:
        raise PlanError(
            f"{len(silent)} of {len(plan.quantized)} sites never ran while calibrating: {', '.join(silent)}. "
            "Either the model skips that layer on this data, or the plan was made with another form of "
            "adjacency (a sparse one fuses messages) or another model. Make the plan anew on this data"
        )
    set_phase(model, Phase.FROZEN)


def apply_plan(model: nn.Module, plan: Plan, task: Task) -> tuple[nn.Module, Task]:
    """Return a copy of the model quantized by a plan, not finetuned, and the task with the plan's buckets."""
    if plan.bucket_edges:
        task = task.with_buckets(plan.bucket_edges)
    bucket = task.data.bucket if isinstance(task, NodeTask) and plan.buckets else None
    wrapped = wrap(model, plan, bucket=bucket)
    calibrate(wrapped, plan, task)
    return wrapped, task


@contextmanager
def prequantized(model: nn.Module, plan: Plan, task: Task) -> Iterator[Task]:
    """Yield the task with its static input features quantized, and take their quantizer out meanwhile.

    The features of a whole graph are the same in every step, so they are quantized once, and always before
    any dropout of the model. Without static features, where the plan leaves them alone, or where the model
    reads them in more places than the one that the plan quantizes, the task comes back as it is.
    """
    entries = [entry for entry in plan.entries if entry.site.features and entry.site.rows == "node"]
    features = task.static_features
    if len(entries) != 1 or entries[0] not in plan.quantized or features is None:
        yield task
        return
    place = entries[0].site.place
    quantizer = quantizer_at(model, entries[0].site)
    slots = model.get_submodule(place.module).site_quantizers
    assert isinstance(slots, nn.ModuleDict)
    with evaluating(model):
        wanted = task.forward(model, task.sample())
        bucket = model.degree_bucket if quantizer.spec.bucketed else None
        quantized = quantizer(features, bucket) if bucket is not None else quantizer(features)
        static = task.with_features(quantized)
        del slots[place.slot]
        try:
            # What the model's own code reads besides (a residual, say) is in no plan: only a run shows it.
            same = torch.allclose(static.forward(model, static.sample()), wanted, equal_nan=True)
        finally:
            slots[place.slot] = quantizer
    if not same:
        yield task
        return
    del slots[place.slot]
    try:
        yield static
    finally:
        slots[place.slot] = quantizer


@contextmanager
def _firing(model: nn.Module, plan: Plan) -> Iterator[set[str]]:
    """Yield a set that fills with the names of the sites that run inside the block."""
    fired: set[str] = set()

    def note(name: str) -> Callable[..., None]:
        return lambda *_: fired.add(name)

    handles: list[Any] = []
    for entry in plan.quantized:
        quantizer = quantizer_at(model, entry.site)
        handles.append(quantizer.register_forward_hook(note(str(entry.site.name))))
    try:
        yield fired
    finally:
        for handle in handles:
            handle.remove()
