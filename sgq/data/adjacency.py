"""The two forms of a graph's edges, and GCN's normalisation done once instead of in every step."""

from __future__ import annotations

import copy
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from sgq.data.dataset import GraphDataset

if TYPE_CHECKING:
    from torch_geometric.data import Data

Adjacency = Literal["edge_index", "csr"]


def with_adjacency(data: Data, *, adjacency: Adjacency) -> Data:
    """Return the graph with `edge_index`, or with `adj_t` (torch sparse CSR, row = target) in its place."""
    if adjacency == "edge_index" or "adj_t" in data:
        return data
    import torch
    from torch_geometric.transforms import ToSparseTensor

    checks = torch.sparse.check_sparse_tensor_invariants
    if not checks.is_enabled():
        checks.disable()  # the default, said aloud: PyG's sparse tensors in every forward warn otherwise
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Sparse CSR tensor support is in beta", category=UserWarning
        )
        result: Data = ToSparseTensor(layout=torch.sparse_csr)(data)
    return result


def normalise_adjacency(dataset: GraphDataset) -> GraphDataset:
    """Return the data set with self-loops and GCN's symmetric weights in its edges, computed once.

    For a transductive graph this saves the normalisation in every layer of every step. It adds a self-loop
    to every node; `data.in_degree` keeps the degrees before. Batches sampled from the result carry the
    whole graph's weights. Only models that take weights and add no self-loops fit: the zoo's GCN, which
    `resolve_model` then builds with `normalise=False`. The weights are Kipf and Welling's (arXiv
    1609.02907, eq. 2).
    """
    if dataset.normalised_adjacency:
        return dataset
    return replace(
        dataset,
        data=None if dataset.data is None else _normalise(dataset.data),
        graphs=[_normalise(graph) for graph in dataset.graphs],
        normalised_adjacency=True,
    )


def _normalise(data: Data) -> Data:
    # PyG's own GCNNorm transform stores a tuple where adj_t is a torch sparse tensor.
    from torch_geometric.nn.conv.gcn_conv import gcn_norm

    from sgq.graph.adjacency import in_degree

    data = copy.copy(data)
    data.in_degree = in_degree(data)
    nodes = data.x.size(0)
    if "adj_t" in data:
        data.adj_t, _ = gcn_norm(data.adj_t, None, nodes)
    else:
        data.edge_index, data.edge_weight = gcn_norm(data.edge_index, data.get("edge_weight"), nodes)
    return data
