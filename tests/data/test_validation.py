"""check_data on broken and on odd but legal graphs."""

from __future__ import annotations

import pytest
import torch
from torch_geometric.data import Data

from sgq.data import check_data
from sgq.errors import DataError

PAIR = torch.tensor([[0, 1], [1, 0]])


def test_isolated_nodes_and_a_graph_without_edges_are_legal() -> None:
    isolated = Data(x=torch.ones(3, 2), edge_index=PAIR)
    edgeless = Data(x=torch.ones(3, 2), edge_index=torch.empty(2, 0, dtype=torch.long))
    assert check_data(isolated) is isolated
    assert check_data(edgeless) is edgeless


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinite_features_are_refused_in_both_layouts(value: float) -> None:
    x = torch.tensor([[0.0, 1.0], [value, 0.0]])
    for stored in (x, x.to_sparse_csr()):
        with pytest.raises(DataError, match="1 NaN or infinite"):
            check_data(Data(x=stored, edge_index=PAIR), name="mine")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Data(x=torch.ones(0, 2), edge_index=torch.empty(2, 0, dtype=torch.long)), "empty graph"),
        (Data(edge_index=PAIR, num_nodes=2), "node features x"),
        (Data(x=torch.ones(2, 2)), "got neither"),
        (Data(x=torch.ones(2, 2), edge_index=PAIR + 1), "node ids 0 to 1"),
        (Data(x=torch.ones(2, 2), edge_index=PAIR.float()), "integer edge_index"),
        (
            Data(x=torch.ones(2, 2), edge_index=PAIR, edge_weight=torch.tensor([1.0, torch.nan])),
            "edge_weight",
        ),
        (Data(x=torch.ones(2, 2), adj_t=torch.eye(3).to_sparse_csr()), "adj_t of shape"),
        (Data(x=torch.ones(2, 2), adj_t=torch.full((2, 2), torch.nan).to_sparse_csr()), "in adj_t"),
        (Data(x=torch.ones(2, 2).to_sparse(), edge_index=PAIR), r"got torch\.sparse_coo"),
    ],
)
def test_what_cannot_run_is_refused_with_its_reason(data: Data, message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_data(data)
