"""The zoo: names, structure, both layouts of features and edges, tracing, and users' own models."""

from __future__ import annotations

import copy
import inspect
import sys
from dataclasses import replace
from types import ModuleType

import pytest
import torch
from torch import nn
from torch_geometric.data import Batch, Data
from torch_geometric.nn import AGNNConv
from torch_geometric.transforms import ToSparseTensor

from sgq.data import GraphDataset, load, normalise_adjacency
from sgq.errors import ModelError, UsageError
from sgq.models import ModelOptions, build, default_options, model_names, resolve_model

EDGES = torch.tensor([[0, 1, 1, 2, 2, 3, 3, 0, 4, 0], [1, 0, 2, 1, 3, 2, 0, 3, 0, 4]])
NODES, FEATURES, CLASSES = 6, 12, 3  # node 5 is isolated
COMPILED = [
    pytest.param(name, marks=[] if name in ("gcn", "gat") else pytest.mark.soak) for name in model_names()
]
"""Compiling takes seconds: the short run has one model without attention and one with."""


def features() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return (torch.rand(NODES, FEATURES, generator=generator) < 0.3).float()


def small(name: str, **options: object) -> nn.Module:
    torch.manual_seed(0)
    chosen = replace(default_options(name), **options)
    return build(name, in_channels=FEATURES, out_channels=CLASSES, options=chosen)


def adjacency() -> torch.Tensor:
    data = Data(edge_index=EDGES, num_nodes=NODES)
    return ToSparseTensor(layout=torch.sparse_csr)(data).adj_t


@pytest.mark.parametrize("name", model_names())
def test_sparse_features_and_csr_edges_give_the_same_logits_and_gradients(name: str) -> None:
    model = small(name).eval()
    x = features()
    results = []
    for node_features in (x, x.to_sparse_csr()):
        for edges in (EDGES, adjacency()):
            model.zero_grad()
            out = model(node_features, edges)
            out.square().sum().backward()
            gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
            results.append((out.detach(), gradients))
    assert results[0][0].shape == (NODES, CLASSES)
    for out, gradients in results[1:]:
        torch.testing.assert_close(out, results[0][0])
        torch.testing.assert_close(gradients, results[0][1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", model_names())
def test_training_reaches_every_trainable_parameter_with_sparse_features(name: str) -> None:
    model = small(name, dropout=0.1).train()
    model(features().to_sparse_csr(), EDGES).square().sum().backward()
    missing = [key for key, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert missing == []


@pytest.mark.parametrize("name", model_names())
def test_a_graph_without_edges_gives_finite_logits(name: str) -> None:
    out = small(name).eval()(features(), torch.empty(2, 0, dtype=torch.long))
    assert torch.isfinite(out).all()


@pytest.mark.parametrize("name", COMPILED)
def test_export_with_dynamic_sizes_gives_the_eager_logits(name: str) -> None:
    model = small(name).eval()
    nodes, edges = torch.export.Dim("nodes", min=2), torch.export.Dim("edges", min=2)
    shapes = ({0: nodes}, {1: edges})
    program = torch.export.export(model, (features(), EDGES), dynamic_shapes=shapes, strict=False)
    x, fewer = torch.rand(9, FEATURES), EDGES[:, :7]
    torch.testing.assert_close(program.module()(x, fewer), model(x, fewer))


@pytest.mark.parametrize("name", COMPILED)
def test_compile_gives_the_eager_logits(name: str) -> None:
    model = small(name).eval()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(features(), EDGES), model(features(), EDGES))


@pytest.mark.parametrize("name", model_names())
def test_only_gcn_takes_edge_weights(name: str) -> None:
    parameters = inspect.signature(small(name).forward).parameters
    assert ("edge_weight" in parameters) == (name == "gcn")
    assert list(parameters)[:2] == ["x", "edge_index"]


@pytest.mark.parametrize("name", model_names())
@pytest.mark.parametrize("readout", ["mean", "sum", "max"])
def test_a_readout_gives_each_graph_of_a_batch_what_it_gets_alone(name: str, readout: str) -> None:
    model = small(name, readout=readout).eval()
    graphs = [Data(x=features(), edge_index=EDGES), Data(x=features()[:4], edge_index=EDGES[:, :6])]
    batch = Batch.from_data_list(graphs)
    together = model(batch.x, batch.edge_index, batch=batch.batch, batch_size=2)
    alone = torch.cat([model(graph.x, graph.edge_index) for graph in graphs])
    assert together.shape == (2, CLASSES)
    torch.testing.assert_close(together, alone)


def test_activations_and_dropouts_are_submodules_between_the_convolutions() -> None:
    names = set(dict(small("gat", layers=3).named_modules()))
    assert {"convs.0", "convs.1", "convs.2", "activations.0", "activations.1"} <= names
    assert {"dropouts.0", "dropouts.1", "dropouts.2"} <= names
    assert "activations.2" not in names
    assert {"lin1", "lin2", "convs.1", "activations.0", "dropouts.1"} <= set(
        dict(small("agnn").named_modules())
    )


def test_every_activation_and_dropout_runs_in_node_and_graph_models() -> None:
    for name in model_names():
        for readout in (None, "mean"):
            model = small(name, readout=readout, layers=3).eval()
            ran: set[str] = set()
            for key, module in model.named_modules():
                if not list(module.children()):
                    module.register_forward_hook(lambda *_, key=key, ran=ran: ran.add(key))
            model(features(), EDGES)
            wanted = {
                key for key, module in model.named_modules() if key.startswith(("activ", "drop", "lin"))
            }
            assert wanted - {"activations", "dropouts"} <= ran, name


def test_gat_is_eight_heads_of_eight_and_averages_the_last() -> None:
    model = build("gat", in_channels=FEATURES, out_channels=CLASSES)
    assert model.convs[0].lin.weight.shape == (64, FEATURES)
    assert model.convs[1].lin.weight.shape == (CLASSES, 64)
    assert build("gat-256", in_channels=5, out_channels=2).convs[0].lin.weight.shape == (256, 5)


def test_agnn_has_the_numbers_of_pygs_agnn() -> None:
    model = small("agnn").eval()
    x = model.activations[0](model.lin1(features()))
    for _ in range(2):
        x = AGNNConv(requires_grad=False)(x, EDGES)
    torch.testing.assert_close(model(features(), EDGES), model.lin2(x))


def test_normalising_the_edges_once_gives_the_same_gcn() -> None:
    for form in ("edge_index", "csr"):
        dataset = load("synthetic", adjacency=form)
        torch.manual_seed(0)
        model, _ = resolve_model("gcn", dataset=dataset)
        once = normalise_adjacency(dataset)
        torch.manual_seed(0)
        other, _ = resolve_model("gcn", dataset=once)
        assert not other.convs[0].normalize
        edges = dataset.data.edge_index if form == "edge_index" else dataset.data.adj_t
        expected = model.eval()(dataset.data.x, edges)
        other.eval()
        if form == "csr":
            got = other(once.data.x, once.data.adj_t)
        else:
            got = other(once.data.x, once.data.edge_index, once.data.edge_weight)
        torch.testing.assert_close(got, expected)
        assert normalise_adjacency(once) is once


def test_a_model_with_loops_of_its_own_refuses_normalised_edges() -> None:
    with pytest.raises(ModelError, match="only gcn"):
        resolve_model("gat", dataset=normalise_adjacency(load("synthetic")))


def test_an_unknown_model_offers_the_nearest_name() -> None:
    with pytest.raises(ModelError, match='Did you mean "gatv2"'):
        build("gatv3", in_channels=2, out_channels=2)


@pytest.mark.parametrize(
    "options", [{"hidden": 0}, {"layers": True}, {"dropout": 1.0}, {"readout": "median"}, {"heads": 1.5}]
)
def test_options_out_of_range_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ModelError, match=r"expected|unknown"):
        ModelOptions(**options)


@pytest.fixture
def own_models(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("own_models_for_tests")
    module.with_sizes = lambda in_channels, out_channels: nn.Linear(in_channels, out_channels)  # type: ignore[attr-defined]
    module.without_sizes = lambda: nn.Linear(1, 1)  # type: ignore[attr-defined]
    module.wrong = lambda: 3  # type: ignore[attr-defined]
    module.broken = lambda: 1 / 0  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "own_models_for_tests", module)


@pytest.fixture(scope="module")
def dataset() -> GraphDataset:
    return load("synthetic")


def test_features_of_another_type_than_the_weights_are_refused(dataset: GraphDataset) -> None:
    data = copy.copy(dataset.data)
    data.x = data.x.to(torch.float64)
    with pytest.raises(ModelError, match=r"expected float32 .* \(got torch.float64\)"):
        resolve_model("gcn", dataset=replace(dataset, data=data))


@pytest.mark.usefixtures("own_models")
def test_a_factory_gets_the_sizes_that_its_signature_takes(dataset: GraphDataset) -> None:
    model, name = resolve_model("own_models_for_tests:with_sizes", dataset=dataset)
    assert (model.in_features, model.out_features) == (1433, 7)
    assert name == "own_models_for_tests:with_sizes"
    assert resolve_model("own_models_for_tests:without_sizes", dataset=dataset)[0].in_features == 1


@pytest.mark.usefixtures("own_models")
def test_a_bad_factory_is_one_clear_error(dataset: GraphDataset) -> None:
    with pytest.raises(ModelError, match="got int"):
        resolve_model("own_models_for_tests:wrong", dataset=dataset)
    with pytest.raises(ModelError, match="ZeroDivisionError"):
        resolve_model("own_models_for_tests:broken", dataset=dataset)
    with pytest.raises(ModelError, match="no signature"):
        resolve_model("builtins:dict", dataset=dataset)
    with pytest.raises(UsageError, match='Did you mean "wrong"'):
        resolve_model("own_models_for_tests:wrang", dataset=dataset)
    with pytest.raises(UsageError, match="cannot import"):
        resolve_model("no_such_package_here:model", dataset=dataset)
    with pytest.raises(ModelError, match="got int"):
        resolve_model(7, dataset=dataset)


def test_a_module_is_taken_as_it_is(dataset: GraphDataset) -> None:
    model = nn.Linear(2, 2)
    assert resolve_model(model, dataset=dataset) == (model, "Linear")


def test_a_graph_task_gets_a_model_with_readout() -> None:
    dataset = load("synthetic-graphs")
    model, _ = resolve_model("gin", dataset=dataset)
    graph = dataset.graphs[0]
    assert model.eval()(graph.x, graph.edge_index).shape == (1, 2)
