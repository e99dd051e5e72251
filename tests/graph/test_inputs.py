from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data

from sgq.errors import ModelError
from sgq.graph.inputs import arguments_of, call


class TakesEdges(nn.Module):
    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        return x.sum() + (0 if edge_weight is None else edge_weight.sum())


class TakesAdjacency(nn.Module):
    def forward(self, x: Tensor, adj_t: Tensor) -> Tensor:
        return adj_t


class TakesData(nn.Module):
    def forward(self, data: Data) -> Tensor:
        return data.x


class TakesBatch(nn.Module):
    def forward(self, x: Tensor, batch: Tensor, batch_size: int, bucket: Tensor | None = None) -> Tensor:
        return torch.zeros(batch_size)


def graph(**fields: Tensor) -> Data:
    return Data(x=torch.ones(3, 2), edge_index=torch.tensor([[0, 1], [1, 2]]), **fields)


def test_arguments_are_found_by_name_and_optional_ones_may_be_missing() -> None:
    args, kwargs = arguments_of(TakesEdges(), graph())
    assert args == ()
    assert list(kwargs) == ["x", "edge_index"]
    assert float(call(TakesEdges(), graph(edge_weight=torch.tensor([2.0, 3.0])))) == 11.0


def test_edge_index_and_adj_t_stand_in_for_each_other() -> None:
    data = graph()
    assert call(TakesAdjacency(), data) is data.edge_index


def test_a_parameter_called_data_gets_the_graph_itself() -> None:
    data = graph()
    assert call(TakesData(), data) is data.x


def test_a_batch_gives_its_number_of_graphs() -> None:
    batch = Batch.from_data_list([graph(), graph()])
    assert call(TakesBatch(), batch).shape == (2,)
    assert "bucket" not in arguments_of(TakesBatch(), batch)[1]


def test_tuples_and_dicts_are_arguments_as_they_are() -> None:
    x = torch.ones(1)
    assert arguments_of(TakesEdges(), (x, x)) == ((x, x), {})
    assert arguments_of(TakesEdges(), {"x": x}) == ((), {"x": x})


def test_a_missing_argument_names_the_model_and_what_the_data_has() -> None:
    class NeedsTime(nn.Module):
        def forward(self, x: Tensor, edge_time: Tensor) -> Tensor:
            return x

    with pytest.raises(ModelError, match=r'NeedsTime\.forward needs "edge_time".*it has: edge_index, x'):
        call(NeedsTime(), graph())


def test_a_falsy_attribute_is_still_an_argument() -> None:
    data = graph(edge_weight=torch.zeros(0))
    assert "edge_weight" in arguments_of(TakesEdges(), data)[1]


def test_a_parameter_with_the_name_of_a_method_of_data_keeps_its_default() -> None:
    from torch_geometric.nn import SAGEConv

    layer = SAGEConv(2, 1)
    assert list(arguments_of(layer, graph())[1]) == ["x", "edge_index"]
    assert call(layer, graph()).shape == (3, 1)
