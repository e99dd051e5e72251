from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sgq.errors import UsageError
from sgq.report import Report, RuntimeRow
from sgq.report.html import render_html, write_html
from tests.report.parsed_page import Page


def test_the_page_is_well_formed_and_holds_one_picture(report: Report) -> None:
    text = render_html(report)
    page = Page(text)
    assert page.open == []
    assert text.count("<svg ") == 1


def test_the_page_loads_nothing_from_elsewhere(report: Report) -> None:
    page = Page(render_html(report))
    assert not page.tags & {"script", "link", "img", "iframe", "object"}
    references = [value for name, value in page.attributes if name in ("src", "href", "xlink:href")]
    assert references
    assert all(value is not None and value.startswith("#") for value in references)


def test_text_from_outside_is_escaped(report: Report) -> None:
    text = render_html(report)
    assert "<script>alert" not in text
    assert "<i>bold" not in text
    assert ("td", "<script>alert(1)</script>", False) in Page(text).cells
    assert ("td", "mixed <b>&</b>", False) in Page(text).cells


def test_numbers_are_right_aligned_and_names_are_not(report: Report) -> None:
    cells = Page(render_html(report)).cells
    assert ("td", "81.5 ± 0.6", True) in cells
    assert ("td", "4.00 KiB", True) in cells
    assert ("td", "float", False) in cells


def test_every_site_setting_and_note_is_on_the_page(report: Report) -> None:
    page = Page(render_html(report))
    for text in ("conv:input", "8/4 bucket", "recipe.yaml:7", "gcn", "attention is hidden in message"):
        assert text in page.texts


def test_a_page_is_written_whole_or_refused(report: Report, tmp_path: Path) -> None:
    write_html(report, tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == render_html(report)
    with pytest.raises(UsageError, match=r"report\.html"):
        write_html(report, tmp_path / "report.html" / "report.html")


def test_measured_rows_have_a_table_of_their_own(report: Report, runtime: tuple[RuntimeRow, ...]) -> None:
    assert "<h2>Runtime</h2>" not in render_html(report)
    page = Page(render_html(replace(report, runtime=runtime)))
    assert ("td", "fp32 <csr>", False) in page.cells
    for text in ("8.00", "6.00–20.0", "4.00", "8.00 KiB", "2.00 KiB", "4.00 KiB"):
        assert ("td", text, True) in page.cells
