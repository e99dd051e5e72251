"""`sgq bits` searches a space, leaves all results in one folder, and goes on where it was stopped."""

from __future__ import annotations

import json
import os
import re
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sgq.pipeline.checkpoint import read
from sgq.recipe import load_recipe
from sgq.recipe.filling import filled
from sgq.report import StudyReport
from sgq.report.studies import read_study
from tests.bits.tables import wait_for
from tests.cli.searches import AXES, DROP, LIMITED, SPACE, SUBJECT, TRIALS, best_of, contents, table, words_of

ROOT = Path(__file__).resolve().parents[2]
Sgq = Callable[..., Any]


def test_a_search_leaves_all_results_in_one_folder(searched: Path) -> None:
    names = {path.name for path in searched.iterdir()}
    events = {name for name in names if name.startswith("events.out.tfevents.")}
    assert len(events) == 1
    assert names - events - {"study.log.lock"} == {
        "best.recipe.yaml",
        "best.safetensors",
        "memo.jsonl",
        "pareto.csv",
        "report.html",
        "study.json",
        "study.log",
        "trials.csv",
    }
    assert "<svg" in (searched / "report.html").read_text()


def test_the_printed_json_is_the_study(searched: Path) -> None:
    printed = json.loads((searched.parent / "printed.json").read_text())
    assert printed.pop("folder") == str(searched)
    assert StudyReport.from_json(printed) == read_study(searched)


def test_every_trial_is_a_line_and_the_widest_is_the_first(searched: Path) -> None:
    lines = table(searched / "trials.csv")
    chosen = [tuple(int(line[axis]) for axis in AXES) for line in lines]
    assert chosen[0] == (8, 8, 8)
    assert len(chosen) == len(set(chosen)) == TRIALS
    assert {width for widths in chosen for width in widths} <= {1, 2, 4, 8}
    for line in lines:
        assert (float(line["budget"]) < 1.0) == (line["state"] == "stopped")


def test_the_front_has_more_accuracy_for_more_bytes(searched: Path) -> None:
    front, lines = (table(searched / name) for name in ("pareto.csv", "trials.csv"))
    assert front
    assert all(line in lines and line["state"] == "finished" for line in front)
    points = [(float(line["packed_bytes"]), float(line["accuracy_val"])) for line in front]
    assert points == sorted(set(points))
    for line in lines:
        if line["state"] == "finished":
            own = float(line["packed_bytes"]), float(line["accuracy_val"])
            assert any(size <= own[0] and accuracy >= own[1] for size, accuracy in points)


def test_the_best_trial_holds_the_limit_and_is_the_recipe(searched: Path) -> None:
    best, study = best_of(searched), read_study(searched)
    assert [row.name for row in study.references] == ["float", "int8", "int4", "tiny-best"]
    whole = study.references[0]
    assert whole.accuracy_val is not None
    assert study.limit_accuracy == pytest.approx(whole.accuracy_val - DROP)
    assert float(best["accuracy_val"]) >= study.limit_accuracy
    assert float(best["packed_bytes"]) < whole.packed_bytes
    recipe = load_recipe(searched / "best.recipe.yaml")
    space = load_recipe(searched.parent / "space.yaml")
    assert recipe.recipe.rules == filled(space, {axis: int(best[axis]) for axis in AXES}).recipe.rules
    assert recipe.recipe.name == "tiny-best"
    space_file = searched.parent / "space.yaml"
    assert recipe.text.startswith(f"# Found in {space_file} by sgq bits in 6 trials.")


def test_applying_the_best_recipe_gives_the_bytes_and_the_accuracy_of_its_trial(
    sgq: Sgq, subject: Path, searched: Path
) -> None:
    recipe, checkpoint = str(searched / "best.recipe.yaml"), str(subject / "gcn.safetensors")
    assert sgq("check", recipe).code == 0
    outcome = sgq("apply", recipe, *SUBJECT, "--checkpoint", checkpoint, "-o", "run", "--quiet", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    row, best = json.loads(outcome.out)["rows"][-1], best_of(searched)
    assert row["packed_bytes"] == float(best["packed_bytes"])
    assert row["accuracy_val"] == float(best["accuracy_val"])
    told = asdict(read_study(searched).references[-1])
    assert {name: row[name] for name in told} == told


def test_the_packed_checkpoint_is_that_of_the_best_recipe(sgq: Sgq, searched: Path) -> None:
    file = searched / "best.safetensors"
    assert read(file).recipe_text == (searched / "best.recipe.yaml").read_text()
    shown = json.loads(sgq("show", str(file), "--json").out)
    assert shown["header"]["recipe"] == "tiny-best"
    assert float(shown["header"]["val_accuracy"]) == read_study(searched).references[-1].accuracy_val
    assert shown["memory"]["packed_bytes"] == float(best_of(searched)["packed_bytes"])


def test_tensorboard_has_every_trial(searched: Path) -> None:
    events = EventAccumulator(str(searched))
    events.Reload()
    sizes = [event.value for event in events.Scalars("trial/packed_bytes")]
    assert sizes == [float(line["packed_bytes"]) for line in table(searched / "trials.csv")]
    assert events.Scalars("memory/packed_bytes")[0].value == float(best_of(searched)["packed_bytes"])


def once(lines: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return what trials measured, without the repeats: a search that went on may choose others for these."""
    repeated = ("accuracy_val_again", "repeats")
    return [{name: value for name, value in line.items() if name not in repeated} for line in lines]


def test_a_search_goes_on_and_keeps_what_it_measured(sgq: Sgq, subject: Path, stopped: Path) -> None:
    before, known = table(stopped / "trials.csv"), (stopped / "memo.jsonl").read_text()
    outcome = sgq(*words_of(subject, stopped, *LIMITED[:2], "--trials", str(TRIALS + 1), "--resume"))
    assert (outcome.code, outcome.err) == (0, "")
    after = table(stopped / "trials.csv")
    assert (once(after[:TRIALS]), len(after)) == (once(before), TRIALS + 1)
    assert (stopped / "memo.jsonl").read_text().startswith(known)
    assert f"trials: {TRIALS + 1}" in outcome.out
    assert f"best: trial {best_of(stopped)['number']}" in outcome.out
    assert f"wrote {stopped}: best.recipe.yaml, best.safetensors, trials.csv" in " ".join(outcome.out.split())
    assert len(list(stopped.glob("events.out.tfevents.*"))) == 1


def test_going_on_with_a_whole_search_trains_nothing(sgq: Sgq, subject: Path, stopped: Path) -> None:
    before = contents(stopped)
    outcome = sgq(*words_of(subject, stopped, *LIMITED, "--resume"))
    assert (outcome.code, outcome.err) == (0, "")
    for name in ("trials.csv", "pareto.csv", "best.recipe.yaml", "memo.jsonl"):
        assert (stopped / name).read_bytes() == before[name], name


def test_a_limit_that_nothing_holds_ends_the_search_and_names_the_tightest(
    sgq: Sgq, subject: Path, tmp_path: Path
) -> None:
    more = ("--limit", "accuracy=1", "--trials", "60", "--sampler", "random")
    outcome = sgq(*words_of(subject, "run", *more, model="weak"))
    lines = table(tmp_path / "run" / "trials.csv")
    assert (outcome.code, len(lines)) == (4, 40)
    found = re.search(r"limit not met: none of 40 assignments holds accuracy >= 1; (.*)\n", outcome.err)
    assert found is not None
    sure = {line["number"]: float(line["accuracy_val"]) - float(line["accuracy_margin"]) for line in lines}
    greatest = max(sure.values())
    tightest = float(re.findall(r"the tightest limit that one holds is accuracy >= (0\.\d+)\.", found[1])[0])
    assert tightest <= greatest < tightest + 0.0001
    assert found[1].endswith("It stops here: more bits do not help.")
    assert sure[best_of(tmp_path / "run")["number"]] == greatest
    assert (tmp_path / "run" / "best.safetensors").is_file()
    assert load_recipe(tmp_path / "run" / "best.recipe.yaml").recipe.name == "tiny-best"


def test_the_limits_of_the_space_hold_where_none_is_given(sgq: Sgq, subject: Path, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(f"{SPACE}limits: {{packed_bytes: 10}}\n")
    outcome = sgq(*words_of(subject, "run", "--trials", "9", space="small.yaml"))
    assert outcome.code == 4
    [line] = table(tmp_path / "run" / "trials.csv")
    assert [line[axis] for axis in AXES] == ["1", "1", "1"]
    size = round(float(line["packed_bytes"]))
    remark = f"the narrowest assignment needs {size} bytes, over the limit of 10"
    assert f"limit not met: {remark}\n" in outcome.err
    assert read_study(tmp_path / "run").notes == (remark,)
    assert "bits: 1" in (tmp_path / "run" / "best.recipe.yaml").read_text()


def test_ctrl_c_leaves_the_best_so_far_and_the_search_goes_on_later(
    sgq: Sgq, subject: Path, tmp_path: Path
) -> None:
    slow = tmp_path / "slow.yaml"
    slow.write_text(SPACE.replace("epochs: 4", "epochs: 20"))
    words = words_of(subject, tmp_path / "run", "--trials", "64", "--sampler", "random", space=slow)
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "tools" / "abs.py"), *words[1:]],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    memo = tmp_path / "run" / "memo.jsonl"
    try:
        wait_for(lambda: memo.exists() and memo.read_text().count("accuracy") >= 3)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert err.endswith("interrupted: what was found by then is written; go on with --resume\n")
    before = table(tmp_path / "run" / "trials.csv")
    assert 2 <= len(before) < 64
    best = best_of(tmp_path / "run")
    assert float(best["accuracy_val"]) == max(
        float(line["accuracy_val"]) for line in before if line["state"] == "finished"
    )
    assert load_recipe(tmp_path / "run" / "best.recipe.yaml").recipe.name == "tiny-best"
    assert f"best: trial {best['number']}" in out
    outcome = sgq(*words, "--trials", str(len(before) + 1), "--resume")
    assert (outcome.code, outcome.err) == (0, "")
    assert table(tmp_path / "run" / "trials.csv")[:-1] == before


@pytest.mark.parametrize(
    ("finished", "files", "references"),
    [
        (0, "best.recipe.yaml, trials.csv", []),
        (1, "best.recipe.yaml, best.safetensors, trials.csv", ["float", "tiny-best"]),
        (2, "best.recipe.yaml, best.safetensors, trials.csv", ["float", "int8", "tiny-best"]),
    ],
)
def test_ctrl_c_after_the_search_leaves_what_is_there_by_then(
    sgq: Sgq,
    subject: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    finished: int,
    files: str,
    references: list[str],
) -> None:
    from sgq.pipeline import applying

    begun: list[Any] = []
    apply = applying.apply

    def struck(*given: Any, **named: Any) -> Any:
        begun.append(given)
        if len(begun) > finished:
            raise KeyboardInterrupt
        return apply(*given, **named)

    monkeypatch.setattr(applying, "apply", struck)
    outcome = sgq(*words_of(subject, "run", "--trials", "3"))
    assert (outcome.code, outcome.err) == (
        130,
        "interrupted: what was found by then is written; go on with --resume\n",
    )
    assert len(begun) == finished + 1
    assert f"wrote run: {files}" in " ".join(outcome.out.split())
    assert (tmp_path / "run" / "best.safetensors").exists() == ("safetensors" in files)
    assert len(table(tmp_path / "run" / "trials.csv")) == 3
    assert [row.name for row in read_study(tmp_path / "run").references] == references
    assert load_recipe(tmp_path / "run" / "best.recipe.yaml").recipe.name == "tiny-best"


@pytest.mark.soak
def test_two_workers_share_a_search_and_its_repeats(sgq: Sgq, subject: Path, tmp_path: Path) -> None:
    outcome = sgq(*words_of(subject, "run", *LIMITED, "--workers", "2"))
    assert (outcome.code, outcome.err) == (0, "")
    lines = table(tmp_path / "run" / "trials.csv")
    assert len({tuple(line[axis] for axis in AXES) for line in lines}) == len(lines) == TRIALS
    assert best_of(tmp_path / "run")["holds"] == "True"


def test_the_tool_is_the_same_program(
    sgq: Sgq, subject: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = words_of(subject, "run", "--sampler", "tre")
    wanted = sgq(*words)
    monkeypatch.setattr(sys, "argv", ["abs.py", *words[1:]])
    with pytest.raises(SystemExit) as leaving:
        runpy.run_path(str(ROOT / "tools" / "abs.py"), run_name="__main__")
    assert (leaving.value.code, capsys.readouterr().err) == (wanted.code, wanted.err)
