from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sgq.pipeline.applying import apply
from sgq.pipeline.checkpoint import read

GCN = ("--model", "gcn", "--data", "cli_subjects:ring")
Sgq = Callable[..., Any]


@pytest.fixture
def run_folder(sgq: Sgq, trained: Path, recipe: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    outcome = sgq(
        "apply", str(recipe), *GCN, "--checkpoint", str(trained), "-o", str(folder), "--compare", "--quiet"
    )
    assert (outcome.code, outcome.err) == (0, "")
    return folder


def test_train_tells_its_figures_as_json_and_nothing_else(sgq: Sgq, tmp_path: Path) -> None:
    outcome = sgq("train", *GCN, "--epochs", "3", "-o", "a.safetensors", "--json")
    result = json.loads(outcome.out)
    assert (outcome.code, outcome.err) == (0, "")
    assert (result["epochs"], result["model"], result["seed"]) == (3, "gcn", 0)
    assert 0.0 <= result["test_accuracy"] <= 1.0
    assert (tmp_path / "a.safetensors").is_file()


def test_the_same_seed_trains_the_same_weights(sgq: Sgq) -> None:
    weights = []
    for seed in ("1", "1", "2"):
        assert sgq("train", *GCN, "--epochs", "2", "--seed", seed, "-o", "m.safetensors").code == 0
        weights.append(read("m.safetensors").tensors["convs.0.lin.weight"])
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_apply_leaves_all_results_in_one_folder(run_folder: Path, recipe: Path) -> None:
    names = {path.name for path in run_folder.iterdir()}
    events = {name for name in names if name.startswith("events.out.tfevents.")}
    assert len(events) == 1
    assert names - events == {"model.safetensors", "plan.json", "recipe.yaml", "report.html", "report.json"}
    assert (run_folder / "recipe.yaml").read_text() == recipe.read_text()


def test_apply_compares_float_int8_int4_and_the_recipe(run_folder: Path) -> None:
    report = json.loads((run_folder / "report.json").read_text())
    assert [row["name"] for row in report["rows"]] == ["float", "int8", "int4", "tiny"]
    assert [row["sgquant_bits"] for row in report["rows"]] == [32.0, 8.0, 4.0, 8.0]
    assert len(report["history"]["epochs"]) == 2


def test_the_checkpoint_brings_the_sizes_of_its_model(sgq: Sgq, trained: Path, run_folder: Path) -> None:
    outcome = sgq("show", str(run_folder / "model.safetensors"), "--json")
    shown = json.loads(outcome.out)
    assert json.loads(shown["header"]["options"])["hidden"] == 5
    assert shown["tensors"]["convs.0.lin:weight/codes"] == [5 * 6]
    planned = sgq("plan", "int8", *GCN, "--checkpoint", str(trained), "--json")
    assert json.loads(planned.out)["plan"]["entries"][1]["site"]["shape"] == [5, 6]


def test_a_name_in_another_spelling_keeps_the_split_that_the_checkpoint_was_trained_on(
    sgq: Sgq, recipe: Path
) -> None:
    gin = ("--model", "gin", "--data")
    sizes = ("--layers", "1", "--hidden", "2", "--epochs", "0", "--seed", "3")
    assert sgq("train", *gin, "synthetic-graphs", *sizes, "-o", "gin.safetensors").code == 0
    words = ("--checkpoint", "gin.safetensors", "-o", "run", "--quiet")
    assert sgq("apply", str(recipe), *gin, "Synthetic_Graphs", *words).code == 0
    settings = dict(json.loads(Path("run/report.json").read_text())["settings"])
    assert settings["split"] == "seed 3, stratified 80/10/10 % of the graphs"


def test_a_csr_adjacency_gives_the_plan_of_an_edge_list_and_is_stated(sgq: Sgq, recipe: Path) -> None:
    subject = ("--model", "gcn", "--hidden", "2")
    plans = [
        json.loads(sgq("plan", str(recipe), *subject, "--adjacency", form, "--json").out)["plan"]
        for form in ("edge_index", "csr")
    ]
    assert plans[0] == plans[1]
    assert sgq("train", *subject, "--adjacency", "csr", "--epochs", "1", "-o", "m.safetensors").code == 0
    words = ("--model", "gcn", "--adjacency", "csr", "--checkpoint", "m.safetensors", "-o", "run")
    outcome = sgq("apply", str(recipe), *words, "--quiet")
    assert (outcome.code, outcome.err) == (0, "")
    assert dict(json.loads(Path("run/report.json").read_text())["settings"])["adjacency"] == "csr"


def test_comparing_a_baseline_applies_it_once(
    sgq: Sgq, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    applied = []

    def counting(model: object, recipe: Any, *arguments: Any, **options: Any) -> Any:
        applied.append(recipe.recipe.name)
        return apply(model, recipe, *arguments, **options)

    monkeypatch.setattr("sgq.pipeline.applying.apply", counting)
    words = ("--checkpoint", str(trained), "-o", "run", "--compare", "--quiet", "--json")
    outcome = sgq("apply", "int8", *GCN, *words)
    assert applied == ["int8", "int4"]
    assert [row["name"] for row in json.loads(outcome.out)["rows"]] == ["float", "int4", "int8"]


def test_a_second_run_replaces_the_first(sgq: Sgq, run_folder: Path, trained: Path) -> None:
    outcome = sgq("apply", "int4", *GCN, "--checkpoint", str(trained), "-o", str(run_folder), "--json")
    assert [row["name"] for row in json.loads(outcome.out)["rows"]] == ["float", "int4"]
    assert len(list(run_folder.glob("events.out.tfevents.*"))) == 1
    assert json.loads((run_folder / "plan.json").read_text())["recipe"] == "int4"


def test_show_prints_the_report_of_a_run_and_the_plan_of_a_checkpoint(sgq: Sgq, run_folder: Path) -> None:
    run, checkpoint = sgq("show", str(run_folder)), sgq("show", str(run_folder / "model.safetensors"))
    assert (run.code, checkpoint.code) == (0, 0)
    assert "tiny on gcn, cli_subjects:ring" in run.out
    assert "convs.0.lin:weight" in checkpoint.out


def test_report_joins_runs_on_one_page_with_equal_rows_once(
    sgq: Sgq, run_folder: Path, trained: Path, tmp_path: Path
) -> None:
    other = str(tmp_path / "other")
    assert sgq("apply", "int8", *GCN, "--checkpoint", str(trained), "-o", other).code == 0
    outcome = sgq("report", str(run_folder), other, "-o", "page.html", "--json")
    assert [row["name"] for row in json.loads(outcome.out)["rows"]] == ["float", "int8", "int4", "tiny"]
    assert "<svg" in (tmp_path / "page.html").read_text()


def test_sites_lists_every_site_and_what_is_none(sgq: Sgq) -> None:
    outcome = sgq("sites", *GCN, "--json")
    document = json.loads(outcome.out)
    assert document["sites"][0]["name"] == "convs.0:input"
    assert {entry["name"] for entry in document["float_parameters"]} == {"convs.0.bias", "convs.1.bias"}
    assert "convs.1:message" in sgq("sites", *GCN).out


def test_plan_shows_bytes_beside_float(sgq: Sgq) -> None:
    outcome = sgq("plan", "int4", *GCN)
    assert (outcome.code, outcome.err) == (0, "")
    assert "int4.yaml:" in outcome.out
    assert [line.split()[0] for line in outcome.out.splitlines() if " 32.00 " in line] == ["float"]


@pytest.mark.parametrize("factory", ["with_isolated_nodes", "without_edges"])
def test_isolated_nodes_and_a_graph_without_edges_work(sgq: Sgq, recipe: Path, factory: str) -> None:
    subject = ("--model", "gcn", "--data", f"cli_subjects:{factory}")
    assert sgq("train", *subject, "--epochs", "2", "-o", "m.safetensors").code == 0
    outcome = sgq(
        "apply", str(recipe), *subject, "--checkpoint", "m.safetensors", "-o", "run", "--json", "--quiet"
    )
    assert (outcome.code, outcome.err) == (0, "")
    assert json.loads(outcome.out)["rows"][1]["packed_bytes"] > 0


def test_a_limit_that_cannot_be_met_is_told_before_training_and_results_are_written(
    sgq: Sgq, trained: Path, recipe: Path, tmp_path: Path
) -> None:
    recipe.write_text(recipe.read_text() + "limits: {packed_bytes: 10}\n")
    outcome = sgq("apply", str(recipe), *GCN, "--checkpoint", str(trained), "-o", "run", "--quiet")
    assert outcome.code == 4
    assert outcome.err.splitlines()[0].startswith("limit will not be met: packed_bytes is ")
    assert "over the limit of 10" in outcome.err
    assert (tmp_path / "run" / "model.safetensors").is_file()
    assert sgq("plan", str(recipe), *GCN).code == 4
