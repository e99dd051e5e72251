from __future__ import annotations

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.metadata import PLUGIN_NAME, parse_session_start_info_plugin_data

from sgq.report import StudyReport
from sgq.report.studies import write_study
from sgq.report.tensorboard import EVENT_FILES


@pytest.fixture(scope="module")
def folder(study: StudyReport, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    write_study(folder, study)
    return folder


def read(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder))
    events.Reload()
    return events


def test_the_tags_are_the_documented_ones(folder: Path) -> None:
    tags = read(folder).Tags()
    assert set(tags["scalars"]) == {
        "trial/accuracy_val",
        "trial/packed_bytes",
        "search/hypervolume",
        "search/best_packed_bytes",
        "bits/convs.0:message[0]",
        "bits/convs.0:weight",
        "val/accuracy",
        "memory/packed_bytes",
    }
    assert tags["images"] == ["accuracy_against_memory"]
    assert len(list(folder.glob(EVENT_FILES))) == 1


def test_steps_are_trial_numbers_and_evaluations(folder: Path) -> None:
    events = read(folder)
    sizes = [(event.step, event.value) for event in events.Scalars("trial/packed_bytes")]
    assert sizes == [(0, 1024.0), (1, 512.5), (2, 512.0), (3, 600.0), (4, 320.0), (5, 256.0)]
    assert [event.step for event in events.Scalars("trial/accuracy_val")] == [0, 1, 2, 3, 4]
    volumes = [(event.step, event.value) for event in events.Scalars("search/hypervolume")]
    assert volumes == [(1, 0.5), (3, 0.625), (4, 0.75)]
    best = [(event.step, event.value) for event in events.Scalars("search/best_packed_bytes")]
    assert best == [(1, 1024.0), (2, 1024.0), (3, 1024.0), (4, 600.0), (5, 600.0), (6, 600.0)]


def test_bits_and_result_are_those_of_the_best_trial(folder: Path) -> None:
    events = read(folder)
    assert events.Scalars("bits/convs.0:message[0]")[0].value == 5.0
    assert events.Scalars("val/accuracy")[0].value == pytest.approx(0.8)
    assert events.Scalars("memory/packed_bytes")[0].value == 600.0


def test_there_is_exactly_one_hparams_entry_and_it_holds_sampler_and_settings(folder: Path) -> None:
    content = read(folder).PluginTagToContent(PLUGIN_NAME)
    starts = [tag for tag in content if "session_start" in tag]
    assert len(starts) == 1
    settings = parse_session_start_info_plugin_data(content[starts[0]]).hparams
    assert settings["sampler"].string_value == "tpe"
    assert settings["data"].string_value == "<script>alert(1)</script>"


def test_a_study_without_trials_has_a_run(tmp_path: Path) -> None:
    write_study(tmp_path, StudyReport(title="none"))
    assert read(tmp_path).Tags()["scalars"] == []
