from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from sgq.report import StudyReport
from sgq.report.study_html import render_study_html, write_study_html
from tests.report.parsed_page import Page


@pytest.fixture(scope="module")
def rendered(study: StudyReport) -> str:
    """The page of the study; drawing it takes most of the time of these tests."""
    return render_study_html(study)


def test_the_page_is_well_formed_with_two_pictures_and_ids_that_occur_once(rendered: str) -> None:
    page = Page(rendered)
    assert page.open == []
    assert rendered.count("<svg ") == 2
    ids = Counter(value for name, value in page.attributes if name == "id")
    assert set(ids.values()) == {1}


def test_the_page_loads_nothing_from_elsewhere_and_escapes_text(rendered: str) -> None:
    page = Page(rendered)
    assert not page.tags & {"script", "link", "img", "iframe", "object", "i", "u", "b"}
    references = [value for name, value in page.attributes if name in ("src", "href", "xlink:href")]
    assert all(value is not None and value.startswith("#") for value in references)
    assert ("td", "<script>alert(1)</script>", False) in page.cells
    assert ("td", "int8 <u>", False) in page.cells


def test_references_and_the_best_trial_are_held_against_float(rendered: str) -> None:
    cells = [text for _, text, _ in Page(rendered).cells]
    place = cells.index("best: trial 3")
    assert cells[place : place + 5] == ["best: trial 3", "80.0", "–", "600 B", "13.7x"]


def test_the_front_has_a_column_an_axis(study: StudyReport, rendered: str) -> None:
    page = Page(rendered)
    for axis in study.axes:
        assert axis in page.texts
    cells = [text for tag, text, _ in page.cells if tag == "td"]
    place = cells.index("2")
    assert cells[place : place + 6] == ["2", "78.0", "512 B", "6", "4", "a<b>"]


def test_facts_settings_and_notes_are_on_the_page(rendered: str) -> None:
    page = Page(rendered)
    for text in ("6 (4 finished, 1 stopped, 1 failed)", "tpe", "79.8 % (simulated)", "one & two"):
        assert text in page.texts


def test_a_study_without_trials_has_a_page_without_tables(tmp_path: Path) -> None:
    write_study_html(StudyReport(title="none"), tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert Page(text).open == []
    assert "<h2>Front</h2>" not in text


def test_sixty_axes_stay_within_a_box_that_scrolls(study: StudyReport) -> None:
    assignment = tuple((f"convs.{place}:message[0]", 4) for place in range(60))
    wide = replace(study, trials=(replace(study.trials[0], assignment=assignment),), best=None)
    text = render_study_html(wide)
    assert text.count('<span class="turned">') == 60
    assert text.partition('<span class="turned">')[0].rpartition('<div class="')[2].startswith("scroll")
