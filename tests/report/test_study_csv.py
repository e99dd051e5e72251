from __future__ import annotations

import csv
import io
from dataclasses import replace

from sgq.report import StudyReport
from sgq.report.study_csv import FIELDS, pareto_csv, trials_csv


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_every_trial_is_a_line_with_a_column_an_axis(study: StudyReport) -> None:
    lines = read(trials_csv(study))
    assert tuple(lines[0]) == (*FIELDS, "convs.0:message[0]", "convs.0:weight", "quantizer")
    assert [line["number"] for line in lines] == ["0", "1", "2", "3", "4", "5"]
    assert [line["convs.0:message[0]"] for line in lines] == ["8", "7", "6", "5", "4", "3"]
    assert {line["quantizer"] for line in lines} == {"a<b>"}


def test_figures_come_back_exactly_and_absent_ones_as_empty_cells(study: StudyReport) -> None:
    lines = read(trials_csv(study))
    for line, trial in zip(lines, study.trials, strict=True):
        assert float(line["packed_bytes"]) == trial.packed_bytes
        assert float(line["budget"]) == trial.budget
    assert (lines[5]["accuracy_val"], lines[5]["seconds"]) == ("", "")
    assert (lines[5]["reason"], lines[5]["state"], lines[5]["holds"]) == ('loss, "nan"', "failed", "False")


def test_only_the_front_is_in_pareto_csv_smallest_first(study: StudyReport) -> None:
    assert [line["number"] for line in read(pareto_csv(study))] == ["2", "3", "0"]


def test_a_trial_without_an_axis_has_an_empty_cell(study: StudyReport) -> None:
    shorter = replace(study.trials[1], assignment=(("convs.0:weight", 4),))
    lines = read(trials_csv(replace(study, trials=(study.trials[0], shorter))))
    assert (lines[1]["convs.0:weight"], lines[1]["quantizer"]) == ("4", "")


def test_a_study_without_trials_has_only_the_heading() -> None:
    assert trials_csv(StudyReport(title="none")) == ",".join(FIELDS) + "\n"
