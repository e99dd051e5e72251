from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sgq.errors import PlanError
from tests.pipeline.broken_checkpoints import sealed, split
from tests.runtime.lowered_fakes import FakeLowered

GCN = ("--model", "gcn", "--data", "cli_subjects:ring")
WAYS = ["fp32 edge_index", "fp32 csr", "integer"]
STAYS = "convs.1 (GCNConv) stays simulated in the integer runtime: its output feeds a sort"
Sgq = Callable[..., Any]


@pytest.fixture(autouse=True)
def _lowered(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the verbs print does not depend on how fast the runtime is."""
    monkeypatch.setattr("sgq.lower", FakeLowered, raising=False)


@pytest.fixture
def run_folder(sgq: Sgq, trained: Path, recipe: Path, tmp_path: Path) -> Path:
    words = ("--checkpoint", str(trained), "-o", "run", "--runtime", "--quiet")
    outcome = sgq("apply", str(recipe), *GCN, *words)
    assert (outcome.code, outcome.err) == (0, "")
    assert f"note: {STAYS}" in outcome.out
    assert "measured: median ms, quartiles ms, x integer, peak memory" in outcome.out
    return tmp_path / "run"


def test_apply_puts_measured_rows_into_every_report(sgq: Sgq, run_folder: Path) -> None:
    report = json.loads((run_folder / "report.json").read_text())
    assert [row["name"] for row in report["runtime"]] == WAYS
    assert report["runtime"][2]["file_bytes"] == (run_folder / "model.safetensors").stat().st_size
    assert STAYS in report["notes"]
    page = (run_folder / "report.html").read_text()
    assert "<h2>Runtime</h2>" in page
    assert "measured: median ms" in page
    assert "fp32 edge_index" in sgq("show", str(run_folder)).out


def test_apply_tells_its_measured_rows_as_json(sgq: Sgq, trained: Path, recipe: Path) -> None:
    words = ("--checkpoint", str(trained), "-o", "run", "--quiet", "--json")
    plain = json.loads(sgq("apply", str(recipe), *GCN, *words).out)
    assert "runtime" not in plain
    measured = json.loads(sgq("apply", str(recipe), *GCN, *words, "--runtime").out)
    assert [row["name"] for row in measured["runtime"]] == WAYS
    assert measured["runtime_notes"] == [STAYS]


def test_cost_shows_modelled_bytes_that_add_up(sgq: Sgq) -> None:
    memory = json.loads(sgq("cost", "int8", *GCN, "--json").out)["memory"]
    assert sum(row["total_bytes"] for row in memory["rows"]) == memory["packed_bytes"]
    for row in memory["rows"]:
        parts = ("code_bytes", "scale_bytes", "zero_point_bytes", "index_bytes")
        assert sum(row[part] for part in parts) == row["total_bytes"]
    text = sgq("cost", "int8", *GCN)
    assert text.code == 0
    assert "convs.0.lin:weight" in text.out
    assert "modelled: bits, codes, scales" in text.out
    assert "measured" not in text.out


@pytest.mark.parametrize("name", ["int8", "sgquant/gcn-taq"])
def test_cost_measures_a_recipe(sgq: Sgq, name: str) -> None:
    outcome = sgq("cost", name, *GCN, "--measure", "--json")
    assert outcome.code == 0, outcome.err
    document = json.loads(outcome.out)
    assert [row["name"] for row in document["runtime"]] == WAYS
    assert all(row["file_bytes"] > 0 for row in document["runtime"])


def test_cost_measures_a_checkpoint_with_the_sizes_of_its_header(sgq: Sgq, run_folder: Path) -> None:
    path = run_folder / "model.safetensors"
    outcome = sgq("cost", str(path), *GCN, "--measure")
    assert outcome.code == 0, outcome.err
    assert "integer" in outcome.out
    assert f"note: {STAYS}" in outcome.out
    document = json.loads(sgq("cost", str(path), *GCN, "--measure", "--json").out)
    assert document["recipe"] == "tiny"
    assert document["runtime"][2]["file_bytes"] == path.stat().st_size
    modelled = json.loads(sgq("cost", str(path), *GCN, "--json").out)
    assert "runtime" not in modelled
    assert modelled["memory"] == document["memory"]


@pytest.mark.parametrize("name", ["int8", "sgquant/gcn-taq"])
def test_cost_prices_a_recipe_on_a_device(sgq: Sgq, name: str) -> None:
    outcome = sgq("cost", name, *GCN, "--target", "raspberry-pi-4b")
    assert outcome.code == 0, outcome.err
    source = "modelled from the data sheet, roofline by integer kernel"
    assert f"modelled on raspberry-pi-4b ({source}): latency" in outcome.out
    assert ", peak " in outcome.out
    assert ", energy " in outcome.out
    assert "measured" not in outcome.out
    document = json.loads(sgq("cost", name, *GCN, "--target", "raspberry-pi-4b", "--json").out)
    assert document["price"]["target"] == "raspberry-pi-4b"
    assert document["price"]["source"] == source
    assert all(document["price"][part] > 0 for part in ("latency_s", "peak_bytes", "energy_j", "flops"))
    assert "runtime" not in document


def test_cost_prices_a_checkpoint_beside_what_is_measured(sgq: Sgq, run_folder: Path) -> None:
    path = str(run_folder / "model.safetensors")
    outcome = sgq("cost", path, *GCN, "--target", "core-i7-8700k", "--measure", "--json")
    assert outcome.code == 0, outcome.err
    document = json.loads(outcome.out)
    assert document["price"]["energy_j"] > 0
    assert [row["name"] for row in document["runtime"]] == WAYS
    text = sgq("cost", path, *GCN, "--target", "core-i7-8700k", "--measure").out
    assert "modelled on core-i7-8700k" in text
    assert "measured: median ms" in text


def test_an_unknown_target_is_told_before_anything_is_loaded(sgq: Sgq) -> None:
    outcome = sgq("cost", "no-such-recipe", *GCN, "--target", "raspberry-pi-4")
    assert outcome.code == 2
    assert 'Did you mean "raspberry-pi-4b"' in outcome.error


def test_cost_of_a_float_checkpoint_is_a_usage_error_that_tells_what_to_do(sgq: Sgq, trained: Path) -> None:
    outcome = sgq("cost", str(trained), *GCN)
    assert outcome.code == 2
    assert "sgq cost RECIPE --checkpoint" in outcome.error


def test_cost_of_a_file_of_a_zoo_model_needs_no_model(sgq: Sgq, run_folder: Path) -> None:
    path, data = str(run_folder / "model.safetensors"), GCN[2:]
    for words in ((), ("--measure",)):
        outcome = sgq("cost", path, *data, *words, "--json")
        assert outcome.code == 0, outcome.err
        assert json.loads(outcome.out)["recipe"] == "tiny"
    assert "expected --model with the model" in sgq("cost", "int8", *data).error


def test_cost_reads_sizes_off_the_fingerprint_not_off_a_text(sgq: Sgq, run_folder: Path) -> None:
    path = run_folder / "model.safetensors"
    header, payload = split(path.read_bytes())
    header["__metadata__"]["options"] = "no JSON"
    path.write_bytes(sealed(header, payload))
    outcome = sgq("cost", str(path), *GCN, "--measure")
    assert outcome.code == 0, outcome.err
    header, payload = split(path.read_bytes())
    written = json.loads(header["__metadata__"]["fingerprint"])
    written["zoo"]["options"]["hidden"] = 2**40
    header["__metadata__"]["fingerprint"] = json.dumps(written)
    path.write_bytes(sealed(header, payload))
    outcome = sgq("cost", str(path), *GCN, "--measure")
    assert outcome.code == 2
    assert "does not fit GCN" in outcome.error


def test_what_fails_in_measuring_leaves_the_result_of_the_training(
    sgq: Sgq, trained: Path, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise PlanError("cannot be lowered")

    monkeypatch.setattr("sgq.lower", fail, raising=False)
    words = ("--checkpoint", str(trained), "-o", "run", "--runtime", "--quiet")
    outcome = sgq("apply", str(recipe), *GCN, *words)
    assert outcome.code != 0
    assert "cannot be lowered" in outcome.error
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["rows"]
    assert not report.get("runtime")
    for name in ("model.safetensors", "plan.json", "recipe.yaml", "report.html"):
        assert (tmp_path / "run" / name).is_file()
