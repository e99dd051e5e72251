from __future__ import annotations

import io
from dataclasses import replace
from itertools import pairwise

from rich.console import Console

from sgq.report import StudyReport
from sgq.report.study_columns import choices_text
from sgq.report.table import MOST_OF_FRONT, print_study


def printed(study: StudyReport) -> list[str]:
    stream = io.StringIO()
    print_study(study, Console(file=stream, width=80))
    return stream.getvalue().splitlines()


def test_references_then_front_then_notes_are_printed(study: StudyReport) -> None:
    lines = printed(study)
    starts = [line.strip().split("  ")[0] for line in lines]
    places = [starts.index(text) for text in ("float", "int8 <u>", "best: trial 3", "2", "3", "0")]
    assert places == sorted(places)
    assert "trials: 6, on the front: 3" in lines
    assert lines[-1] == "note: one & two"


def test_of_a_long_front_twelve_trials_are_picked_from_end_to_end(study: StudyReport) -> None:
    trials = tuple(
        replace(study.trials[0], number=number, packed_bytes=float(number + 1)) for number in range(100)
    )
    lines = printed(replace(study, trials=trials, references=(), best=None))
    words = [line.split() for line in lines if "×" in line and "axes×choice" not in line]
    numbers = [int(line[0]) for line in words]
    assert (len(numbers), numbers[0], numbers[-1]) == (MOST_OF_FRONT, 0, 99)
    assert {later - earlier for earlier, later in pairwise(numbers)} == {9}
    assert f"trials: 100, on the front: 100 ({MOST_OF_FRONT} shown)" in lines


def test_choices_are_counted_widest_first(study: StudyReport) -> None:
    trial = replace(study.trials[0], assignment=(("a", 2), ("b", 8), ("c", "lsq"), ("d", 2)))
    assert choices_text(trial) == "1×8 2×2 1×lsq"


def test_a_study_without_trials_prints_its_title() -> None:
    assert printed(StudyReport(title="none yet")) == ["none yet", "trials: 0, on the front: 0"]
