"""Tables for the terminal (rich) and for READMEs (Markdown)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sgq.report.columns import COMPARISON, MEMORY, RUNTIME, SITES, Column, Row, legend

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from sgq.report.rows import MemoryRow, Report, ReportRow, RuntimeRow, SiteRow


UNBOUNDED = 10_000


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


def print_report(report: Report, console: Console) -> None:
    """Print the title, the comparison, runtime and sites where there are any, and the notes."""
    console.print(report.title, style="bold", markup=False, highlight=False)
    print_comparison(report.rows, console)
    if report.runtime:
        console.print()
        print_runtime(report.runtime, console)
    if report.sites:
        console.print()
        print_sites(report.sites, console)
    for note in report.notes:
        console.print(f"note: {note}", markup=False, highlight=False)


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
