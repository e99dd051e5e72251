"""What `sgq bits` leaves: the best recipe, applied and packed, all trials as CSV, TensorBoard and HTML."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sgq.cli.output import console, note, print_json
from sgq.cli.subject import resolve_subject
from sgq.errors import SgqError

if TYPE_CHECKING:
    from sgq.bits.finetuned import FinetunedAccuracy
    from sgq.bits.selection import Selection
    from sgq.pipeline.applying import Applied
    from sgq.report.study_rows import StudyReport

COMPARED = ("int8", "int4")
"""Uniform recipes that the trials are held against."""
RECIPE, CHECKPOINT = "best.recipe.yaml", "best.safetensors"


def write_selection(
    folder: Path, selection: Selection, evaluation: FinetunedAccuracy, arguments: argparse.Namespace
) -> StudyReport:
    """Apply the chosen recipe, and write it, its packed checkpoint, and the report of all trials.

    The recipe is written first: it stays, whatever happens after.
    """
    from sgq.bits.results import best_recipe, study_report
    from sgq.pipeline.applying import apply
    from sgq.pipeline.checkpoint import save
    from sgq.recipe import load_recipe
    from sgq.report.files import write_atomically
    from sgq.report.studies import write_study

    subject = resolve_subject(arguments)
    applied: Applied | None = None
    comparisons: list[Applied] = []
    if selection.chosen is not None:
        recipe = best_recipe(selection, evaluation.space)
        write_atomically(folder / RECIPE, recipe.text)
        quantize = partial(
            apply,
            subject.model,
            data=subject.task,
            training=subject.training,
            seed=subject.seed,
            quiet=arguments.quiet,
        )
        applied = quantize(recipe)
        save(
            folder / CHECKPOINT,
            applied.model,
            applied.plan,
            recipe_text=recipe.text,
            metadata=subject.metadata
            | {
                "recipe": applied.plan.recipe,
                "val_accuracy": str(applied.accuracy.val),
                "test_accuracy": str(applied.accuracy.test),
            },
        )
        for name in () if selection.result.interrupted else COMPARED:
            try:
                comparisons.append(quantize(load_recipe(name)))
            except SgqError as error:  # a comparison is no reason to lose the result
                note(f"not compared with {name}: {error}")
    study = study_report(
        selection,
        evaluation.space,
        title=f"bits of {evaluation.space.recipe.recipe.name} on {subject.model_name}, {subject.data_name}",
        applied=applied,
        comparisons=comparisons,
        sampler=arguments.sampler,
        settings=(
            ("space", arguments.space),
            ("model", subject.model_name),
            ("data", subject.data_name),
            ("split", subject.dataset.split),
            ("seed", str(subject.seed)),
            ("limits", str(selection.result.limits) or "none"),
            ("trials", str(len(selection.result.trials))),
            ("workers", str(arguments.workers)),
        ),
    )
    write_study(folder, study)
    return study


def print_selection(study: StudyReport, folder: Path, *, as_json: bool) -> None:
    """Print the references and the front, or all of the study as JSON."""
    from sgq.report.table import print_study

    if as_json:
        print_json({"folder": str(folder), **study.to_json()})
        return
    out = console()
    print_study(study, out)
    written = f"{RECIPE}, {CHECKPOINT}, " if study.best is not None else ""
    out.print(f"wrote {folder}: {written}trials.csv, pareto.csv, study.json, report.html, TensorBoard")
