from __future__ import annotations

import pytest
import torch
from torch_geometric.data import Data

from sgq.errors import DataError
from sgq.graph.adjacency import adjacency_of, edge_count, edge_list, in_degree, is_sparse, out_degree


def path_graph() -> Data:
    """0 -> 1 -> 2, and 0 -> 2; node 3 is isolated."""
    return Data(x=torch.ones(4, 1), edge_index=torch.tensor([[0, 0, 1], [1, 2, 2]]))


def transposed() -> Data:
    """The same edges as `adj_t`: rows are targets."""
    adj_t = torch.sparse_csr_tensor(
        torch.tensor([0, 0, 1, 3, 3]), torch.tensor([0, 0, 1]), torch.ones(3), size=(4, 4)
    )
    return Data(x=torch.ones(4, 1), adj_t=adj_t)


@pytest.mark.parametrize("make", [path_graph, transposed])
def test_degrees_and_edges_are_the_same_in_either_form(make: object) -> None:
    data = make()
    assert in_degree(data).tolist() == [0, 1, 2, 0]
    assert out_degree(data).tolist() == [2, 1, 0, 0]
    source, target = edge_list(adjacency_of(data))
    assert sorted(zip(source.tolist(), target.tolist(), strict=True)) == [(0, 1), (0, 2), (1, 2)]
    assert edge_count(adjacency_of(data)) == 3


def test_only_an_edge_list_is_not_sparse() -> None:
    assert not is_sparse(adjacency_of(path_graph()))
    assert is_sparse(adjacency_of(transposed()))
    assert is_sparse(torch.eye(3).to_sparse_coo())


def test_multi_edges_count_as_often_as_they_stand() -> None:
    data = Data(x=torch.ones(2, 1), edge_index=torch.tensor([[0, 0, 0], [1, 1, 1]]))
    assert in_degree(data).tolist() == [0, 3]


def test_a_graph_without_edges_has_degrees_of_zero() -> None:
    data = Data(x=torch.ones(3, 1), edge_index=torch.empty(2, 0, dtype=torch.long))
    assert in_degree(data).tolist() == [0, 0, 0]
    assert edge_count(data.edge_index) == 0


def test_data_without_an_adjacency_is_an_error_that_names_both_forms() -> None:
    with pytest.raises(DataError, match='neither "edge_index" nor "adj_t"'):
        adjacency_of(Data(x=torch.ones(3, 1)))
