"""From quantized models to a report: rows, sites, and a run folder with JSON, HTML and TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sgq.cost.memory import MemoryReport, memory_of
from sgq.pipeline.applying import Accuracies, Applied
from sgq.pipeline.quantization_error import SiteError, site_errors
from sgq.recipe.plan import Plan
from sgq.report import MemoryRow, Report, ReportRow, RuntimeRow, SiteRow
from sgq.report.files import write_atomically
from sgq.report.html import write_html
from sgq.report.rows import Family
from sgq.report.tensorboard import TensorBoardRun

WORST_SITES = 5
"""How many sites get a histogram in TensorBoard: those that quantization moves most."""

Settings = Mapping[str, str | int | float | bool]


def float_plan(plan: Plan) -> Plan:
    """Return the plan of the same model with every site in float."""
    return plan.with_specs({str(entry.site.name): None for entry in plan.entries})


def float_row(applied: Applied) -> ReportRow:
    """Return the row of the model before quantization."""
    return report_row("float", memory_of(float_plan(applied.plan)), applied.float_accuracy, family="float")


def recipe_row(applied: Applied) -> ReportRow:
    """Return the row of a quantized model, named after its recipe."""
    return report_row(applied.plan.recipe, applied.memory, applied.accuracy, family=_family(applied.plan))


def report_row(name: str, memory: MemoryReport, accuracy: Accuracies | None, *, family: Family) -> ReportRow:
    """Return one row of a comparison from modelled memory and simulated accuracy."""
    return ReportRow(
        name=name,
        packed_bytes=memory.packed_bytes,
        file_bytes=memory.file_bytes,
        ratio_dense=memory.ratio_dense,
        ratio_sparse=memory.ratio_sparse,
        sgquant_bits=memory.sgquant_bits,
        a2q_bits=memory.a2q_bits,
        mixq_bits=memory.mixq_bits,
        accuracy_val=None if accuracy is None else accuracy.val,
        accuracy_test=None if accuracy is None else accuracy.test,
        family=family,
    )


def site_rows(plan: Plan, memory: MemoryReport, *, errors: Sequence[SiteError] = ()) -> tuple[SiteRow, ...]:
    """Return one row a site that counts for memory, with its clipped share where `errors` has it."""
    clipped = {error.site: error.clip_share for error in errors}
    entries = {str(entry.site.name): entry for entry in plan.entries}
    return tuple(
        SiteRow(
            name=str(counted.site.name),
            component=counted.site.name.component,
            rows=counted.site.rows,
            shape=counted.site.shape,
            spec=spec_text(entries[str(counted.site.name)].spec),
            origin=entries[str(counted.site.name)].origin,
            packed_bytes=counted.total_bytes,
            values=counted.site.values,
            clip_share=clipped.get(str(counted.site.name)),
        )
        for counted in memory.sites
    )


def memory_rows(memory: MemoryReport) -> tuple[MemoryRow, ...]:
    """Return the bytes of every site, then of what is no site; together they are the packed bytes."""
    sites = [
        MemoryRow(
            name=str(counted.site.name),
            form=counted.form,
            bits=counted.bits,
            code_bytes=sum(counted.code_bytes),
            scale_bytes=counted.scale_bytes,
            zero_point_bytes=counted.zero_point_bytes,
            index_bytes=counted.index_bytes,
            total_bytes=counted.total_bytes,
        )
        for counted in memory.sites
    ]
    others = (
        ("bucket ids", "dense", memory.bucket_id_bytes),
        ("float parameters", "float", memory.float_parameter_bytes),
        ("buffers", "as they are", memory.buffer_bytes),
    )
    return (
        *sites,
        *(
            MemoryRow(
                name=name,
                form=form,
                bits=None,
                code_bytes=count,
                scale_bytes=0,
                zero_point_bytes=0,
                index_bytes=0,
                total_bytes=count,
            )
            for name, form, count in others
            if count
        ),
    )


def spec_text(spec: object | None) -> str:
    """Return a spec in words; a site without one stays in float."""
    return "float" if spec is None else str(spec)


def build_report(
    applied: Applied,
    *,
    title: str,
    comparisons: Sequence[Applied] = (),
    settings: Settings | None = None,
    errors: Sequence[SiteError] = (),
    runtime: Sequence[RuntimeRow] = (),
    notes: Sequence[str] = (),
) -> Report:
    """Return the report of a quantized model: float, the comparisons, then the model itself, and its sites.

    `comparisons` are the same float model under other recipes, `runtime` the measured rows of this one.
    Notes hold every limit that was not met, the plan's remarks, and `notes`.
    """
    unmet = (f"limit not met: {limit}" for limit in applied.unmet_limits)
    return Report(
        title=title,
        rows=(float_row(applied), *(recipe_row(other) for other in comparisons), recipe_row(applied)),
        sites=site_rows(applied.plan, applied.memory, errors=errors),
        settings=tuple((name, str(value)) for name, value in (settings or {}).items()),
        notes=(*unmet, *applied.plan.notes, *notes),
        runtime=tuple(runtime),
    )


def write_report(
    folder: str | Path,
    applied: Applied,
    *,
    title: str,
    comparisons: Sequence[Applied] = (),
    settings: Settings | None = None,
    runtime: Sequence[RuntimeRow] = (),
    notes: Sequence[str] = (),
) -> Report:
    """Write `report.json`, `report.html` and a TensorBoard run to `folder`; return the report.

    Earlier results in the folder stay as they were when anything fails. Raises UsageError where the
    folder cannot be written.
    """
    folder = Path(folder)
    known: Settings = settings or {}
    errors = site_errors(applied.model, applied.plan, applied.task)
    report = build_report(
        applied,
        title=title,
        comparisons=comparisons,
        settings=known,
        errors=errors,
        runtime=runtime,
        notes=notes,
    )
    with TensorBoardRun(folder) as run:
        for record in applied.history.epochs:
            run.epoch(record.epoch, loss=record.loss, accuracy_val=record.val_accuracy)
        run.bits({str(counted.site.name): counted.bits for counted in applied.memory.sites})
        for worst in sorted(errors, key=lambda error: -error.error)[:WORST_SITES]:
            run.clipping(worst.site, worst.values, lower=worst.lower, upper=worst.upper)
        run.picture(report.rows)
        run.runtime(report.runtime)
        run.result(report.rows[-1], settings=known)
        write_html(report, folder / "report.html")
        write_atomically(folder / "report.json", json.dumps(_record(report, applied, errors), indent=1))
    return report


def _record(report: Report, applied: Applied, errors: Sequence[SiteError]) -> dict[str, Any]:
    """Return the report's JSON with what only programs read: epochs, errors, metrics, limits."""
    return report.to_json() | {
        "plan": applied.plan.digest,
        "metrics": applied.metrics,
        "history": asdict(applied.history),
        "errors": {error.site: error.error for error in errors},
        "unmet_limits": [asdict(limit) for limit in applied.unmet_limits],
    }


def _family(plan: Plan) -> Family:
    """A recipe that gives every quantized site the same width is uniform."""
    widths = {width for entry in plan.quantized if entry.spec is not None for width in entry.spec.widths}
    return "uniform" if len(widths) == 1 else "recipe"
