"""A report as one HTML file that needs nothing beside itself: no script, no font, no link."""

from __future__ import annotations

from pathlib import Path

from sgq.report.columns import COMPARISON, RUNTIME, SITES
from sgq.report.files import write_atomically
from sgq.report.page import notes, page, picture, settings, table
from sgq.report.picture import picture_svg
from sgq.report.rows import Report


def write_html(report: Report, path: str | Path) -> None:
    """Write the page to `path`, whole or not at all; raise UsageError when the folder is not writable."""
    write_atomically(path, render_html(report))


def render_html(report: Report) -> str:
    """Return the page: title, picture, comparison, runtime, sites, settings and notes, all text escaped."""
    return page(
        report.title,
        [
            *picture(picture_svg(report.rows)),
            *table("Models", COMPARISON, report.rows),
            *table("Runtime", RUNTIME, report.runtime),
            *table("Sites", SITES, report.sites),
            *settings(report.settings),
            *notes(report.notes),
        ],
    )
