"""How a study becomes text: the columns of its references and its front, and its facts in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sgq.report.columns import ABSENT, Column, byte_text, percent_text, ratio_text
from sgq.report.study_rows import ReferenceRow, StudyReport, TrialRow


def compared_rows(study: StudyReport) -> tuple[ReferenceRow, ...]:
    """Return the references, then the best trial as one of them."""
    best = study.best_row
    return study.references if best is None else (*study.references, best)


def reference_columns(rows: Sequence[ReferenceRow]) -> tuple[Column[ReferenceRow], ...]:
    """Return the columns of references; they are held against float where it is among them."""
    columns: tuple[Column[ReferenceRow], ...] = (
        Column("model", lambda row: row.name, numeric=False),
        Column("val %", lambda row: percent_text(row.accuracy_val), "simulated"),
        Column("test %", lambda row: percent_text(row.accuracy_test), "simulated"),
        Column("packed", lambda row: byte_text(row.packed_bytes), "modelled"),
    )
    whole = next((row.packed_bytes for row in rows if row.family == "float"), None)
    if whole is None:
        return columns

    def ratio(row: ReferenceRow) -> str:
        return ratio_text(whole / row.packed_bytes) if row.packed_bytes else ABSENT

    return (*columns, Column("vs float", ratio, "modelled"))


FRONT: tuple[Column[TrialRow], ...] = (
    Column("trial", lambda trial: str(trial.number)),
    Column("val %", lambda trial: percent_text(trial.accuracy_val), "simulated"),
    Column("packed", lambda trial: byte_text(trial.packed_bytes), "modelled"),
)
"""The columns of a trial whatever its axes."""

FRONT_IN_SHORT: tuple[Column[TrialRow], ...] = (
    *FRONT,
    Column("axes×choice", lambda trial: choices_text(trial), numeric=False),
)
"""The columns of a trial where there is no room for one an axis."""


def front_columns(axes: Sequence[str]) -> tuple[Column[TrialRow], ...]:
    """Return the columns of a trial, one an axis; their headings are turned."""
    return (*FRONT, *(_axis_column(axis) for axis in axes))


def _axis_column(axis: str) -> Column[TrialRow]:
    def text(trial: TrialRow) -> str:
        return str(dict(trial.assignment).get(axis, ABSENT))

    return Column(axis, text, turned=True)


def choices_text(trial: TrialRow) -> str:
    """Return how many axes have which choice, widest bits first: `2×8 5×4 13×2`."""
    counts = Counter(choice for _, choice in trial.assignment)
    choices = sorted(counts, key=lambda choice: -choice if isinstance(choice, int) else 0)
    return " ".join(f"{counts[choice]}×{choice}" for choice in choices) or ABSENT


def study_facts(study: StudyReport) -> tuple[tuple[str, str], ...]:
    """Return what was searched and how, in words: trials by state, sampler, axes, limits, hypervolume."""
    states = ", ".join(f"{count} {state}" for state, count in study.trial_counts.items() if count)
    facts = [
        ("trials", f"{len(study.trials)}{f' ({states})' if states else ''}"),
        ("sampler", study.sampler),
        ("axes", str(len(study.axes))),
    ]
    if study.limit_accuracy is not None:
        facts.append(("least validation accuracy", f"{percent_text(study.limit_accuracy)} % (simulated)"))
    if study.limit_bytes is not None:
        facts.append(("most packed bytes", f"{byte_text(study.limit_bytes)} (modelled)"))
    if study.limit_accuracy is not None or study.limit_bytes is not None:
        inside = sum(trial.state == "finished" and trial.holds for trial in study.trials)
        facts.append(("finished inside the limits", str(inside)))
    return tuple((name, value) for name, value in facts if value)
