from __future__ import annotations

import json
from dataclasses import replace

from sgq.report import StudyReport


def test_a_study_survives_the_round_trip_through_json(study: StudyReport) -> None:
    assert StudyReport.from_json(json.loads(json.dumps(study.to_json()))) == study


def test_what_else_is_in_the_file_is_left_to_other_readers(study: StudyReport) -> None:
    assert StudyReport.from_json(study.to_json() | {"seeds": [1, 2]}) == study


def test_the_front_is_sorted_by_memory_and_axes_are_named_once(study: StudyReport) -> None:
    assert [trial.number for trial in study.front] == [2, 3, 0]
    assert study.axes == ("convs.0:message[0]", "convs.0:weight", "quantizer")


def test_the_best_so_far_is_the_smallest_inside_a_limit_on_accuracy(study: StudyReport) -> None:
    shuffled = replace(study, trials=study.trials[::-1])
    for of in (study, shuffled):
        numbers = [(evaluations, trial.number) for evaluations, trial in of.best_so_far]
        assert numbers == [(1, 0), (2, 0), (3, 0), (4, 3), (5, 3), (6, 3)]


def test_without_a_limit_on_accuracy_the_best_so_far_is_the_most_accurate(study: StudyReport) -> None:
    free = replace(study, limit_accuracy=None, limit_bytes=2048.0)
    assert {trial.number for _, trial in free.best_so_far} == {0}


def test_a_number_that_no_trial_has_is_no_best_trial(study: StudyReport) -> None:
    assert study.best_trial == study.trials[3]
    assert replace(study, best=17).best_trial is None
