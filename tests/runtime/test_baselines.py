from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.nn import GCNConv, SAGEConv

from sgq.data.features import sparse_csr
from sgq.errors import ModelError
from sgq.models import build, default_options
from sgq.runtime.baselines import FloatBaseline, float_baselines, in_form

NODES = 7


@pytest.fixture
def graph() -> Data:
    """Seven nodes, eight edges, node 6 without any; features of four channels."""
    torch.manual_seed(0)
    edges = torch.tensor([[0, 1, 2, 3, 4, 5, 0, 2], [1, 2, 3, 4, 5, 0, 3, 5]])
    return Data(x=torch.rand(NODES, 4), edge_index=edges, y=torch.zeros(NODES, dtype=torch.long))


def network(name: str) -> nn.Module:
    torch.manual_seed(1)
    return build(name, in_channels=4, out_channels=3).eval()


def by_name(model: nn.Module, data: Data) -> dict[str, FloatBaseline]:
    baselines = float_baselines(model, data, forms=("edge_index", "csr", "csr int32"))
    assert len(baselines.found) + len(baselines.absent) == 3
    return {baseline.name: baseline for baseline in baselines.found}


@pytest.mark.parametrize("name", ["gcn", "sage", "gin", "gat", "agnn"])
@pytest.mark.parametrize("form", ["edge_index", "csr"])
def test_every_baseline_gives_the_models_own_outputs(graph: Data, name: str, form: str) -> None:
    model = network(name)
    wanted = model(graph.x, graph.edge_index)
    given = in_form(graph, form)  # type: ignore[arg-type]
    for baseline in float_baselines(model, given).found:
        torch.testing.assert_close(baseline(), wanted, rtol=1e-4, atol=1e-6)
    assert len(float_baselines(model, given).found) == 2


def test_the_normalised_adjacency_is_kept_once_and_is_all_that_is_read_of_the_edges(graph: Data) -> None:
    model = network("gcn")
    found = by_name(model, graph)
    parameters = 4 * sum(parameter.numel() for parameter in model.parameters())
    features = 4 * NODES * 4
    edges = 8 + NODES  # with a self-loop each
    assert found["fp32 edge_index"].resident_bytes == parameters + features + (2 * 8 + 4) * edges
    csr = (8 + 4) * edges + 8 * (NODES + 1)
    assert found["fp32 csr"].resident_bytes == parameters + features + csr
    narrow = (4 + 4) * edges + 4 * (NODES + 1)
    assert found["fp32 csr int32"].resident_bytes == parameters + features + narrow
    assert {baseline.feature_bytes for baseline in found.values()} == {features}
    assert all(conv._cached_edge_index is None for conv in model.convs), "the given model stays as it is"


def test_a_model_with_another_layer_reads_the_edges_themselves_too(graph: Data) -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = GCNConv(4, 4), SAGEConv(4, 2)

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            return self.second(self.first(x, edge_index), edge_index)

    model = Mixed().eval()
    parameters = 4 * sum(parameter.numel() for parameter in model.parameters())
    baseline = by_name(model, graph)["fp32 edge_index"]
    cached, given = (2 * 8 + 4) * (8 + NODES), 2 * 8 * 8
    assert baseline.resident_bytes == parameters + 4 * NODES * 4 + cached + given


def test_sparse_features_stay_sparse_and_compact_and_are_dense_where_layers_want_them_so(graph: Data) -> None:
    graph.x = sparse_csr(torch.eye(NODES, 4))
    for name, wanted in (("gcn", (8 + 4) * 4 + 8 * (NODES + 1)), ("sage", 4 * NODES * 4)):
        assert by_name(network(name), graph)["fp32 csr"].feature_bytes == wanted


def test_a_form_that_the_model_does_not_take_is_absent_with_the_reason(graph: Data) -> None:
    class Listed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lin = nn.Linear(4, 2)

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            if edge_index.layout != torch.strided:
                raise ValueError("edge lists only\nplease")
            return self.lin(x).index_add(0, edge_index[1], self.lin(x)[edge_index[0]])

    baselines = float_baselines(Listed(), graph)
    assert [baseline.name for baseline in baselines.found] == ["fp32 edge_index"]
    assert str(baselines.absent[0]) == "fp32 csr is not measured: ValueError: edge lists only"


def test_a_form_with_other_outputs_is_no_baseline(graph: Data) -> None:
    class Counting(nn.Module):
        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            return x * (2.0 if edge_index.layout == torch.strided else 3.0)

    baselines = float_baselines(Counting(), graph)
    assert [baseline.name for baseline in baselines.found] == ["fp32 edge_index"]
    assert "outputs differ" in baselines.absent[0].reason


def test_without_any_form_that_runs_there_is_an_error(graph: Data) -> None:
    class Refusing(nn.Module):
        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            if edge_index.layout != torch.strided:
                raise ValueError("no")
            return x

    with pytest.raises(ModelError, match="no float baseline runs: fp32 csr is not measured"):
        float_baselines(Refusing(), graph, forms=("csr",))


def test_a_batch_of_graphs_and_a_model_that_takes_the_graph_whole(graph: Data) -> None:
    batch = Batch.from_data_list([graph, graph])
    model = build("gin", in_channels=4, out_channels=2, options=default_options("gin", task="graph")).eval()
    assert set(by_name(model, batch)) >= {"fp32 edge_index", "fp32 csr"}
    assert by_name(model, batch)["fp32 csr"]().shape == (2, 2)

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = SAGEConv(4, 2)

        def forward(self, data: Data) -> Tensor:
            return self.conv(data.x, data.edge_index)

    baseline = float_baselines(Whole(), graph, forms=("edge_index",)).found[0]
    parameters = 4 * sum(parameter.numel() for parameter in baseline.model.parameters())
    assert baseline.resident_bytes == parameters + 4 * NODES * 4 + 2 * 8 * 8, "labels are not read"
