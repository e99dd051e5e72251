from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.metadata import PLUGIN_NAME, parse_session_start_info_plugin_data

from sgq.errors import UsageError
from sgq.report import Report, RuntimeRow
from sgq.report.tensorboard import EVENT_FILES, TensorBoardRun


def read(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder))
    events.Reload()
    return events


@pytest.fixture
def run_folder(report: Report, tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    with TensorBoardRun(folder) as run:
        run.epoch(0, loss=1.5, accuracy_val=0.5)
        run.epoch(1, loss=1.0, accuracy_val=0.75)
        run.bits({"convs.0:input": 4.5, "convs.0:weight": 4.0})
        run.clipping("convs.0:input", torch.tensor([-3.0, 0.0, 1.0, 9.0]), lower=-1.0, upper=2.0)
        run.picture(report.rows)
        run.result(report.rows[2], settings={"model": "gcn", "seed": 3})
    return folder


def test_a_job_is_one_folder_with_one_event_file(run_folder: Path) -> None:
    assert [path.is_file() for path in run_folder.iterdir()] == [True]
    assert len(list(run_folder.glob(EVENT_FILES))) == 1


def test_the_scalar_tags_are_the_documented_ones(run_folder: Path) -> None:
    assert set(read(run_folder).Tags()["scalars"]) == {
        "train/loss",
        "val/accuracy",
        "test/accuracy",
        "memory/packed_bytes",
        "memory/ratio",
        "bits/convs.0:input",
        "bits/convs.0:weight",
        "clip/convs.0:input/lower",
        "clip/convs.0:input/upper",
    }


def test_curves_and_results_hold_their_values(run_folder: Path) -> None:
    events = read(run_folder)
    assert [(event.step, event.value) for event in events.Scalars("train/loss")] == [(0, 1.5), (1, 1.0)]
    accuracies = [(event.step, event.value) for event in events.Scalars("val/accuracy")]
    assert accuracies == [(0, 0.5), (1, 0.75), (2, pytest.approx(0.78))]
    assert events.Scalars("memory/packed_bytes")[0].value == 512.0
    assert events.Scalars("memory/ratio")[0].value == 8.0
    assert events.Scalars("bits/convs.0:input")[0].value == 4.5


def test_the_histogram_of_a_site_comes_with_its_clip_limits(run_folder: Path) -> None:
    events = read(run_folder)
    histogram = events.Histograms("values/convs.0:input")[0].histogram_value
    assert (histogram.num, histogram.min, histogram.max) == (4, -3.0, 9.0)
    assert events.Scalars("clip/convs.0:input/lower")[0].value == -1.0
    assert events.Scalars("clip/convs.0:input/upper")[0].value == 2.0


def test_the_picture_is_an_image_of_the_run(run_folder: Path) -> None:
    image = read(run_folder).Images("accuracy_against_memory")[0]
    assert (image.width, image.height) == (900, 560)


def test_there_is_exactly_one_hparams_entry_and_it_holds_the_settings(run_folder: Path) -> None:
    content = read(run_folder).PluginTagToContent(PLUGIN_NAME)
    starts = [tag for tag in content if "session_start" in tag]
    assert len(starts) == 1
    settings = parse_session_start_info_plugin_data(content[starts[0]]).hparams
    assert settings["model"].string_value == "gcn"
    assert settings["seed"].number_value == 3.0


def test_a_second_job_replaces_the_first_ones_curves(run_folder: Path) -> None:
    with TensorBoardRun(run_folder) as run:
        run.epoch(0, loss=9.0)
    assert len(list(run_folder.glob(EVENT_FILES))) == 1
    assert [event.value for event in read(run_folder).Scalars("train/loss")] == [9.0]


def test_a_job_that_fails_leaves_the_earlier_run_as_it_was(run_folder: Path) -> None:
    before = {path: path.read_bytes() for path in run_folder.iterdir()}
    with pytest.raises(ValueError, match="could not convert"), TensorBoardRun(run_folder) as run:
        run.epoch(0, loss="not a number")  # type: ignore[arg-type]
    assert {path: path.read_bytes() for path in run_folder.iterdir()} == before


def test_a_job_without_training_still_has_its_validation_accuracy(report: Report, tmp_path: Path) -> None:
    with TensorBoardRun(tmp_path) as run:
        run.result(report.rows[1], settings={"model": "gcn"})
    assert [event.step for event in read(tmp_path).Scalars("val/accuracy")] == [0]


def test_an_unwritable_run_folder_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "occupied").write_text("a file")
    with pytest.raises(UsageError, match="occupied"), TensorBoardRun(tmp_path / "occupied" / "run"):
        pass


def test_measured_rows_have_tags_of_their_own(runtime: tuple[RuntimeRow, ...], tmp_path: Path) -> None:
    with TensorBoardRun(tmp_path) as run:
        run.runtime(runtime)
    events = read(tmp_path)
    assert events.Scalars("runtime/integer/median_s")[0].value == pytest.approx(0.002)
    assert events.Scalars("runtime/integer/peak_bytes")[0].value == 2048.0
    assert events.Scalars("runtime/fp32_<csr>/file_bytes")[0].value == 4096.0
