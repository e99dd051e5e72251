from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.nn import GATConv, GCNConv, MessagePassing, SAGEConv
from torch_geometric.utils import to_torch_csr_tensor

from quantizers import Phase, QuantizerSpec, fake_quantize
from sgq.graph.buckets import bound_buckets
from sgq.graph.probe import find_sites
from sgq.graph.sites import Site, Workload
from sgq.graph.swap import SiteQuantizers, is_swapped, slots_of, swap, swapped_class
from sgq.graph.wrap import Assignment, quantizer_at, wrap_sites
from tests.graph.small_graph import (
    BUCKETED,
    CHANNELS,
    bucketed,
    csr_graph,
    freeze,
    quantized,
    sites_on,
    small_graph,
    uniform,
    zoo_model,
)


def frozen_quantizer(x: Tensor, bucket: Tensor | None, spec: QuantizerSpec) -> nn.Module:
    from quantizers import create

    quantizer = create(spec)
    quantizer(x, bucket)
    quantizer.freeze()
    return quantizer


def test_quantizing_before_the_gather_equals_quantizing_after_it_with_buckets() -> None:
    data = small_graph()
    source = data.edge_index[0]
    quantizer = frozen_quantizer(data.x, data.bucket, BUCKETED)
    before = quantizer(data.x, data.bucket)[source]
    after = quantizer(data.x[source], data.bucket[source])
    assert torch.equal(before, after)
    assert not torch.equal(before, data.x[source])


@pytest.mark.parametrize("name", ["gcn", "sage", "gin", "gat", "gatv2"])
def test_a_layers_message_quantizer_gives_the_same_before_and_after_the_gather(name: str) -> None:
    data = small_graph()
    source = data.edge_index[0]
    model = zoo_model(name)
    table = sites_on(model, data)
    wrapped = quantized(model, data, spec=bucketed, bucket=data.bucket)
    gathered = [site for site in table.sites if site.messages and site.rows == "node"]
    assert gathered
    for site in gathered:
        quantizer = quantizer_at(wrapped, site)
        x = torch.randn(site.shape, generator=torch.Generator().manual_seed(5))
        assert torch.equal(quantizer(x, data.bucket)[source], quantizer(x[source], data.bucket[source]))


def test_gcn_by_hand_quantizes_weight_message_and_output_where_they_are_made() -> None:
    data = small_graph()
    layer = GCNConv(CHANNELS, 4, normalize=False, bias=False)
    wrapped = quantized(layer, data)
    slots, linear = slots_of(wrapped), slots_of(wrapped.lin)
    x = slots["argument_x"](data.x)
    projected = x @ linear["parameter_weight"](layer.lin.weight).t()
    messages = slots["message_x"](projected)
    aggregated = torch.zeros_like(messages).index_add_(0, data.edge_index[1], messages[data.edge_index[0]])
    torch.testing.assert_close(wrapped(data.x, data.edge_index), slots["aggregate"](aggregated))


@pytest.mark.parametrize("name", ["gcn", "sage", "gin"])
def test_csr_keeps_the_fused_path_and_gives_the_numbers_of_edge_index(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, sparse = small_graph(), csr_graph()
    model = zoo_model(name)
    wrapped = quantized(model, data, spec=bucketed, bucket=data.bucket)
    wanted = wrapped(data.x, data.edge_index)

    def fail(self: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
        raise AssertionError("the message of every edge was made")

    for convolution in wrapped.convs:
        monkeypatch.setattr(type(convolution).swapped_from, "message", fail)
        monkeypatch.setattr(type(convolution), "message", fail)
    torch.testing.assert_close(wrapped(sparse.x, sparse.adj_t), wanted, rtol=1e-5, atol=1e-5)


def test_a_plan_made_on_csr_wraps_the_fused_path_too(monkeypatch: pytest.MonkeyPatch) -> None:
    sparse = csr_graph()
    model = zoo_model("gcn")
    wrapped = quantized(model, sparse)
    for convolution in wrapped.convs:
        monkeypatch.setattr(type(convolution), "message", None)
    assert (wrapped(sparse.x, sparse.adj_t) - model(sparse.x, sparse.adj_t)).norm() > 0


def test_edge_weights_are_the_same_as_an_argument_and_as_csr_values() -> None:
    data = small_graph()
    weight = torch.rand(data.edge_index.size(1), generator=torch.Generator().manual_seed(0)) + 0.5
    layer = GCNConv(CHANNELS, 4)
    run = {"x": data.x, "edge_index": data.edge_index, "edge_weight": weight}
    table = find_sites(layer, lambda model: model(**run), Workload(40, data.edge_index.size(1)))
    node_sites = [site for site in table.sites if site.rows != "edge"]
    wrapped = wrap_sites(layer, [Assignment(site, uniform(site)) for site in node_sites])
    wrapped(**run)
    freeze(wrapped)
    adj_t = to_torch_csr_tensor(data.edge_index.flip(0), weight, size=(40, 40))
    torch.testing.assert_close(wrapped(data.x, adj_t), wrapped(**run), rtol=1e-5, atol=1e-5)
    assert not torch.equal(wrapped(**run), wrapped(data.x, data.edge_index))


def bipartite_case() -> tuple[nn.Module, tuple[Tensor, Tensor], Tensor]:
    generator = torch.Generator().manual_seed(2)
    pair = torch.rand(10, 4, generator=generator), torch.rand(6, 5, generator=generator)
    edge_index = torch.stack([torch.arange(10), torch.arange(10) % 6])
    torch.manual_seed(0)
    return SAGEConv((4, 5), 3), pair, edge_index


def test_a_pair_of_inputs_has_a_site_for_each_side() -> None:
    layer, pair, edge_index = bipartite_case()
    table = find_sites(layer, lambda model: model(pair, edge_index), Workload(10, 10))
    inputs = {str(site.name): site.shape for site in table.sites if site.features}
    assert sorted(inputs.values()) == [(6, 5), (10, 4)]
    wrapped = wrap_sites(layer, [Assignment(site, uniform(site)) for site in table.sites])
    wrapped(pair, edge_index)
    freeze(wrapped)
    adj_t = to_torch_csr_tensor(edge_index.flip(0), size=(6, 10))
    found = wrapped(pair, edge_index)
    assert found.shape == (6, 3)
    torch.testing.assert_close(wrapped(pair, adj_t), found, rtol=1e-5, atol=1e-5)
    relative = (found - layer(pair, edge_index)).norm() / found.norm()
    assert 0 < relative < 0.2


def test_a_pair_of_the_same_tensor_is_quantized_once_and_stays_one_tensor() -> None:
    _, pair, _ = bipartite_case()
    seen: list[tuple[Tensor, Tensor]] = []

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = SAGEConv((4, 4), 3)

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            return self.conv((x, x), edge_index)

    model = Model()
    edge_index = torch.stack([torch.arange(10), torch.arange(10).roll(1)])
    table = find_sites(model, lambda probed: probed(pair[0], edge_index), Workload(10, 10))
    assert [str(site.name) for site in table.sites if site.features] == ["conv:input"]
    wrapped = wrap_sites(model, [Assignment(site, uniform(site)) for site in table.sites])
    wrapped(pair[0], edge_index)
    freeze(wrapped)
    handle = wrapped.conv.lin_r.register_forward_pre_hook(lambda _, args: seen.append(args))
    wrapped(pair[0], edge_index)
    handle.remove()
    quantizer = slots_of(wrapped.conv)["argument_x"]
    assert torch.equal(seen[0][0], quantizer(pair[0]))


def test_attention_is_quantized_before_its_dropout() -> None:
    data = small_graph()
    layer = GATConv(CHANNELS, 4, heads=2, dropout=0.5)
    table = sites_on(layer, data)
    attention = next(site for site in table.sites if site.name.component == "attention")
    wrapped = wrap_sites(layer, [Assignment(attention, QuantizerSpec(3))])
    wrapped.eval()
    wrapped(data.x, data.edge_index)
    freeze(wrapped)
    made: dict[str, Tensor] = {}
    # What the messages then carry, caught where PyG hands it to the aggregation.
    original = type(wrapped).propagate

    def propagate(self: GATConv, edge_index: Tensor, **kwargs: Any) -> Tensor:
        made["training" if self.training else "eval"] = kwargs["alpha"]
        return original(self, edge_index, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(wrapped), "propagate", propagate)
        wrapped(data.x, data.edge_index)
        wrapped.train()
        torch.manual_seed(0)
        wrapped(data.x, data.edge_index)
    kept = made["training"] != 0
    assert 0.3 < kept.float().mean() < 0.7
    # q(attention) dropped and scaled by 1/(1-p), not q of what dropout has scaled.
    torch.testing.assert_close(made["training"][kept], made["eval"][kept] / 0.5)


class GatedConv(MessagePassing):
    """Sigmoid attention that a Dropout module drops where it is made."""

    def __init__(self) -> None:
        super().__init__(aggr="add")
        self.lin = nn.Linear(CHANNELS, 3)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        x = self.lin(x)
        return self.propagate(edge_index, x=x, gate=self.edge_updater(edge_index, x=x))

    def edge_update(self, x_i: Tensor, x_j: Tensor) -> Tensor:
        return self.dropout((x_i * x_j).sum(-1, keepdim=True).sigmoid())

    def message(self, x_j: Tensor, gate: Tensor) -> Tensor:
        return gate * x_j


def test_a_layer_whose_dropout_is_a_module_trains() -> None:
    data = small_graph()
    wrapped = quantized(GatedConv(), data).train()
    wrapped(data.x, data.edge_index).sum().backward()
    assert float(dict(wrapped.named_parameters())["lin.weight"].grad.abs().sum()) > 0


def test_a_class_typed_in_at_a_prompt_has_no_source_and_is_wrapped_all_the_same() -> None:
    source = """
class Typed(GatedConv):
    def edge_update(self, x_i, x_j):
        return (x_i * x_j).sum(-1, keepdim=True).sigmoid()
"""
    names = {"GatedConv": GatedConv, "__name__": __name__}
    exec(source, names)
    data = small_graph()
    components = [site.name.component for site in sites_on(names["Typed"](), data).sites]
    assert "attention" in components


def test_observing_attention_in_training_keeps_its_range_within_one() -> None:
    data = small_graph()
    layer = GATConv(CHANNELS, 4, heads=2, dropout=0.8)
    table = sites_on(layer, data)
    attention = next(site for site in table.sites if site.name.component == "attention")
    wrapped = wrap_sites(layer, [Assignment(attention, QuantizerSpec(8))]).train()
    for _ in range(5):
        wrapped(data.x, data.edge_index)
    assert quantizer_at(wrapped, attention).phase is Phase.OBSERVE
    assert float(quantizer_at(wrapped, attention).observer.upper) <= 1.0 + 1e-6


def test_the_zoos_features_are_quantized_before_dropout() -> None:
    data = small_graph()
    model = zoo_model("gcn", dropout=0.5)
    table = sites_on(model, data)
    hidden = next(site for site in table.sites if str(site.name) == "convs.1:input")
    assert hidden.place.module == "dropouts.1"
    wrapped = wrap_sites(model, [Assignment(hidden, QuantizerSpec(2))])
    wrapped(data.x, data.edge_index)
    freeze(wrapped)
    wrapped.train()
    wrapped.dropouts[0].p = 0.0
    seen: list[Tensor] = []
    handle = wrapped.convs[1].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    torch.manual_seed(0)
    wrapped(data.x, data.edge_index)
    wrapped.eval()
    wrapped(data.x, data.edge_index)
    handle.remove()
    dropped, whole = seen
    kept = dropped != 0
    assert 0 < int(kept.sum()) < kept.numel()
    torch.testing.assert_close(dropped[kept], whole[kept] / 0.5)


def test_a_users_module_with_linear_layers_and_functional_relu_is_wrapped_whole() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Linear(CHANNELS, 8)
            self.conv = GCNConv(8, 8)
            self.head = nn.Linear(8, 3)

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            hidden = torch.relu(self.encoder(x))
            hidden = torch.nn.functional.relu(self.conv(hidden, edge_index))
            return self.head(hidden)

    data = small_graph()
    torch.manual_seed(0)
    model = Mixed()
    names = [str(site.name) for site in sites_on(model, data).sites]
    for wanted in ("encoder:input", "encoder:weight", "conv.lin:weight", "conv:message", "head:weight"):
        assert wanted in names
    wrapped = quantized(model, data)
    relative = (wrapped(data.x, data.edge_index) - model(data.x, data.edge_index)).norm()
    assert 0 < relative < 0.3 * model(data.x, data.edge_index).norm()


def test_a_parameter_slot_keeps_the_gradient_of_the_float_parameter() -> None:
    data = small_graph()
    wrapped = quantized(zoo_model("gcn", dropout=0.0), data).train()
    wrapped(data.x, data.edge_index).sum().backward()
    assert wrapped.convs[0].lin.weight.grad_fn is not None  # read through the quantizer
    raw = dict(wrapped.named_parameters())["convs.0.lin.weight"]
    assert raw.grad is not None
    assert float(raw.grad.abs().sum()) > 0


def test_quantized_weights_are_the_codes_of_the_raw_weights() -> None:
    data = small_graph()
    wrapped = quantized(zoo_model("gcn"), data)
    layer = wrapped.convs[0].lin
    quantizer = slots_of(layer)["parameter_weight"]
    raw = layer._parameters["weight"]
    assert torch.equal(layer.weight, fake_quantize(raw, quantizer.parameters_of(raw)))
    assert len(torch.unique(layer.weight[0])) <= 15


def test_the_swapped_class_is_made_once_and_remembers_the_users() -> None:
    first, second = nn.Linear(2, 2), nn.Linear(3, 1)
    for module in (first, second):
        swap(module, SiteQuantizers())
    assert type(first) is type(second)
    assert is_swapped(first)
    assert type(first).swapped_from is nn.Linear
    assert isinstance(first, nn.Linear)
    assert swapped_class(nn.Linear, frozenset({"weight"}), False) is type(first)


def test_a_module_without_quantizers_runs_as_before() -> None:
    layer = nn.Linear(2, 2)
    x = torch.rand(3, 2)
    wanted = layer(x)
    swap(layer, SiteQuantizers())
    assert torch.equal(layer(x), wanted)
    assert torch.equal(copy.deepcopy(layer)(x), wanted)


def test_a_bucketed_slot_in_a_loaded_part_reads_the_bound_ids() -> None:
    data = small_graph()
    wrapped = quantized(zoo_model("gcn"), data, spec=bucketed, bucket=data.bucket)
    with bound_buckets(data.bucket):
        found = wrapped.convs[0](data.x, data.edge_index)
    assert found.shape == (40, 16)


def test_an_edge_level_site_of_a_message_that_is_no_gather_says_so() -> None:
    from torch_geometric.nn import EdgeConv

    data = small_graph()
    layer = EdgeConv(nn.Linear(2 * CHANNELS, 4))
    sites: tuple[Site, ...] = sites_on(layer, data).sites
    edges = [site for site in sites if site.rows == "edge" and site.name.component == "message"]
    assert edges
    assert any("quantized on the edges" in note for site in edges for note in site.notes)
