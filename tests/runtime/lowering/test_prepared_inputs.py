"""What prepared inputs hold in memory."""

from __future__ import annotations

import torch
from torch_geometric.data import Data

from sgq.runtime.baselines import compact_csr
from sgq.runtime.lowering.graphs import PreparedInputs


def test_data_of_a_wholly_simulated_model_are_counted_once() -> None:
    x, edge_index = torch.randn(5, 3), torch.zeros(2, 7, dtype=torch.int64)
    data = Data(x=x, edge_index=edge_index, y=torch.zeros(5, dtype=torch.int64))
    inputs = PreparedInputs(x, {}, 5, (5,), original={"edge_index": edge_index}, data=data)
    assert inputs.feature_nbytes == 4 * 15
    assert inputs.nbytes == 4 * 15 + 8 * 14
    sparse = compact_csr(torch.eye(5).to_sparse_csr(), index=torch.int64)
    data = Data(x=x, adj_t=sparse)
    inputs = PreparedInputs(x, {}, 5, (5,), data=data)
    assert inputs.nbytes == 4 * 15 + 8 * 6 + 8 * 5 + 4 * 5
