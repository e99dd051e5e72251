"""The rehearsal of a lowered program: to the byte as measured, without a kernel, and its steps by hand."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch_geometric.data import Data

from sgq.cost.traced_program import ProgramTrace, trace_program
from sgq.data import load
from sgq.errors import ModelError
from sgq.models import build
from sgq.models.genotype import Aggregate, Combine, Genotype, Head, Pool, Sample
from sgq.models.genotype_sampling import with_bits
from sgq.pipeline.planning import plan_for
from sgq.pipeline.tasks import NodeTask
from sgq.pipeline.wrapping import apply_plan
from sgq.runtime.comparison import integer_peak
from sgq.runtime.kernels.cpu import calls, linear_calls
from sgq.runtime.lowering.model import LoweredModel
from sgq.runtime.lowering.program import lower
from tests.runtime.lowering.test_searched import clouds, lowered_of

RECIPES = [
    ("gcn", "int8"),
    ("gcn", "sgquant/gcn-taq"),
    ("gat", "int8"),
    ("gat", "sgquant/gat-lwq-cwq-taq"),
    ("gin", "int8"),
    ("sage", "int8"),
    ("sage", "int4"),
    ("agnn", "int8"),
]


@cache
def cora_sized() -> Any:
    return load("synthetic").data


def lowered_zoo(name: str, recipe: str, data: Any) -> LoweredModel:
    torch.manual_seed(0)
    model = build(name, in_channels=data.x.size(1), out_channels=7).eval()
    task = NodeTask(data)
    quantized, bucketed = apply_plan(model, plan_for(model, recipe, task), task)
    return lower(quantized.eval(), bucketed.sample())


@pytest.mark.parametrize(("name", "recipe"), RECIPES)
def test_the_peak_of_zoo_models_on_integers_is_the_measured_one(name: str, recipe: str) -> None:
    lowered = lowered_zoo(name, recipe, cora_sized())
    modelled = trace_program(lowered).peak_bytes
    assert modelled == pytest.approx(integer_peak(lowered).peak_bytes, rel=0.001)
    # Neither does a run before change it.
    assert trace_program(lowered).peak_bytes == modelled


@pytest.fixture
def ring() -> Data:
    # Four nodes in a ring, both ways; dense features.
    around = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0]])
    masks = dict.fromkeys(("train_mask", "val_mask", "test_mask"), torch.ones(4, dtype=torch.bool))
    edges = torch.cat([around, around.flip(0)], dim=1)
    return Data(torch.rand(4, 8) + 0.5, edges, y=torch.tensor([0, 1, 2, 3]), **masks)


def test_the_steps_of_a_small_gcn_by_hand(ring: Data) -> None:
    lowered = lowered_zoo("gcn", "int8", ring)
    trace = trace_program(lowered)
    names = [step.name for step in trace.steps]
    assert names == ["LinearStep", "AggregateStep", "LinearStep", "AggregateStep"]
    linear, gather, *_ = trace.demands
    assert (linear.runtime, linear.flops) == ("integer", 2 * 4 * 8 * 16)
    assert linear.bits in (7, 8)
    # Twelve edges, four of them self-loops, each with a weight of its own.
    assert gather.flops == 2 * 12 * 16
    assert gather.bytes_moved > 12 * 16
    assert trace.on_top_bytes == 4 * 4 * 7
    assert trace.peak_bytes == trace.resident_bytes + trace.arena_bytes + trace.on_top_bytes


def test_no_kernel_is_launched(ring: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("a kernel was launched")

    lowered = lowered_zoo("gat", "int8", ring)
    for module in (calls, linear_calls):
        monkeypatch.setattr(module, "run_on", fail)
    assert isinstance(trace_program(lowered), ProgramTrace)
    with pytest.raises(AssertionError, match="a kernel was launched"):
        lowered()


def test_what_torch_computes_between_kernels_is_walked(ring: Data) -> None:
    trace = trace_program(lowered_zoo("agnn", "int8", ring))
    directions = next(step for step in trace.steps if step.name == "TorchStep")
    assert {demand.runtime for demand in directions.demands} == {"float"}
    assert trace.on_top_bytes > 4 * 4 * 7


def test_a_model_that_stays_simulated_is_walked_as_a_whole(ring: Data) -> None:
    class Sorted(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lin = torch.nn.Linear(8, 7)

        def forward(self, x: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
            return self.lin(x) if int(edge_index.max()) == 3 else x

    task = NodeTask(ring)
    model = Sorted().eval()
    quantized, _ = apply_plan(model, plan_for(model, "int8", task), task)
    lowered = lower(quantized.eval(), ring)
    assert [layer.kind for layer in lowered.report.simulated] == ["Sorted"]
    modelled = trace_program(lowered).peak_bytes
    assert modelled == pytest.approx(integer_peak(lowered).peak_bytes, abs=64)


def test_a_model_without_an_arena_holds_what_is_alive(ring: Data) -> None:
    class Shifted(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lin, self.head = torch.nn.Linear(8, 512), torch.nn.Linear(512, 7)

        def forward(self, x: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
            rows = self.lin(x)
            return self.head(rows - rows.max(dim=1, keepdim=True)[0])

    ring.x = torch.rand(4000, 8)
    ring.y = torch.zeros(4000, dtype=torch.long)
    ring.train_mask = ring.val_mask = ring.test_mask = torch.ones(4000, dtype=torch.bool)
    task = NodeTask(ring)
    model = Shifted().eval()
    quantized, _ = apply_plan(model, plan_for(model, "int8", task), task)
    lowered = lower(quantized.eval(), ring)
    assert len(lowered.report.simulated) == 0
    trace = trace_program(lowered)
    assert trace.arena_bytes == 0
    assert trace.peak_bytes == pytest.approx(integer_peak(lowered).peak_bytes, rel=0.05)


def test_an_architecture_is_sent_to_its_genotype() -> None:
    genotype = Genotype((Sample("knn", 2), Aggregate("max", "source"), Combine(4), Pool(("max",))), Head(()))
    lowered = lowered_of(with_bits(genotype, 8), clouds(1, 16))[2]
    with pytest.raises(ModelError, match=r"NeighboursStep has no price by step.*genotype"):
        trace_program(lowered)
