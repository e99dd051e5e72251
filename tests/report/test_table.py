from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from sgq.report import Report, RuntimeRow
from sgq.report.columns import COMPARISON
from sgq.report.table import markdown_table, print_comparison, print_report


def printed(report: Report, *, width: int) -> str:
    stream = io.StringIO()
    print_report(report, Console(file=stream, width=width))
    return stream.getvalue()


def test_a_wide_terminal_shows_every_figure_of_a_row(report: Report) -> None:
    line = next(line for line in printed(report, width=140).splitlines() if line.startswith("float"))
    shown = ["80.0", "81.5 ± 0.6", "32.00", "32.00", "32.00", "4.00 KiB", "2.00 KiB", "1.0x", "0.2x"]
    assert line.split("  ", 1)[0] == "float"
    assert [cell.strip() for cell in line.split("  ") if cell.strip()][1:] == shown


def test_a_terminal_of_80_columns_keeps_accuracy_bits_bytes_and_ratios_on_one_line(report: Report) -> None:
    line = next(line for line in printed(report, width=80).splitlines() if line.startswith("int8"))
    for text in ("81.0", "8.00", "1.00 KiB", "4.0x", "1.0x"):
        assert text in line


def test_a_narrow_terminal_names_the_columns_that_it_leaves_out(report: Report) -> None:
    stream = io.StringIO()
    print_comparison(report.rows, Console(file=stream, width=72))
    text = " ".join(stream.getvalue().split())
    assert "left out for want of width: file, val %" in text
    assert "512 B" in text, "packed bytes stay"


def test_no_column_is_left_out_where_there_is_room(report: Report) -> None:
    assert "left out" not in printed(report, width=140)


def test_names_in_square_brackets_are_printed_as_they_are(report: Report) -> None:
    titled = Report("run [bold]x[/bold]", report.rows, report.sites, (), ("see [red]this[/red]",))
    text = printed(titled, width=140)
    assert "run [bold]x[/bold]" in text
    assert "note: see [red]this[/red]" in text


def test_a_site_line_shows_shape_quantizer_clipping_and_origin(report: Report) -> None:
    text = printed(report, width=140)
    line = next(line for line in text.splitlines() if line.startswith("conv:input"))
    for cell in ("node", "8×16", "8/4 bucket", "96 B", "1.25", "recipe.yaml:4"):
        assert cell in line


def test_a_markdown_table_aligns_numbers_right_and_escapes_bars(report: Report) -> None:
    lines = markdown_table(COMPARISON, report.rows).splitlines()
    assert len(lines) == 2 + len(report.rows)
    assert len({len(line) for line in lines}) == 1, "columns line up"
    rule = [cell.strip() for cell in lines[1].strip("|").split("|")]
    assert not rule[0].endswith(":")
    assert all(cell.endswith("-:") for cell in rule[1:])
    assert "a\\|b" in markdown_table(
        COMPARISON[:1], [type(report.rows[0])(**{**vars(report.rows[0]), "name": "a|b"})]
    )


def test_measured_rows_are_printed_below_the_comparison(
    report: Report, runtime: tuple[RuntimeRow, ...]
) -> None:
    text = printed(replace(report, runtime=runtime), width=140)
    line = next(line for line in text.splitlines() if line.startswith("integer"))
    assert line.split() == [
        *("integer", "2.00", "1.50–5.00", "1.00"),
        *("2.00", "KiB", "512", "B", "1.00", "KiB"),
        *("9", "2", "cpu"),
    ]
