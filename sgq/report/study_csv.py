"""The trials of a study as CSV: one line a trial, one column an axis, every figure exact."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from sgq.report.study_rows import StudyReport, TrialRow

FIELDS = (
    "number",
    "state",
    "packed_bytes",
    "accuracy_val",
    "accuracy_error",
    "accuracy_margin",
    "accuracy_val_again",
    "repeats",
    "budget",
    "seconds",
    "holds",
    "reason",
)
"""The columns before those of the axes; an absent figure is an empty cell."""


def trials_csv(study: StudyReport) -> str:
    """Return all trials, in the order in which the study has them."""
    return _csv(study.trials, study.axes)


def pareto_csv(study: StudyReport) -> str:
    """Return the trials on the front, smallest first, with the same columns."""
    return _csv(study.front, study.axes)


def _csv(trials: Sequence[TrialRow], axes: Sequence[str]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*FIELDS, *axes])
    for trial in trials:
        choices = dict(trial.assignment)
        writer.writerow([*(getattr(trial, field) for field in FIELDS), *(choices.get(axis) for axis in axes)])
    return stream.getvalue()
