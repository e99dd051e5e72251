from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv

from sgq.models import build
from sgq.pipeline.checkpoint import save
from sgq.runtime.comparison import INTEGER, compare, integer_peak, simulated_notes, written_bytes
from tests.runtime.lowered_fakes import FakeLowered


@pytest.fixture
def graph() -> Data:
    torch.manual_seed(0)
    return Data(x=torch.rand(6, 4), edge_index=torch.tensor([[0, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 0]]))


@pytest.fixture
def model() -> nn.Module:
    return build("gcn", in_channels=4, out_channels=3).eval()


def test_both_baselines_and_the_integer_model_are_measured_in_the_same_rounds(
    model: nn.Module, graph: Data
) -> None:
    comparison = compare(model, FakeLowered(model, graph), graph, file_bytes=77, repeats=3, warmup=1)
    assert [row.name for row in comparison.rows] == ["fp32 edge_index", "fp32 csr", INTEGER]
    for row in comparison.rows:
        assert 0 < row.lower_quartile_s <= row.median_s <= row.upper_quartile_s
        assert (row.repeats, row.threads, row.device) == (3, torch.get_num_threads(), "cpu")
    *floats, integer = comparison.rows
    assert (integer.file_bytes, integer.times_integer) == (77, 1.0)
    assert {row.file_bytes for row in floats} == {written_bytes(model)}


def test_features_count_in_the_peak_and_are_left_out_beside_it(model: nn.Module, graph: Data) -> None:
    rows = compare(model, FakeLowered(model, graph), graph, file_bytes=1, repeats=2, warmup=0).rows
    features = [row.peak_bytes - row.peak_without_features_bytes for row in rows]
    assert features == [4 * 6 * 4, 4 * 6 * 4, 400]
    assert rows[2].peak_bytes > 200 + 1000, "its tensors, its inputs, and what the call needs on top"
    assert integer_peak(FakeLowered(model, graph)).resident_bytes == 1200


def test_a_layer_that_stays_simulated_and_an_absent_baseline_are_told_with_reasons(graph: Data) -> None:
    class EdgeLists(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = GCNConv(4, 2)

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            if edge_index.layout != torch.strided:
                raise TypeError("expected an edge list")
            return self.conv(x, edge_index)

    model = EdgeLists().eval()
    comparison = compare(model, FakeLowered(model, graph), graph, file_bytes=1, repeats=2, warmup=0)
    assert [row.name for row in comparison.rows] == ["fp32 edge_index", INTEGER]
    assert comparison.notes == (
        "convs.1 (GCNConv) stays simulated in the integer runtime: its output feeds a sort",
        "fp32 csr is not measured: TypeError: expected an edge list",
    )
    assert len(simulated_notes(FakeLowered(model, graph))) == 1


def test_the_written_bytes_are_those_of_a_file(model: nn.Module, tmp_path: Path) -> None:
    assert written_bytes(model) == save(tmp_path / "m.safetensors", model).stat().st_size
