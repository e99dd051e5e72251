"""What the HTML pages share: skeleton and style, tables, settings and notes; all text is escaped.

A page needs nothing beside itself: no script, no font, no link.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from sgq.report.columns import Column, Row, legend

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
.scroll tr { background: var(--paper); }
.scroll tr > :first-child { position: sticky; left: 0; background: inherit; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .5rem; text-align: left; border-bottom: 1px solid var(--line); }
th { vertical-align: bottom; font-weight: 600; }
thead th { border-bottom-width: 2px; }
table tbody tr:nth-child(even) { background: var(--band); }
.number { text-align: right; }
.turned { writing-mode: vertical-rl; transform: rotate(180deg); }
p.legend { margin: .4rem 0 0; color: var(--faint); font-size: .8125rem; }
"""


def page(title: str, parts: Sequence[str]) -> str:
    """Return a whole page: the title as its heading, then the parts, which are HTML already."""
    heading = escape(title)
    return "\n".join(
        [
            "<!DOCTYPE html>",
            f'<html lang="en"><head><meta charset="utf-8"><title>{heading}</title>',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<style>{STYLE}</style></head><body>",
            f"<h1>{heading}</h1>",
            *parts,
            "</body></html>\n",
        ]
    )


def picture(svg: str, *, heading: str = "") -> list[str]:
    """Return a picture, headed where a heading is given."""
    return [*([_heading(heading)] if heading else []), f"<figure>{svg}</figure>"]


def table(heading: str, columns: Sequence[Column[Row]], rows: Sequence[Row]) -> list[str]:
    """Return a headed table that says which columns are simulated, modelled, measured; none for no rows."""
    if not rows:
        return []
    head = "".join(f"<th{_class(column)}>{_head(column)}</th>" for column in columns)
    body = "".join(
        "<tr>"
        + "".join(f"<td{_class(column)}>{escape(column.text(row))}</td>" for column in columns)
        + "</tr>\n"
        for row in rows
    )
    whole = f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>"
    remark = f'<p class="legend">{escape(legend(columns))}</p>'
    return [_heading(heading), f'<div class="scroll">{whole}</div>{remark}']


def settings(pairs: Sequence[tuple[str, str]], *, heading: str = "Settings") -> list[str]:
    """Return a headed table of names and values; none for no pairs."""
    if not pairs:
        return []
    rows = (f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>' for name, value in pairs)
    return [_heading(heading), f"<table><tbody>{''.join(rows)}</tbody></table>"]


def notes(texts: Sequence[str]) -> list[str]:
    """Return a headed list of remarks; none for no remarks."""
    if not texts:
        return []
    return [_heading("Notes"), f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in texts)}</ul>"]


def _heading(text: str) -> str:
    return f"<h2>{escape(text)}</h2>"


def _head(column: Column[Row]) -> str:
    text = escape(column.heading)
    return f'<span class="turned">{text}</span>' if column.turned else text


def _class(column: Column[Row]) -> str:
    return ' class="number"' if column.numeric else ""
