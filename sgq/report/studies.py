"""Studies written to a folder and read back from it."""

from __future__ import annotations

import json
from pathlib import Path

from sgq.report.files import write_together
from sgq.report.runs import read_json
from sgq.report.study_csv import pareto_csv, trials_csv
from sgq.report.study_html import render_study_html
from sgq.report.study_rows import StudyReport
from sgq.report.tensorboard import TensorBoardStudy

STUDY_FILE = "study.json"


def write_study(folder: str | Path, study: StudyReport) -> None:
    """Write `trials.csv`, `pareto.csv`, `study.json`, `report.html` and a TensorBoard run to `folder`.

    Earlier results in the folder stay as they were when anything fails. Raises UsageError where the
    folder cannot be written.
    """
    with TensorBoardStudy(folder) as run:
        run.trials(study.trials)
        run.search(study)
        if study.best_trial is not None:
            run.bits(study.best_trial)
        run.picture(study)
        run.result(study)
        write_together(
            folder,
            {
                "trials.csv": trials_csv(study),
                "pareto.csv": pareto_csv(study),
                STUDY_FILE: json.dumps(study.to_json(), indent=1),
                "report.html": render_study_html(study),
            },
        )


def is_study(path: str | Path) -> bool:
    """Return whether a path is the folder of a study, or the study.json in it."""
    path = Path(path)
    return (path / STUDY_FILE).is_file() if path.is_dir() else path.name == STUDY_FILE


def read_study(path: str | Path) -> StudyReport:
    """Return the study of a folder, or of the study.json in it; else raise UsageError."""
    return read_json(path, STUDY_FILE, StudyReport.from_json, kind="study")
