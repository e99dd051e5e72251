from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from sgq.report import Report, RuntimeRow
from sgq.report.runs import combined, read_report


def test_measured_rows_come_back_from_a_file_and_older_files_have_none(
    report: Report, runtime: tuple[RuntimeRow, ...], tmp_path: Path
) -> None:
    measured = replace(report, runtime=runtime)
    (tmp_path / "report.json").write_text(json.dumps(measured.to_json()))
    assert read_report(tmp_path) == measured
    older = {key: value for key, value in report.to_json().items() if key != "runtime"}
    (tmp_path / "report.json").write_text(json.dumps(older))
    assert read_report(tmp_path) == report


def test_measured_rows_of_several_runs_are_told_apart_by_the_run(
    report: Report, runtime: tuple[RuntimeRow, ...]
) -> None:
    measured = replace(report, runtime=runtime)
    both = combined([("a", measured), ("b", measured)])
    assert [row.name for row in both.runtime] == [
        "fp32 <csr> (a)",
        "integer (a)",
        "fp32 <csr> (b)",
        "integer (b)",
    ]
    assert combined([("a", measured), ("b", report)]).runtime == runtime
