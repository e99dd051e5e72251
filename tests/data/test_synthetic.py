"""The embedded graphs: fixed content, and the shape that they promise."""

from __future__ import annotations

import hashlib

import torch

from sgq.data import load
from sgq.data.synthetic import synthetic_node_data
from sgq.data.synthetic_graphs import synthetic_graph_list


def digest(*tensors: torch.Tensor) -> str:
    joined = hashlib.sha256()
    for tensor in tensors:
        joined.update(tensor.numpy().tobytes())
    return joined.hexdigest()[:16]


def test_the_graph_is_the_same_on_every_run() -> None:
    data = synthetic_node_data()
    assert digest(data.x, data.edge_index, data.y, data.train_mask, data.val_mask) == "6eb7467989acd3c3"


def test_the_graph_list_is_the_same_on_every_run() -> None:
    graphs = synthetic_graph_list()
    tensors = [tensor for graph in graphs for tensor in (graph.x, graph.edge_index, graph.y)]
    assert digest(*tensors) == "95ededadb592b62e"


def test_the_graph_has_about_coras_size_hubs_and_sparse_features() -> None:
    dataset = load("synthetic")
    degree = torch.bincount(dataset.data.edge_index[1], minlength=dataset.num_nodes)
    assert (dataset.num_nodes, dataset.num_edges, dataset.num_features) == (2708, 10520, 1433)
    assert dataset.num_classes == 7
    assert int((degree > 100).sum()) >= 1
    assert int((degree == 0).sum()) < 10
    assert int(degree.median()) <= 3
    assert 0.008 < dataset.feature_nonzeros / (dataset.num_nodes * dataset.num_features) < 0.013
    assert dataset.data.x.layout == torch.sparse_csr
    assert dataset.data.is_undirected()
    assert not dataset.data.has_self_loops()


def test_the_split_is_like_the_public_one() -> None:
    dataset = load("synthetic")
    assert dataset.data.y[dataset.train_mask].bincount().tolist() == [20] * 7
    assert [int(mask.sum()) for mask in (dataset.val_mask, dataset.test_mask)] == [500, 1000]
    assert not (dataset.train_mask & dataset.val_mask).any()
    assert not ((dataset.train_mask | dataset.val_mask) & dataset.test_mask).any()


def test_feature_rows_sum_to_one() -> None:
    x = load("synthetic", features="dense").data.x
    torch.testing.assert_close(x.sum(dim=1), torch.ones(2708))


def test_graph_classes_are_balanced_and_differ_in_triangles() -> None:
    dataset = load("synthetic-graphs")
    labels = torch.cat([graph.y for graph in dataset.graphs])
    assert labels.bincount().tolist() == [100, 100]
    triangles = [0.0, 0.0]
    for graph in dataset.graphs:
        dense = torch.zeros(graph.num_nodes, graph.num_nodes)
        dense[graph.edge_index[0], graph.edge_index[1]] = 1.0
        triangles[int(graph.y)] += float((dense @ dense @ dense).trace()) / 6
    assert triangles[1] > 2 * triangles[0]
    assert [part.numel() for part in (dataset.train, dataset.val, dataset.test)] == [160, 20, 20]
