from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sgq.errors import UsageError
from sgq.report import StudyReport
from sgq.report.studies import is_study, read_study, write_study


def test_a_written_study_is_read_back(study: StudyReport, tmp_path: Path) -> None:
    write_study(tmp_path / "study", study)
    names = {path.name for path in (tmp_path / "study").iterdir() if "tfevents" not in path.name}
    assert names == {"trials.csv", "pareto.csv", "study.json", "report.html"}
    for path in (tmp_path / "study", tmp_path / "study" / "study.json"):
        assert is_study(path)
        assert read_study(path) == study


def test_earlier_results_stay_where_a_file_cannot_be_written(study: StudyReport, tmp_path: Path) -> None:
    write_study(tmp_path, study)
    (tmp_path / "report.html").unlink()
    (tmp_path / "report.html").mkdir()
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    with pytest.raises(UsageError, match=r"report\.html can be written \(got .*directory"):
        write_study(tmp_path, replace(study, title="later"))
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_what_is_no_study_is_refused(tmp_path: Path) -> None:
    assert not is_study(tmp_path)
    with pytest.raises(UsageError, match=r"expected a study with study\.json in it"):
        read_study(tmp_path)
    (tmp_path / "study.json").write_text('{"title": "t"}')
    with pytest.raises(UsageError, match=r"expected a report that sgq wrote \(got .*study\.json"):
        read_study(tmp_path)
