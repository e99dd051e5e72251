"""Prices of models on data: the modelled peak is the measured one, in float and on integers."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
import torch_geometric.typing
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.nn import GCNConv

from sgq.cost import price_of_model
from sgq.cost.model_pricing import trace_of_model
from sgq.cost.profile import DeviceProfile
from sgq.cost.roofline import demand_s
from sgq.cost.traced_operators import OperatorTrace, trace_operators
from sgq.cost.traced_program import ProgramTrace
from sgq.data import load
from sgq.errors import ModelError, ProfileError, UsageError
from sgq.graph.inputs import call
from sgq.models import build, default_options
from sgq.pipeline.planning import plan_for
from sgq.pipeline.tasks import NodeTask
from sgq.pipeline.wrapping import apply_plan
from sgq.runtime.baselines import float_baselines, in_form
from sgq.runtime.comparison import integer_peak
from sgq.runtime.lowering.program import lower
from sgq.runtime.measuring import measure_peak
from tests.cost.priced import RATES, SHEET
from tests.graph.convolution_cases import CASES, ConvolutionCase

SAMPLED = 6
"""The short run has every sixth convolution."""
ZOO = ("gcn", "gat", "gin", "sage")
KERNEL_SCRATCH = ("GPSConv", "GPSConv-performer")
"""Convolutions whose attention kernels hold more than is modelled."""


@cache
def cora_sized() -> Any:
    return load("synthetic").data


def zoo_model(name: str) -> nn.Module:
    torch.manual_seed(0)
    return build(name, in_channels=cora_sized().x.size(1), out_channels=7).eval()


def skip_segments(name: str, form: str) -> None:
    if name == "gat" and "csr" in form and torch_geometric.typing.WITH_TORCH_SCATTER:
        pytest.skip("the segment kernels of torch-scatter have no rule for shapes")


def measured_on_top(model: nn.Module, data: Any) -> int:
    def run() -> Any:
        with torch.inference_mode():
            return call(model, data)

    run()
    return measure_peak(run, resident_bytes=0).peak_bytes


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("form", ["edge_index", "csr"])
def test_the_peak_of_zoo_models_in_float_is_the_measured_one(name: str, form: Any) -> None:
    skip_segments(name, form)
    model, data = zoo_model(name), in_form(cora_sized(), form)
    trace = trace_of_model(model, data)
    assert isinstance(trace, OperatorTrace)
    measured = trace.resident_bytes + measured_on_top(model, data)
    assert trace.peak_bytes == pytest.approx(measured, rel=0.001)


@pytest.mark.parametrize("name", ZOO)
def test_the_peak_of_the_strongest_baselines_is_the_measured_one(name: str) -> None:
    found = float_baselines(zoo_model(name), cora_sized(), forms=("edge_index", "csr", "csr int32")).found
    assert len(found) == 3
    for baseline in found:
        skip_segments(name, baseline.name)
        own = [*baseline.model.parameters(), *baseline.model.buffers()]
        x = baseline.arguments["x"]
        trace = trace_operators(lambda at=baseline: at.model(**at.arguments), unknown=[*own, x], kept=own)
        measured = measure_peak(baseline, resident_bytes=baseline.resident_bytes).peak_bytes
        assert trace.peak_bytes == pytest.approx(measured, rel=0.001), baseline.name


@pytest.mark.parametrize("name", ZOO)
def test_a_quantized_model_is_priced_as_it_is_lowered(name: str) -> None:
    task = NodeTask(cora_sized())
    model = zoo_model(name)
    quantized, _ = apply_plan(model, plan_for(model, "int8", task), task)
    narrow = price_of_model(quantized.eval(), cora_sized(), SHEET)
    assert narrow.source == "modelled from the data sheet, roofline by integer kernel"
    measured = integer_peak(lower(quantized, cora_sized())).peak_bytes
    assert narrow.peak_bytes == pytest.approx(measured, rel=0.001)
    whole = price_of_model(model, cora_sized(), SHEET)
    assert whole.source == "modelled from the data sheet, roofline by operator of torch"
    assert whole.peak_bytes > 4 * narrow.peak_bytes
    assert whole.latency_s > narrow.latency_s
    assert whole.bytes_moved > narrow.bytes_moved


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=case.name, marks=[pytest.mark.soak] if at % SAMPLED else [])
        for at, case in enumerate(CASES)
    ],
)
def test_any_convolution_is_walked_to_what_it_takes(case: ConvolutionCase) -> None:
    args, keywords = case.arguments()
    module = case.build()

    def run() -> Any:
        with torch.inference_mode():
            return module(*args, **keywords)

    run()
    own = [*module.parameters(), *module.buffers()]
    floats = [leaf for leaf in leaves([args, keywords]) if leaf.is_floating_point() and leaf.dim() > 1]
    trace = trace_operators(lambda: module(*args, **keywords), unknown=[*own, *floats], kept=own)
    within = 0.4 if case.name in KERNEL_SCRATCH else 0.01
    assert trace.on_top_bytes == pytest.approx(measure_peak(run, resident_bytes=0).peak_bytes, rel=within)


def leaves(value: Any) -> list[Tensor]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (tuple, list)):
        return [leaf for member in value for leaf in leaves(member)]
    return [value] if isinstance(value, Tensor) else []


def test_a_batch_of_graphs_with_a_readout() -> None:
    batch = Batch.from_data_list(load("synthetic-graphs").graphs[:8])
    torch.manual_seed(0)
    options = default_options("gin", task="graph")
    model = build("gin", in_channels=batch.x.size(1), out_channels=2, options=options).eval()
    trace = trace_of_model(model, batch)
    assert isinstance(trace, OperatorTrace)
    assert trace.on_top_bytes == pytest.approx(measured_on_top(model, batch), rel=0.001)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = GCNConv(2, 3, normalize=False, bias=False)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.conv(x, edge_index)


@pytest.fixture
def path() -> Data:
    return Data(x=torch.rand(3, 2), edge_index=torch.tensor([[0, 1], [1, 2]]))


def test_a_price_adds_up_its_operators(path: Data) -> None:
    model = Small().eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    price = price_of_model(model, path, SHEET)
    trace = trace_of_model(model, path)
    assert price.flops == sum(demand.flops for demand in trace.demands)
    assert price.flops >= 2 * 3 * 2 * 3
    assert price.latency_s == pytest.approx(sum(demand_s(demand, SHEET) for demand in trace.demands))
    assert price.energy_j == pytest.approx(10.0 * price.latency_s)
    # A weight of 2 by 3, features of 3 by 2, and two edges.
    assert price.packed_bytes == 4 * 6 + 4 * 6 + 8 * 4
    assert price.peak_bytes > price.packed_bytes
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_without_power_there_is_no_energy_and_without_rates_no_price(path: Data) -> None:
    assert price_of_model(Small(), path, DeviceProfile("x", "measured", "", rates=RATES)).energy_j is None
    with pytest.raises(ProfileError, match="no peak rate at 32 bits"):
        price_of_model(Small(), path, DeviceProfile("x", "measured", ""))


def test_a_lowered_model_is_sent_back(path: Data) -> None:
    path.train_mask = path.val_mask = path.test_mask = torch.ones(3, dtype=torch.bool)
    path.y = torch.tensor([0, 1, 2])
    task = NodeTask(path)
    quantized, _ = apply_plan(Small().eval(), plan_for(Small().eval(), "int8", task), task)
    assert isinstance(trace_of_model(quantized.eval(), path), ProgramTrace)
    with pytest.raises(UsageError, match="expected a float or a quantized model"):
        trace_of_model(lower(quantized.eval(), path), path)


def test_models_that_cannot_be_walked_say_why(path: Data) -> None:
    class Wrong(nn.Module):
        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            return x @ x

    with pytest.raises(ModelError, match=r"Wrong cannot be walked on this data: RuntimeError"):
        trace_of_model(Wrong(), path)
    with pytest.raises(ModelError, match="expected a model and data on the CPU"):
        trace_of_model(Small().to("meta"), path)
