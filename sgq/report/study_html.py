"""A study as one HTML page that needs nothing beside itself."""

from __future__ import annotations

from pathlib import Path

from sgq.report.files import write_atomically
from sgq.report.page import notes, page, picture, settings, table
from sgq.report.study_columns import compared_rows, front_columns, reference_columns, study_facts
from sgq.report.study_curve import curve_svg
from sgq.report.study_picture import study_svg
from sgq.report.study_rows import StudyReport


def write_study_html(study: StudyReport, path: str | Path) -> None:
    """Write the page to `path`, whole or not at all; raise UsageError when the folder is not writable."""
    write_atomically(path, render_study_html(study))


def render_study_html(study: StudyReport) -> str:
    """Return the page: title, picture, references, front, progress, settings and notes, all text escaped."""
    compared = compared_rows(study)
    return page(
        study.title,
        [
            *picture(study_svg(study)),
            *table("References and the best trial", reference_columns(compared), compared),
            *table("Front", front_columns(study.axes), study.front),
            *picture(curve_svg(study), heading="Progress"),
            *settings(study_facts(study), heading="Search"),
            *settings(study.settings),
            *notes(study.notes),
        ],
    )
