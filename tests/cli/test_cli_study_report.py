from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sgq.report import ReferenceRow, StudyReport, TrialRow
from sgq.report.studies import write_study

Sgq = Callable[..., Any]


@pytest.fixture
def study(tmp_path: Path) -> StudyReport:
    """A study of two trials, written to the folder study."""
    trials = tuple(
        TrialRow(
            number=number,
            state="finished",
            packed_bytes=512.0 * (number + 1),
            accuracy_val=0.75 + 0.05 * number,
            assignment=(("convs.0:message[0]", 4 + number),),
            on_front=True,
        )
        for number in range(2)
    )
    whole = ReferenceRow(
        name="float", packed_bytes=4096.0, accuracy_val=0.8, accuracy_test=0.81, family="float"
    )
    study = StudyReport(title="bits of a ring", trials=trials, references=(whole,), best=0)
    write_study(tmp_path / "study", study)
    return study


@pytest.mark.parametrize("path", ["study", "study/study.json"])
def test_report_makes_the_page_of_a_study_and_prints_its_front(
    sgq: Sgq, study: StudyReport, path: str
) -> None:
    outcome = sgq("report", path, "-o", "page.html")
    assert outcome.code == 0
    assert "best: trial 0" in outcome.out
    assert "trials: 2, on the front: 2" in outcome.out
    assert outcome.out.endswith("wrote page.html\n")
    assert Path("page.html").read_text() == Path("study/report.html").read_text()


def test_report_prints_a_study_as_json(sgq: Sgq, study: StudyReport) -> None:
    outcome = sgq("report", "study", "--json")
    assert StudyReport.from_json(json.loads(outcome.out)) == study


def test_a_study_does_not_go_on_one_page_with_runs(sgq: Sgq, study: StudyReport) -> None:
    outcome = sgq("report", "run", "study", "-o", "page.html")
    assert outcome.code == 2
    assert outcome.error == "expected one study alone, or runs (got 2 paths with study study)"
    assert not Path("page.html").exists()


def test_the_help_says_what_a_page_is_of(sgq: Sgq) -> None:
    assert "one study alone" in " ".join(sgq("report", "--help").out.split())
