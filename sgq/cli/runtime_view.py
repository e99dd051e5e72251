"""Measured rows for people and for programs: the integer runtime beside both float baselines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sgq.cli.output import console

if TYPE_CHECKING:
    from torch import nn

    from sgq.cli.subject import Subject
    from sgq.pipeline.tasks import Task
    from sgq.recipe.plan import Plan
    from sgq.runtime.comparison import RuntimeComparison


def measure_runtime(
    subject: Subject, quantized: nn.Module, plan: Plan, *, file_bytes: int
) -> RuntimeComparison:
    """Lower a quantized model of the subject and measure it, on the whole graph or the first batch."""
    import sgq
    from sgq.runtime.comparison import compare

    lowered = sgq.lower(quantized, bucketed_task(subject, plan).sample())
    return compare(subject.model, lowered, subject.task.sample(), file_bytes=file_bytes)


def bucketed_task(subject: Subject, plan: Plan) -> Task:
    """Return the subject's task, with the degree buckets of a plan that has some."""
    return subject.task.with_buckets(plan.bucket_edges) if plan.bucket_edges else subject.task


def runtime_json(comparison: RuntimeComparison) -> dict[str, Any]:
    """Return the measured rows and their notes as plain data."""
    from dataclasses import asdict

    return {"runtime": [asdict(row) for row in comparison.rows], "runtime_notes": list(comparison.notes)}


def print_measured(comparison: RuntimeComparison) -> None:
    """Print the measured rows, what stayed simulated, and which baseline is absent."""
    from sgq.report.table import print_runtime

    out = console()
    out.print()
    print_runtime(comparison.rows, out)
    for text in comparison.notes:
        out.print(f"note: {text}")
