"""A selection as a report: rows of its trials and of references, and a recipe that stands alone."""

from __future__ import annotations

from collections.abc import Sequence

from sgq.bits.planned_space import PlannedSpace
from sgq.bits.searching import hypervolumes
from sgq.bits.selection import Selection
from sgq.errors import SearchError
from sgq.pipeline.applying import Applied
from sgq.pipeline.reporting import float_row, recipe_row
from sgq.recipe import LoadedRecipe
from sgq.recipe.filling import filled
from sgq.report.rows import ReportRow
from sgq.report.study_rows import ReferenceRow, StudyReport, TrialRow

REFUTED = (
    "none of {} trials believed inside the limit held it less its error when measured again; "
    "the nearest one was taken"
)


def best_recipe(selection: Selection, space: PlannedSpace, *, name: str | None = None) -> LoadedRecipe:
    """Return the plain recipe of the chosen trial; raise SearchError where there is none."""
    trial = selection.chosen
    if trial is None:
        raise SearchError(f"no assignment was chosen: {selection.result.remark}")
    source = space.recipe.recipe
    accuracy, times = trial.accuracy, ""
    if selection.again is not None:
        accuracy, times = selection.again.accuracy, f", mean of {len(selection.again.accuracies)}"
    return filled(
        space.recipe,
        trial.assignment,
        name=name or f"{source.name}-best",
        about=source.about.replace(", to be searched", ", as a search found them"),
        comments=(
            f"Found in {space.recipe.file} by sgq bits in {len(selection.result.trials)} trials.",
            f"Validation accuracy {accuracy:.1%}{times}, float less a drop from the widest bits, simulated.",
            f"{trial.memory:,.0f} bytes, modelled.",
        ),
    )


def study_report(
    selection: Selection,
    space: PlannedSpace,
    *,
    title: str,
    applied: Applied | None,
    comparisons: Sequence[Applied] = (),
    sampler: str,
    settings: Sequence[tuple[str, str]] = (),
) -> StudyReport:
    """Return the report of a selection; `applied` is its recipe on the model, `comparisons` are others."""
    result = selection.result
    front = {trial.number for trial in result.front}
    again = {item.trial.number: item for item in selection.confirmations}
    rows = tuple(
        TrialRow(
            number=trial.number,
            state=trial.state,
            packed_bytes=trial.memory,
            accuracy_val=trial.accuracy,
            accuracy_error=trial.error,
            accuracy_margin=trial.taken_off,
            assignment=tuple(trial.assignment.items()),
            budget=trial.budget,
            seconds=trial.seconds,
            reason=trial.reason,
            on_front=trial.number in front,
            holds=result.holds(trial),
            accuracy_val_again=again[trial.number].accuracy if trial.number in again else None,
            repeats=len(again[trial.number].accuracies) if trial.number in again else 0,
        )
        for trial in result.trials
    )
    references: list[ReportRow] = []
    if applied is not None:
        references = [float_row(applied), *(recipe_row(other) for other in comparisons), recipe_row(applied)]
    return StudyReport(
        title=title,
        trials=rows,
        references=tuple(_reference(row) for row in references),
        limit_accuracy=selection.least_accuracy,
        limit_bytes=result.limits.memory,
        best=None if selection.chosen is None else selection.chosen.number,
        hypervolume=hypervolumes(result, space.memory.of_codes),
        sampler=sampler,
        settings=tuple(settings),
        notes=remarks(selection),
    )


def remarks(selection: Selection) -> tuple[str, ...]:
    """Return what a reader has to know of the choice: the limit, the repeats, what failed."""
    result = selection.result
    notes = [result.remark] if result.remark else []
    if result.interrupted:
        notes.append("the search was interrupted")
    if selection.confirmed is not None:
        repeats = selection.confirmed.accuracies
        notes.append(
            f"trial {selection.confirmed.trial.number} was measured {len(repeats)} times again: validation "
            f"accuracy {selection.confirmed.accuracy:.1%} on average"
        )
        smaller = [
            item for item in selection.confirmations if item.trial.memory < selection.confirmed.trial.memory
        ]
        if smaller:
            notes.append(f"{len(smaller)} smaller ones, measured again, did not hold it less their error")
    elif selection.refuted:
        notes.append(REFUTED.format(len(selection.confirmations)))
    notes += [
        f"trial {item.trial.number} could not be measured again: {item.reason}" for item in selection.left_out
    ]
    failed = [trial for trial in result.trials if trial.state == "failed"]
    notes += [f"trial {trial.number} failed: {trial.reason}" for trial in failed]
    return tuple(notes)


def _reference(row: ReportRow) -> ReferenceRow:
    return ReferenceRow(
        name=row.name,
        packed_bytes=row.packed_bytes,
        accuracy_val=row.accuracy_val,
        accuracy_test=row.accuracy_test,
        family=row.family,
    )
