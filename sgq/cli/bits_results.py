"""What `sgq bits` leaves: the best recipe, applied and packed, all trials as CSV, TensorBoard and HTML."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sgq.cli.output import console, note, print_json
from sgq.cli.subject import resolve_subject
from sgq.errors import SgqError

if TYPE_CHECKING:
    from sgq.bits.finetuned import FinetunedAccuracy
    from sgq.bits.selection import Selection
    from sgq.cli.subject import Subject
    from sgq.pipeline.applying import Applied
    from sgq.recipe import LoadedRecipe
    from sgq.report.study_rows import StudyReport

COMPARED = ("int8", "int4")
"""Uniform recipes that the trials are held against."""
RECIPE, CHECKPOINT = "best.recipe.yaml", "best.safetensors"


@dataclass(frozen=True)
class Written:
    """The report that was written, the other files beside it, and whether Ctrl-C left some of them out."""

    study: StudyReport
    files: tuple[str, ...] = ()
    interrupted: bool = False


def write_selection(
    folder: Path, selection: Selection, evaluation: FinetunedAccuracy, arguments: argparse.Namespace
) -> Written:
    """Write the chosen recipe and the report of all trials, then its packed checkpoint and comparisons.

    What needs no training is written first: it stays, whatever happens after. Ctrl-C in a training leaves out
    what is not there by then.
    """
    from sgq.bits.results import best_recipe, study_report
    from sgq.report.files import write_atomically
    from sgq.report.studies import write_study

    subject = resolve_subject(arguments)
    report = partial(
        study_report,
        selection,
        evaluation.space,
        title=f"bits of {evaluation.space.recipe.recipe.name} on {subject.model_name}, {subject.data_name}",
        sampler=arguments.sampler,
        settings=(
            ("space", arguments.space),
            ("model", subject.model_name),
            ("data", subject.data_name),
            ("split", subject.dataset.split),
            ("seed", str(subject.seed)),
            ("limits", str(selection.result.limits) or "none"),
            (
                "accuracy of a trial",
                "float less the drop from the widest bits finetuned alike, or from float where better",
            ),
            ("trials", str(len(selection.result.trials))),
            ("workers", str(arguments.workers)),
        ),
    )
    recipe = None if selection.chosen is None else best_recipe(selection, evaluation.space)
    if recipe is not None:
        write_atomically(folder / RECIPE, recipe.text)
    study = report(applied=None)
    write_study(folder, study)
    if recipe is None:
        return Written(study)
    trained = _Trained(folder, recipe, subject, quiet=arguments.quiet)
    interrupted = False
    try:
        trained.apply()
        if not selection.result.interrupted:
            trained.compare()
    except KeyboardInterrupt:
        interrupted = True
    if trained.applied is not None:
        study = report(applied=trained.applied, comparisons=trained.comparisons)
        write_study(folder, study)
    return Written(study, (RECIPE, *trained.files), interrupted)


class _Trained:
    """What a chosen recipe is on the model, step by step: applied, packed, and beside uniform recipes."""

    def __init__(self, folder: Path, recipe: LoadedRecipe, subject: Subject, *, quiet: bool) -> None:
        self.applied: Applied | None = None
        self.comparisons: list[Applied] = []
        self.files: list[str] = []
        self._folder = folder
        self._recipe = recipe
        self._subject = subject
        self._quiet = quiet

    def apply(self) -> None:
        """Apply the recipe and write its packed checkpoint."""
        from sgq.pipeline.checkpoint import save

        self.applied = applied = self._quantized(self._recipe)
        save(
            self._folder / CHECKPOINT,
            applied.model,
            applied.plan,
            recipe_text=self._recipe.text,
            metadata=self._subject.metadata
            | {
                "recipe": applied.plan.recipe,
                "val_accuracy": str(applied.accuracy.val),
                "test_accuracy": str(applied.accuracy.test),
            },
        )
        self.files.append(CHECKPOINT)

    def compare(self) -> None:
        """Apply the uniform recipes."""
        from sgq.recipe import load_recipe

        for name in COMPARED:
            try:
                self.comparisons.append(self._quantized(load_recipe(name)))
            except SgqError as error:  # a comparison is no reason to lose the result
                note(f"not compared with {name}: {error}")

    def _quantized(self, recipe: LoadedRecipe) -> Applied:
        from sgq.pipeline.applying import apply

        return apply(
            self._subject.model,
            recipe,
            data=self._subject.task,
            training=self._subject.training,
            seed=self._subject.seed,
            quiet=self._quiet,
        )


def print_selection(written: Written, folder: Path, *, as_json: bool) -> None:
    """Print the references and the front, or all of the study as JSON."""
    from sgq.report.table import print_study

    if as_json:
        print_json({"folder": str(folder), **written.study.to_json()})
        return
    out = console()
    print_study(written.study, out)
    names = ", ".join(
        (*written.files, "trials.csv", "pareto.csv", "study.json", "report.html", "TensorBoard")
    )
    out.print(f"wrote {folder}: {names}")
