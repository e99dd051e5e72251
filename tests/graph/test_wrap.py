from __future__ import annotations

import copy
import shutil

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.nn import GCNConv

from quantizers import FLOAT_BITS, FakeQuantize, QuantizerSpec
from sgq.errors import PlanError
from sgq.graph.probe import find_sites
from sgq.graph.sites import Workload
from sgq.graph.swap import is_swapped
from sgq.graph.wrap import Assignment, quantizer_at, quantizers_of, wrap_sites
from tests.graph.small_graph import (
    CHANNELS,
    TENSOR,
    bucketed,
    freeze,
    quantized,
    sites_on,
    small_graph,
    uniform,
    zoo_model,
)

ZOO = ["gcn", "sage", "gin", "gat", "gatv2"]
COMPILED = [pytest.param(name, marks=[] if name in ("gcn", "gat") else pytest.mark.soak) for name in ZOO]
"""Compiling takes seconds: the short run has one model without attention and one with."""


@pytest.mark.parametrize("name", COMPILED)
def test_eager_compiled_and_exported_give_the_same_numbers(name: str) -> None:
    data = small_graph()
    model = quantized(zoo_model(name), data, spec=bucketed, bucket=data.bucket)
    with torch.no_grad():
        eager = model(data.x, data.edge_index)
        torch.compiler.reset()
        compiled = torch.compile(model, backend="aot_eager", fullgraph=True)(data.x, data.edge_index)
        program = torch.export.export(model, (data.x, data.edge_index)).module()
        exported = program(data.x, data.edge_index)
    assert not torch.equal(eager, zoo_model(name)(data.x, data.edge_index))
    torch.testing.assert_close(compiled, eager, rtol=0, atol=1e-6)
    torch.testing.assert_close(exported, eager, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ZOO)
def test_a_deepcopy_gives_the_same_numbers_and_shares_no_state(name: str) -> None:
    data = small_graph()
    model = quantized(zoo_model(name), data, spec=bucketed, bucket=data.bucket)
    twin = copy.deepcopy(model)
    wanted = model(data.x, data.edge_index)
    assert torch.equal(twin(data.x, data.edge_index), wanted)
    for quantizer in quantizers_of(twin).values():
        quantizer.scale.mul_(3.0)
    assert torch.equal(model(data.x, data.edge_index), wanted)
    assert not torch.equal(twin(data.x, data.edge_index), wanted)


@pytest.mark.parametrize("name", ZOO)
def test_float64_has_the_same_scales_and_nearly_the_same_numbers(name: str) -> None:
    data = small_graph()
    model = quantized(zoo_model(name), data)
    wide = copy.deepcopy(model).to(torch.float64)
    result = wide(data.x.double(), data.edge_index)
    assert result.dtype is torch.float64
    narrow = model(data.x, data.edge_index).double()
    # A value on a rounding boundary may fall on its other side: one step of 8 bits, not a wrong scale.
    assert (result - narrow).norm() < 0.02 * narrow.norm()


@pytest.mark.parametrize("name", ZOO)
def test_a_state_dict_round_trip_is_exact(name: str) -> None:
    data = small_graph()
    model = quantized(zoo_model(name), data, spec=bucketed, bucket=data.bucket)
    table = sites_on(zoo_model(name), data)
    fresh = wrap_sites(
        zoo_model(name),
        [Assignment(site, bucketed(site)) for site in table.sites],
        bucket=torch.zeros_like(data.bucket),
    )
    fresh.load_state_dict(model.state_dict())
    for quantizer in quantizers_of(fresh).values():
        quantizer.freeze()
    assert torch.equal(fresh(data.x, data.edge_index), model(data.x, data.edge_index))


@pytest.mark.parametrize("name", ZOO)
def test_wrapping_keeps_the_float_models_state_dict_keys(name: str) -> None:
    data = small_graph()
    model = zoo_model(name)
    wrapped = quantized(model, data)
    assert set(model.state_dict()) <= set(wrapped.state_dict())
    assert not any(is_swapped(module) for module in model.modules())


@pytest.mark.parametrize("name", ZOO)
def test_32_bits_everywhere_is_the_bit_exact_float_model(name: str) -> None:
    data = small_graph()
    model = zoo_model(name)
    identity = quantized(model, data, spec=lambda site: QuantizerSpec(FLOAT_BITS))
    assert torch.equal(identity(data.x, data.edge_index), model(data.x, data.edge_index))


@pytest.mark.skipif(shutil.which("c++") is None, reason="needs a C++ compiler")
@pytest.mark.parametrize("name", COMPILED)
def test_inductor_gives_the_numbers_of_eager(name: str) -> None:
    data = small_graph()
    model = quantized(zoo_model(name), data, spec=bucketed, bucket=data.bucket)
    with torch.no_grad():
        eager = model(data.x, data.edge_index)
        torch.compiler.reset()
        compiled = torch.compile(model, fullgraph=True)(data.x, data.edge_index)
    torch.testing.assert_close(compiled, eager, rtol=0, atol=1e-6)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_a_compiled_training_step_has_the_gradients_of_an_eager_one() -> None:
    data = small_graph()
    model = quantized(zoo_model("gcn"), data).train()
    for dropout in model.dropouts:
        dropout.p = 0.0
    model(data.x, data.edge_index).square().sum().backward()
    eager = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    torch.compiler.reset()
    torch.compile(model, backend="aot_eager")(data.x, data.edge_index).square().sum().backward()
    for parameter, wanted in zip(model.parameters(), eager, strict=True):
        torch.testing.assert_close(parameter.grad, wanted, rtol=1e-5, atol=1e-6)


def test_a_wrapped_model_cannot_be_wrapped_or_planned_again() -> None:
    data = small_graph()
    model = quantized(zoo_model("gcn"), data)
    with pytest.raises(PlanError, match="already quantized: wrap the float model"):
        wrap_sites(model, [])
    with pytest.raises(PlanError, match="already quantized: plan on the float model"):
        sites_on(model, data)


def test_a_plan_of_another_model_names_the_module_that_is_missing() -> None:
    data = small_graph()
    table = sites_on(zoo_model("gat"), data)
    with pytest.raises(PlanError, match=r'names module "dropouts\.0", which the model lacks'):
        wrap_sites(nn.Sequential(nn.Linear(2, 2)), [Assignment(site, uniform(site)) for site in table.sites])


def test_the_quantizer_of_a_site_is_found_by_the_site() -> None:
    data = small_graph()
    model = quantized(zoo_model("gcn"), data)
    for site in sites_on(zoo_model("gcn"), data).sites:
        quantizer = quantizer_at(model, site)
        assert isinstance(quantizer, FakeQuantize)
        assert quantizer.spec == uniform(site)


def test_the_repr_of_a_wrapped_layer_shows_its_specs() -> None:
    model = quantized(zoo_model("gcn"), small_graph())
    assert "message=8 tensor" in repr(model.convs[0])
    assert ", weight=4 channel symmetric" in repr(model.convs[0].lin)


def test_a_container_that_runs_all_that_is_registered_in_it_is_wrapped_as_the_root() -> None:
    class Stack(nn.Sequential):
        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            for layer in self:
                x = layer(x, edge_index) if isinstance(layer, GCNConv) else layer(x)
            return x

    data = small_graph()
    torch.manual_seed(0)
    model = Stack(GCNConv(CHANNELS, 8), nn.ReLU(), GCNConv(8, 3)).eval()
    wrapped = quantized(model, data, spec=bucketed, bucket=data.bucket)
    assert len(wrapped) == 3
    wanted = model(data.x, data.edge_index)
    for each in (wrapped, copy.deepcopy(wrapped)):
        found = each(data.x, data.edge_index, bucket=data.bucket)
        assert 0 < (found - wanted).norm() < 0.5 * wanted.norm()


def test_zero_stays_zero_in_a_bfloat16_model_at_more_bits_than_its_mantissa_has() -> None:
    data = small_graph()
    data.x = (data.x - 0.4).bfloat16() * (data.x != 0)
    model = nn.Sequential(nn.Linear(CHANNELS, 3, bias=False)).to(torch.bfloat16)
    table = find_sites(model, lambda probed: probed(data.x), Workload(40, 0))
    features = next(site for site in table.sites if site.features)
    wrapped = wrap_sites(model, [Assignment(features, QuantizerSpec(12))])
    with torch.no_grad():
        wrapped(data.x)
    freeze(wrapped)
    quantized_x = quantizer_at(wrapped, features)(data.x)
    assert quantized_x.dtype is torch.bfloat16
    assert bool((quantized_x[data.x == 0] == 0).all())


def test_a_site_that_the_model_has_no_quantizer_for_is_a_plan_error_that_names_it() -> None:
    data = small_graph()
    model = zoo_model("gcn")
    first, second = sites_on(model, data).sites[:2]
    wrapped = wrap_sites(model, [Assignment(first, TENSOR)])
    with pytest.raises(PlanError, match=r"expected a quantizer for convs\.0\.lin:weight in QuantGCN"):
        quantizer_at(wrapped, second)


def test_quantizers_go_to_the_dtype_of_the_model() -> None:
    data = small_graph()
    data.x = data.x.double()
    model = zoo_model("gcn").to(torch.float64)
    wrapped = quantized(model, data)
    assert all(quantizer.scale.dtype is torch.float64 for quantizer in quantizers_of(wrapped).values())
    assert wrapped(data.x, data.edge_index).dtype is torch.float64


@pytest.mark.parametrize("name", ZOO)
def test_a_state_dict_holds_the_raw_parameters_and_not_their_quantized_values(name: str) -> None:
    data = small_graph()
    model = zoo_model(name)
    state = quantized(model, data).state_dict()
    for key, tensor in model.state_dict().items():
        assert torch.equal(state[key], tensor), key


def test_reading_or_loading_a_state_dict_does_not_touch_a_quantizers_range() -> None:
    data = small_graph()
    table = sites_on(zoo_model("gcn"), data)
    wrapped = wrap_sites(zoo_model("gcn"), [Assignment(site, uniform(site)) for site in table.sites])
    state = wrapped.state_dict()
    wrapped.load_state_dict(state)
    freeze(wrapped)
    wrapped.state_dict()  # a frozen quantizer without a range would refuse to quantize
    assert not any(quantizer.has_range for quantizer in quantizers_of(wrapped).values())
    assert all(float(quantizer.scale.abs().sum()) == 0 for quantizer in quantizers_of(wrapped).values())
