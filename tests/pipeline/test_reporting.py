from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv

import sgq
from sgq.pipeline.applying import Applied
from sgq.pipeline.quantization_error import site_errors
from sgq.pipeline.reporting import build_report, float_row, recipe_row, write_report
from sgq.recipe import parse_recipe
from sgq.report import Report

RECIPE = """\
version: 1
name: mixed
degree_buckets: {edges: [2]}
rules:
  - match: {component: weight}
    bits: 2
  - match: {component: [input, message], rows: node}
    bits: {by_bucket: [8, 4]}
  - match: {module: second, component: input}
    bits: 8
    range: [-0.5, 0.5]
finetune: {epochs: 3}
"""


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = GCNConv(4, 5)
        self.second = GCNConv(5, 2)

    def forward(self, x: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x, edge_index).relu(), edge_index)


@pytest.fixture
def applied() -> Applied:
    torch.manual_seed(0)
    part = torch.arange(12) // 4
    data = Data(
        x=torch.rand(12, 4),
        edge_index=torch.tensor([[0, 1, 2, 3, 4, 5, 6, 7], [1, 0, 1, 1, 5, 5, 5, 8]]),
        y=torch.arange(12) % 2,
        train_mask=part == 0,
        val_mask=part == 1,
        test_mask=part == 2,
    )
    return sgq.apply(Network(), parse_recipe(RECIPE, file="mixed.yaml"), data)


def test_the_float_row_is_the_model_without_any_quantizer(applied: Applied) -> None:
    row = float_row(applied)
    # The two biases, of 5 and 2 values, are no sites.
    stored = sum(entry.site.values for entry in applied.plan if entry.site.stored) + 7
    assert (row.packed_bytes, row.ratio_sparse) == (4 * stored, 1.0)
    assert (row.sgquant_bits, row.mixq_bits, row.family) == (32.0, 32.0, "float")
    assert row.accuracy_test == applied.float_accuracy.test


def test_a_recipe_of_one_width_is_drawn_as_uniform(applied: Applied) -> None:
    assert recipe_row(applied).family == "recipe"
    uniform = sgq.apply(Network(), "int8", applied.task.data)
    assert (recipe_row(uniform).family, recipe_row(uniform).name) == ("uniform", "int8")


def test_the_errors_are_those_of_each_quantizers_own_input(applied: Applied) -> None:
    errors = {error.site: error for error in site_errors(applied.model, applied.plan, applied.task)}
    assert list(errors) == [str(entry.site.name) for entry in applied.plan.quantized]
    weight = applied.model.first.lin._parameters["weight"].detach()
    quantized = applied.model.first.lin.weight.detach()
    found = errors["first.lin:weight"]
    assert found.error == pytest.approx(float((quantized - weight).norm() / weight.norm()), rel=1e-5)
    # Symmetric 2-bit codes are -1, 0 and 1.
    assert torch.equal(found.values, weight.flatten())
    assert found.upper == pytest.approx(float(quantized.abs().max()))
    assert found.lower == -found.upper


def test_a_fixed_range_clips_what_lies_outside(applied: Applied) -> None:
    errors = {error.site: error for error in site_errors(applied.model, applied.plan, applied.task)}
    found = errors["second:input"]
    scale = 1.0 / 255
    assert found.lower == pytest.approx(-0.5, abs=scale)
    assert found.upper == pytest.approx(0.5, abs=scale)
    outside = (found.values < found.lower - scale / 2) | (found.values > found.upper + scale / 2)
    assert 0.0 < found.clip_share < 1.0
    assert found.clip_share == pytest.approx(float(outside.float().mean()), abs=1e-6)


def test_measuring_leaves_the_model_as_it_was(applied: Applied) -> None:
    state = {name: tensor.clone() for name, tensor in applied.model.state_dict().items()}
    site_errors(applied.model, applied.plan, applied.task)
    assert all(torch.equal(tensor, state[name]) for name, tensor in applied.model.state_dict().items())
    assert not any(module._forward_hooks for module in applied.model.modules())


def test_the_report_has_a_row_for_each_model_and_each_counted_site(applied: Applied) -> None:
    uniform = sgq.apply(Network(), "int8", applied.task.data)
    report = build_report(applied, title="both", comparisons=[uniform], settings={"seed": 0})
    assert [row.name for row in report.rows] == ["float", "int8", "mixed"]
    assert [row.name for row in report.sites] == [str(site.site.name) for site in applied.memory.sites]
    assert report.sites[0].origin == "mixed.yaml:7:5 rule 2"
    assert report.settings == (("seed", "0"),)


def test_a_run_folder_holds_curves_bits_and_the_worst_sites(applied: Applied, tmp_path: Path) -> None:
    report = write_report(tmp_path, applied, title="mixed", settings={"seed": 0})
    record = json.loads((tmp_path / "report.json").read_text())
    assert Report.from_json(record) == report
    assert "<svg" in (tmp_path / "report.html").read_text()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3]
    assert events.Scalars("bits/first.lin:weight")[0].value == 2.0
    worst = sorted(record["errors"], key=record["errors"].get, reverse=True)[:5]
    assert sorted(events.Tags()["histograms"]) == sorted(f"values/{site}" for site in worst)
    assert {f"clip/{site}/upper" for site in worst} <= set(events.Tags()["scalars"])
    assert {"val/accuracy", "test/accuracy", "memory/packed_bytes", "memory/ratio"} <= set(
        events.Tags()["scalars"]
    )
    assert events.Tags()["images"] == ["accuracy_against_memory"]


def test_a_failed_report_leaves_the_earlier_one(
    applied: Applied, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_report(tmp_path, applied, title="first")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fail(*arguments: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("sgq.pipeline.reporting.write_html", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report(tmp_path, applied, title="second")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
