"""Prices of plans from their sites: one small plan by hand, and how near the zoo's are to what they take."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch

from quantizers.spec import QuantizerSpec
from sgq.cost import POINTS, Price, Workload, memory_of, price, price_of_model
from sgq.cost.profile import DeviceProfile, PeakRate, Power, Rates
from sgq.data import load
from sgq.errors import ProfileError, UsageError
from sgq.graph.sites import Component, Place, Rows, Site, SiteName
from sgq.graph.sites import Workload as Graph
from sgq.models import build
from sgq.models.dgcnn import dgcnn
from sgq.pipeline.planning import plan_for
from sgq.pipeline.reporting import float_plan
from sgq.pipeline.tasks import NodeTask
from sgq.pipeline.wrapping import apply_plan
from sgq.recipe.plan import Plan, PlanEntry

RATES = Rates(peaks=(PeakRate(32, 1e9), PeakRate(8, 4e9)), bandwidth_bytes_per_s=1e9)
SHEET = DeviceProfile("sheet", "data sheet", "2026-01-01", rates=RATES, power=Power(active_w=10.0))
EIGHT = QuantizerSpec(bits=8)
NODES, EDGES, WIDE, OUT = 10, 20, 16, 8


def site(component: Component, rows: Rows, *shape: int, **more: Any) -> Site:
    name = SiteName("conv", component)
    channels = (shape[0], 1) if rows == "parameter" else (1, *shape[1:])
    return Site(name, Place("conv", component), rows, shape, channels, **more)


def small_plan(spec: QuantizerSpec | None) -> Plan:
    """One layer: features of 16 channels, a weight to 8, messages along 20 edges, and the result."""
    entries = (
        PlanEntry(site("input", "node", NODES, WIDE, features=True), spec),
        PlanEntry(site("weight", "parameter", OUT, WIDE), spec),
        PlanEntry(site("message", "node", NODES, OUT, messages=EDGES), spec),
        PlanEntry(site("output", "node", NODES, OUT), None),
    )
    return Plan("small", entries, (), Graph(NODES, EDGES))


def test_a_float_plan_by_hand() -> None:
    found = price(small_plan(None), None, SHEET)
    assert found.source == "modelled from the data sheet, roofline by site"
    assert found.flops == 2 * NODES * WIDE * OUT + 2 * EDGES * OUT
    weight, features, rows = 4 * WIDE * OUT + 4 * OUT, 4 * NODES * WIDE, 4 * NODES * OUT
    copies = 2 * 4 * EDGES * OUT
    edges = 2 * 8 * EDGES
    # The messages are alive, two copies of them on the edges, and what they become.
    assert found.peak_bytes == weight + features + edges + 2 * rows + copies
    assert found.packed_bytes == memory_of(small_plan(None)).packed_bytes
    gathered = EDGES * (4 * OUT + 4) + 2 * copies
    assert found.bytes_moved == features + weight + rows + gathered + rows
    assert found.latency_s == pytest.approx(
        max(2 * NODES * WIDE * OUT / 1e9, (features + weight + rows) / 1e9) + (gathered + rows) / 1e9
    )
    assert found.energy_j == pytest.approx(10.0 * found.latency_s)


def test_eight_bits_move_a_quarter_along_the_edges() -> None:
    whole, narrow = price(small_plan(None), None, SHEET), price(small_plan(EIGHT), None, SHEET)
    assert narrow.flops == whole.flops
    assert narrow.bytes_moved < whole.bytes_moved / 2
    assert narrow.latency_s < whole.latency_s
    assert narrow.packed_bytes < whole.packed_bytes


def test_a_workload_may_say_again_what_the_plan_is_of() -> None:
    same = Workload(nodes=NODES, edges=EDGES, features=WIDE, classes=OUT)
    assert price(small_plan(EIGHT), same, SHEET) == price(small_plan(EIGHT), None, SHEET)
    with pytest.raises(
        UsageError, match=r"expected nodes 10 \(got 9\), classes 8 \(got 3\); leave the workload"
    ):
        price(small_plan(EIGHT), replace(same, nodes=9, classes=3), SHEET)
    with pytest.raises(UsageError, match=r"expected nodes 10 \(got 1024\), edges 20 \(got 0\)"):
        price(small_plan(EIGHT), POINTS, SHEET)


def test_a_genotype_needs_a_workload() -> None:
    with pytest.raises(UsageError, match="expected a workload to price a genotype on"):
        price(dgcnn(), None, SHEET)


def test_a_device_without_rates_has_no_price() -> None:
    with pytest.raises(ProfileError, match="no peak rate"):
        price(small_plan(EIGHT), None, DeviceProfile("x", "measured", ""))


@cache
def prices(name: str, recipe: str) -> tuple[Price, Price]:
    """The price of a zoo model on a graph of Cora's size by its plan, and by the walk over it."""
    torch.manual_seed(0)
    task = NodeTask(load("synthetic").data)
    model = build(name, in_channels=task.data.x.size(1), out_channels=7).eval()
    plan = plan_for(model, "int8" if recipe == "float" else recipe, task)
    if recipe == "float":
        return price(float_plan(plan), None, SHEET), price_of_model(model, task.sample(), SHEET)
    quantized, bucketed = apply_plan(model, plan, task)
    return price(plan, None, SHEET), price_of_model(quantized.eval(), bucketed.sample(), SHEET)


@pytest.mark.parametrize(
    ("name", "recipe", "within"),
    [
        ("gcn", "int8", 0.1),
        ("gcn", "sgquant/gcn-taq", 0.2),
        ("gat", "int8", 0.2),
        ("gin", "int8", 0.1),
        ("sage", "int8", 0.1),
        ("gcn", "float", 0.3),
        ("gat", "float", 0.2),
        ("gin", "float", 0.1),
        ("sage", "float", 0.2),
    ],
)
def test_the_peak_of_a_plan_is_near_what_its_model_takes(name: str, recipe: str, within: float) -> None:
    estimate, walked = prices(name, recipe)
    assert estimate.peak_bytes == pytest.approx(walked.peak_bytes, rel=within)


@pytest.mark.parametrize("name", ["gcn", "gat", "gin", "sage"])
def test_the_work_of_a_plan_is_near_that_of_its_kernels(name: str) -> None:
    estimate, walked = prices(name, "int8")
    assert estimate.flops == pytest.approx(walked.flops, rel=0.05)
    assert estimate.bytes_moved == pytest.approx(walked.bytes_moved, rel=0.2)
