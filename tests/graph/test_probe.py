from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.nn import AGNNConv, GATConv, GATv2Conv, GCNConv, TransformerConv

from quantizers import QuantizerSpec
from sgq.errors import ModelError
from sgq.graph.sites import Site, SiteTable
from sgq.graph.swap import is_swapped
from tests.graph.small_graph import (
    CHANNELS,
    NODES,
    TENSOR,
    csr_graph,
    quantized,
    sites_on,
    small_graph,
    zoo_model,
)


def named(table: SiteTable) -> dict[str, Site]:
    return {str(site.name): site for site in table.sites}


def test_gcn_has_these_sites_in_this_order() -> None:
    table = sites_on(zoo_model("gcn"), small_graph())
    assert list(named(table)) == [
        "convs.0:input",
        "convs.0.lin:weight",
        "convs.0:message",
        "convs.0:aggregate",
        "convs.0:output",
        "convs.1:input",
        "convs.1.lin:weight",
        "convs.1:message",
        "convs.1:aggregate",
        "convs.1:output",
    ]
    assert [parameter.name for parameter in table.float_parameters] == ["convs.0.bias", "convs.1.bias"]
    assert [parameter.values for parameter in table.float_parameters] == [16, 3]
    assert table.unreached == ()


def test_a_tensor_with_two_names_is_one_site_that_lists_the_other() -> None:
    sites = named(sites_on(zoo_model("gcn"), small_graph()))
    assert [str(name) for name in sites["convs.0:input"].names] == ["convs.0:input", "convs.0.lin:input"]
    assert [str(name) for name in sites["convs.0:message"].names] == ["convs.0:message", "convs.0.lin:output"]


def test_the_consumer_before_a_dropout_is_quantized_ahead_of_it_and_says_so() -> None:
    site = named(sites_on(zoo_model("gcn"), small_graph()))["convs.1:input"]
    assert site.place.module == "dropouts.1"
    assert site.notes == ('quantized before "dropouts.1", a dropout',)


def test_gathered_rows_count_edges_and_self_loops() -> None:
    data = small_graph()
    sites = named(sites_on(zoo_model("gcn"), data))
    edges = data.edge_index.size(1)
    assert sites["convs.0:message"].messages == edges + NODES  # GCN adds a self-loop to every node
    assert sites["convs.0:input"].messages == 0
    assert named(sites_on(zoo_model("gin"), data))["convs.0:input"].messages == edges


def test_only_the_data_s_own_features_are_features() -> None:
    data = small_graph()
    sites = sites_on(zoo_model("gcn"), data).sites
    features = [site for site in sites if site.features]
    assert [str(site.name) for site in features] == ["convs.0:input"]
    assert features[0].nonzeros == int((data.x != 0).sum())
    assert all(site.nonzeros is None for site in sites if not site.features)


def test_sparse_features_stay_features_when_the_model_makes_them_dense() -> None:
    data = small_graph()
    nonzeros = int((data.x != 0).sum())
    data.x = data.x.to_sparse_csr()
    for name in ("gcn", "sage"):
        features = [site for site in sites_on(zoo_model(name), data).sites if site.features]
        assert [str(site.name) for site in features] == ["convs.0:input"]
        assert features[0].nonzeros == nonzeros


def test_features_that_the_model_turns_into_another_sparse_layout_stay_features() -> None:
    class Coordinates(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(CHANNELS, 3)

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            return self.linear(x.to_sparse_coo())

    data = small_graph()
    data.x = data.x.to_sparse_csr()
    assert named(sites_on(Coordinates(), data))["linear:input"].features


def test_stored_tensors_are_parameters_inputs_messages_attention_and_model_outputs() -> None:
    sites = named(sites_on(zoo_model("gat"), small_graph()))
    stored = {name for name, site in sites.items() if site.stored}
    assert {"convs.0:input", "convs.0:message", "convs.0:attention", "convs.1:output"} <= stored
    assert "convs.0:output" not in stored
    assert "convs.0:aggregate" not in stored


def test_rows_tell_parameters_nodes_and_edges_apart() -> None:
    data = small_graph()
    sites = named(sites_on(zoo_model("gat"), data))
    assert sites["convs.0.lin:weight"].rows == "parameter"
    assert sites["convs.0:message"].rows == "node"
    assert sites["convs.0:attention"].rows == "edge"
    assert sites["convs.0:attention"].shape == (data.edge_index.size(1) + NODES, 8)


@pytest.mark.parametrize(
    ("layer", "site"),
    [(TransformerConv(CHANNELS, 4), ":message.value"), (AGNNConv(), ":input")],
    ids=["TransformerConv", "AGNNConv"],
)
def test_attention_hidden_in_message_is_no_site_and_what_it_weighs_is_noted(
    layer: nn.Module, site: str
) -> None:
    sites = named(sites_on(layer, small_graph()))
    assert not any(name.endswith(":attention") for name in sites)
    assert any("attention is computed inside message" in note for note in sites[site].notes)


@pytest.mark.parametrize("layer", [GCNConv(CHANNELS, 4), GATConv(CHANNELS, 4)], ids=["GCNConv", "GATConv"])
def test_a_factor_from_the_graph_or_from_edge_update_is_no_hidden_attention(layer: nn.Module) -> None:
    assert all(site.notes == () for site in sites_on(layer, small_graph()).sites)


def test_edge_weights_belong_to_the_graph_as_an_argument_as_in_csr() -> None:
    class Weighted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = GCNConv(CHANNELS, 3)

        def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
            return self.conv(x, edge_index, edge_weight)

    data = small_graph()
    data.edge_weight = torch.rand(data.edge_index.size(1), generator=torch.Generator().manual_seed(0))
    assert list(named(sites_on(Weighted(), data))) == list(named(sites_on(Weighted(), csr_graph())))


def test_an_edge_tensor_that_the_model_makes_or_with_columns_stays_a_site() -> None:
    class Learned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate = nn.Linear(2, 1)
            self.conv = GCNConv(CHANNELS, 3)

        def forward(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor) -> Tensor:
            return self.conv(x, edge_index, self.gate(edge_attr).squeeze(-1).sigmoid())

    data = small_graph()
    data.edge_attr = torch.rand(data.edge_index.size(1), 2, generator=torch.Generator().manual_seed(0))
    sites = named(sites_on(Learned(), data))
    assert sites["gate:input"].rows == sites["conv:input.edge_weight"].rows == "edge"


def test_csr_has_the_sites_of_edge_index() -> None:
    dense = named(sites_on(zoo_model("gcn"), small_graph()))
    sparse = named(sites_on(zoo_model("gcn"), csr_graph()))
    assert list(dense) == list(sparse)
    assert all(dense[name].shape == sparse[name].shape for name in dense)


def test_the_probe_leaves_the_model_as_it_was() -> None:
    data = small_graph()
    model = zoo_model("gat").train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    sites_on(model, data)
    assert model.training
    assert not any(is_swapped(module) for module in model.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_module_that_never_runs_is_listed_as_unreached() -> None:
    class Spare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = GCNConv(CHANNELS, 3)
            self.unused = nn.Linear(3, 3)

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            return self.conv(x, edge_index)

    table = sites_on(Spare(), small_graph())
    assert table.unreached == ("unused",)
    assert {"unused.weight", "unused.bias"} <= {parameter.name for parameter in table.float_parameters}


def test_a_model_that_does_not_run_is_a_model_error_with_the_reason() -> None:
    data = small_graph()
    data.x = data.x[:, :5]
    with pytest.raises(ModelError, match=r"GCN does not run on this data: .*shapes cannot be multiplied"):
        sites_on(zoo_model("gcn"), data)


def test_a_failed_assertion_of_the_model_is_a_model_error_too() -> None:
    class Picky(nn.Module):
        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            assert x.size(1) == 5
            return x

    with pytest.raises(ModelError, match="Picky does not run on this data: "):
        sites_on(Picky(), small_graph())


def test_a_layer_used_twice_is_one_site_per_slot() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = GCNConv(CHANNELS, CHANNELS)

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            return self.conv(torch.relu(self.conv(x, edge_index)), edge_index)

    data = small_graph()
    sites = named(sites_on(Shared(), data))
    assert [name for name in sites if name.startswith("conv.lin:weight")] == ["conv.lin:weight"]
    assert sites["conv:message"].messages == 2 * (data.edge_index.size(1) + NODES)


@pytest.mark.parametrize("layer", [GATv2Conv(CHANNELS, 4, heads=2), TransformerConv(CHANNELS, 4, heads=2)])
def test_a_scale_a_channel_fits_the_tensor_where_a_layer_reshapes_it_into_heads(layer: nn.Module) -> None:
    data = small_graph()
    model = quantized(
        layer,
        data,
        spec=lambda site: QuantizerSpec(8, granularity="channel") if site.rows == "node" else TENSOR,
    )
    wanted = layer(data.x, data.edge_index)
    assert (model(data.x, data.edge_index) - wanted).norm() < 0.05 * wanted.norm()


def test_sites_survive_json() -> None:
    for site in sites_on(zoo_model("gat"), small_graph()).sites:
        assert Site.from_json(site.to_json()) == site
