from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest
from PIL import Image

from sgq.report import StudyReport
from sgq.report.study_curve import curve_svg
from sgq.report.study_picture import study_png, study_svg


def texts(svg: str) -> list[str]:
    """What is written in a picture."""
    ElementTree.fromstring(svg)
    return re.findall(r"<!-- (.*?) -->", svg)


def test_references_best_limit_and_legend_are_written(study: StudyReport) -> None:
    written = texts(study_svg(replace(study, limit_bytes=1536.0)))
    for text in ("float", "int8 &lt;u&gt;", "best: trial 3", "limit", "79.8 %", "limit 1.50 KiB"):
        assert text in written
    for text in ("finished trial", "stopped early (smaller budget)", "front"):
        assert text in written
    assert "validation accuracy, % (simulated)" in written
    assert "packed bytes (modelled, log scale)" in written


def test_collapsed_trials_are_counted_and_do_not_squash_the_others(study: StudyReport) -> None:
    written = texts(study_svg(study))
    assert "↓ 1 trial below" in written
    ticks = [float(text) for text in written if re.fullmatch(r"\d+(\.\d+)?", text)]
    assert min(ticks) > 70


def test_a_reference_or_limit_that_is_too_low_is_named(study: StudyReport) -> None:
    low = replace(study.references[1], name="int2", accuracy_val=0.42)
    written = texts(study_svg(replace(study, references=(study.references[0], low), limit_accuracy=0.5)))
    assert "↓ 1 trial, int2 (42.0 %), limit (50.0 %) below" in written
    assert "int2" not in written


def test_the_best_trial_stays_in_sight_far_under_a_reference(study: StudyReport) -> None:
    above = replace(study.references[0], accuracy_val=0.99)
    written = texts(study_svg(replace(study, references=(above,))))
    assert "best: trial 3" in written


def test_the_front_is_read_to_the_right(study: StudyReport) -> None:
    """At 600 bytes the line climbs from the accuracy of 512 bytes to that of 600, and ends level."""
    front = study_svg(study).partition("#1f9d55")[0].rpartition('d="')[2]
    points = [tuple(map(float, pair)) for pair in re.findall(r"[ML] ([\d.]+) ([\d.]+)", front)]
    across, along = zip(*points, strict=True)
    assert len(points) == 6
    assert [across[0] < across[1], across[1] == across[2], across[3] == across[4]] == [True, True, True]
    assert [along[0] == along[1], along[2] == along[3], along[4] == along[5]] == [True, True, True]


@pytest.mark.parametrize("left", ["none", "failed", "without accuracy"])
def test_a_study_without_an_evaluated_trial_says_so(study: StudyReport, left: str) -> None:
    trials = {
        "none": (),
        "failed": tuple(replace(trial, state="failed") for trial in study.trials),
        "without accuracy": tuple(replace(trial, accuracy_val=None) for trial in study.trials),
    }[left]
    empty = replace(study, trials=trials, references=(), hypervolume=())
    assert "no evaluated trial" in texts(study_svg(empty))
    assert "no hypervolume" in texts(curve_svg(empty))
    referred = texts(study_svg(replace(empty, references=study.references)))
    assert "float" in referred


def test_a_lone_trial_is_drawn(study: StudyReport) -> None:
    lone = replace(study, trials=study.trials[3:4], references=(), hypervolume=((1, 0.5),))
    assert "best: trial 3" in texts(study_svg(lone))
    assert "evaluations" in texts(curve_svg(lone))


def test_a_thousand_trials_make_a_png_of_900_by_560_pixels(study: StudyReport) -> None:
    trials = tuple(
        replace(study.trials[3], number=number, packed_bytes=400.0 + number, on_front=False)
        for number in range(1000)
    )
    with Image.open(io.BytesIO(study_png(replace(study, trials=trials)))) as image:
        assert image.size == (900, 560)


def test_the_curves_name_both_figures(study: StudyReport) -> None:
    written = texts(curve_svg(study))
    assert "hypervolume of the front" in written
    assert "packed bytes of the best so far (modelled)" in written
    assert "1 KiB" in written
