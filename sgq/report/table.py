"""Tables for the terminal (rich) and for READMEs (Markdown)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sgq.report.columns import COMPARISON, MEMORY, RUNTIME, SITES, Column, Row, legend
from sgq.report.cost_columns import cost_columns
from sgq.report.study_columns import FRONT_IN_SHORT, compared_rows, reference_columns

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from sgq.report.cost_rows import CostReport
    from sgq.report.rows import MemoryRow, Report, ReportRow, RuntimeRow, SiteRow
    from sgq.report.study_rows import StudyReport

UNBOUNDED = 10_000

MOST_OF_FRONT = 12
"""How many trials of a front are printed."""


def print_comparison(rows: Sequence[ReportRow], console: Console) -> None:
    """Print one line a model: accuracy, average bits, bytes and ratios."""
    _print(COMPARISON, rows, console)


def print_sites(sites: Sequence[SiteRow], console: Console) -> None:
    """Print one line a site: its shape, quantizer, bytes, and the recipe line that chose it."""
    _print(SITES, sites, console)


def print_runtime(rows: Sequence[RuntimeRow], console: Console) -> None:
    """Print one line a way to run the model: latency, peak memory, and the size of its file."""
    _print(RUNTIME, rows, console)


def print_memory(rows: Sequence[MemoryRow], console: Console) -> None:
    """Print one line a site: how it is stored and what each part of that weighs."""
    _print(MEMORY, rows, console)


def print_cost(report: CostReport, console: Console) -> None:
    """Print one line a position of an architecture: its work, and its times where there are any."""
    _print_title(report.title, console)
    _print(cost_columns(report.rows), report.rows, console)


def print_report(report: Report, console: Console) -> None:
    """Print the title, the comparison, runtime and sites where there are any, and the notes."""
    _print_title(report.title, console)
    print_comparison(report.rows, console)
    if report.runtime:
        console.print()
        print_runtime(report.runtime, console)
    if report.sites:
        console.print()
        print_sites(report.sites, console)
    _print_notes(report.notes, console)


def print_study(study: StudyReport, console: Console) -> None:
    """Print the references with the best trial, and the front or, of a long one, trials picked evenly."""
    _print_title(study.title, console)
    compared = compared_rows(study)
    if compared:
        _print(reference_columns(compared), compared, console)
        console.print()
    front = _evenly(study.front, MOST_OF_FRONT)
    if front:
        _print(FRONT_IN_SHORT, front, console)
    shown = f" ({len(front)} shown)" if len(front) < len(study.front) else ""
    console.print(f"trials: {len(study.trials)}, on the front: {len(study.front)}{shown}", highlight=False)
    _print_notes(study.notes, console)


def markdown_table(columns: Sequence[Column[Row]], rows: Sequence[Row]) -> str:
    """Return a Markdown table, numbers right-aligned, with a line end after the last row."""
    cells = [[column.heading for column in columns]]
    cells += [[column.text(row).replace("|", "\\|") for column in columns] for row in rows]
    widths = [max(3, *(len(line[place]) for line in cells)) for place in range(len(columns))]

    def line(texts: Sequence[str]) -> str:
        padded = (
            text.rjust(width) if column.numeric else text.ljust(width)
            for text, width, column in zip(texts, widths, columns, strict=True)
        )
        return f"| {' | '.join(padded)} |\n"

    rule = [
        "-" * (width - 1) + (":" if column.numeric else "-")
        for width, column in zip(widths, columns, strict=True)
    ]
    return line(cells[0]) + line(rule) + "".join(line(texts) for texts in cells[1:])


def _print_title(title: str, console: Console) -> None:
    console.print(title, style="bold", markup=False, highlight=False)


def _print_notes(notes: Sequence[str], console: Console) -> None:
    for note in notes:
        console.print(f"note: {note}", markup=False, highlight=False)


def _evenly(rows: Sequence[Row], most: int) -> list[Row]:
    """Return at most `most` rows, the first and the last among them."""
    if len(rows) <= most:
        return list(rows)
    return [rows[round(place * (len(rows) - 1) / (most - 1))] for place in range(most)]


def _print(columns: Sequence[Column[Row]], rows: Sequence[Row], console: Console) -> None:
    """Print the table without the spare columns that the console is too narrow for, and name those."""
    shown = list(columns)
    left_out: list[str] = []
    for column in sorted((column for column in columns if column.spare), key=lambda column: column.spare):
        unbounded = console.options.update(max_width=UNBOUNDED)
        if console.measure(_table(shown, rows), options=unbounded).maximum <= console.width:
            break
        shown.remove(column)
        left_out.append(column.heading)
    console.print(_table(shown, rows))
    remark = legend(shown)
    if left_out:
        remark += f"; left out for want of width: {', '.join(left_out)}"
    console.print(remark, style="dim", markup=False, highlight=False)


def _table(columns: Sequence[Column[Row]], rows: Sequence[Row]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    for column in columns:
        # Two short lines instead of one long heading keep ten columns within 80 characters.
        heading = column.heading.replace(" ", "\n")
        table.add_column(
            heading, justify="right" if column.numeric else "left", vertical="bottom", overflow="fold"
        )
    for row in rows:
        table.add_row(*(Text(column.text(row)) for column in columns))
    return table
