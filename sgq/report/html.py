"""A report as one HTML file that needs nothing beside itself: no script, no font, no link."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from sgq.report.columns import COMPARISON, RUNTIME, SITES, Column, Row, legend
from sgq.report.files import write_atomically
from sgq.report.picture import picture_svg
from sgq.report.rows import Report

STYLE = """
:root { color-scheme: light dark; --ink: #24292f; --paper: #ffffff; --faint: #57606a; --line: #d0d7de;
  --band: #f6f8fa; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --paper: #0d1117; --faint: #9198a1;
  --line: #3d444d; --band: #151b23; } }
body { margin: 0 auto; max-width: 76rem; padding: 2rem 1.25rem 4rem; color: var(--ink);
  background: var(--paper); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.25rem 0 .5rem; }
figure { margin: 1rem 0; }
svg { width: 100%; max-width: 900px; height: auto; display: block; }
.scroll { overflow-x: auto; }
.scroll td, .scroll th { white-space: nowrap; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .5rem; text-align: left; border-bottom: 1px solid var(--line); }
th { vertical-align: bottom; font-weight: 600; }
thead th { border-bottom-width: 2px; }
tbody tr:nth-child(even) { background: var(--band); }
.number { text-align: right; }
p.legend { margin: .4rem 0 0; color: var(--faint); font-size: .8125rem; }
"""


def write_html(report: Report, path: str | Path) -> None:
    """Write the page to `path`, whole or not at all; raise UsageError when the folder is not writable."""
    write_atomically(path, render_html(report))


def render_html(report: Report) -> str:
    """Return the page: title, picture, comparison, runtime, sites, settings and notes, all text escaped."""
    title = escape(report.title)
    parts = [
        "<!DOCTYPE html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>{title}</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<style>{STYLE}</style></head><body>",
        f"<h1>{title}</h1>",
        f"<figure>{picture_svg(report.rows)}</figure>",
        "<h2>Models</h2>",
        _table(COMPARISON, report.rows),
    ]
    if report.runtime:
        parts += ["<h2>Runtime</h2>", _table(RUNTIME, report.runtime)]
    if report.sites:
        parts += ["<h2>Sites</h2>", _table(SITES, report.sites)]
    if report.settings:
        pairs = (
            f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>'
            for name, value in report.settings
        )
        parts += ["<h2>Settings</h2>", f"<table><tbody>{''.join(pairs)}</tbody></table>"]
    if report.notes:
        notes = "".join(f"<li>{escape(note)}</li>" for note in report.notes)
        parts += ["<h2>Notes</h2>", f"<ul>{notes}</ul>"]
    return "\n".join([*parts, "</body></html>"]) + "\n"


def _table(columns: Sequence[Column[Row]], rows: Sequence[Row]) -> str:
    head = "".join(f"<th{_class(column)}>{escape(column.heading)}</th>" for column in columns)
    body = "".join(
        "<tr>"
        + "".join(f"<td{_class(column)}>{escape(column.text(row))}</td>" for column in columns)
        + "</tr>\n"
        for row in rows
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>"
    return f'<div class="scroll">{table}</div><p class="legend">{escape(legend(columns))}</p>'


def _class(column: Column[Row]) -> str:
    return ' class="number"' if column.numeric else ""
