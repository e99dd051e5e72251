from __future__ import annotations

import torch
from hypothesis import given, settings

from sgq.runtime.csr import COLUMN_PADDING, csr_of
from tests.runtime.graphs import Edges, graphs


def test_edges_by_hand() -> None:
    # Two multi-edges 1 -> 0, a self-loop at 2; node 1 has no edges.
    source, target = torch.tensor([1, 2, 1, 0]), torch.tensor([0, 2, 0, 2])
    csr = csr_of(source, target, torch.tensor([1.0, 2.0, 3.0, 4.0]), rows=3)
    assert csr.pointers.tolist() == [0, 2, 2, 4]
    assert csr.columns[:4].tolist() == [1, 1, 0, 2]
    assert csr.columns[4:].tolist() == [0] * COLUMN_PADDING
    assert csr.weights is not None
    assert csr.weights.tolist() == [1.0, 3.0, 4.0, 2.0]
    assert (csr.edges, csr.rows, csr.sources, csr.step, csr.longest) == (4, 3, 3, 1, 2)
    assert csr.sizes.tolist() == [2, 0, 2]
    assert csr.targets.tolist() == [0, 0, 2, 2]
    assert (csr.pointers.dtype, csr.columns.dtype) == (torch.int32, torch.int32)


def test_edges_by_segment_of_their_source_by_hand() -> None:
    # Nodes 0 and 1 lie in the first segment, none in the second, node 2 in the third.
    csr = csr_of(torch.tensor([2, 0, 1]), torch.tensor([0, 0, 2]), rows=3, segments=(2, 0, 1))
    assert csr.pointers.tolist() == [0, 1, 1, 2, 2, 2, 2, 3, 3, 3]
    assert csr.columns[:3].tolist() == [0, 2, 1]
    assert (csr.step, csr.sources) == (3, 3)
    assert csr.sizes.tolist() == [2, 0, 1]


@settings(max_examples=40, deadline=None)
@given(graph=graphs())
def test_the_same_edges_are_there_with_and_without_segments(graph: Edges) -> None:
    dense = graph.dense(graph.weights)
    for segmented in (False, True):
        csr = graph.csr(segmented=segmented)
        assert csr.edges == graph.source.numel()
        assert csr.weights is not None
        columns = csr.columns[: csr.edges].long()
        rebuilt = torch.zeros_like(dense)
        rebuilt.index_put_((csr.targets, columns), csr.weights.double(), accumulate=True)
        assert torch.allclose(rebuilt, dense)
        assert torch.equal(csr.sizes, graph.sizes())
        assert csr.longest == (int(graph.sizes().max()) if csr.edges else 0)
    for part in range(csr.step):
        starts, ends = csr.pointers[part :: csr.step].long(), csr.pointers[part + 1 :: csr.step].long()
        inside = torch.zeros(csr.edges + 1, dtype=torch.int64)
        inside.index_add_(0, starts[: graph.rows], torch.ones(graph.rows, dtype=torch.int64))
        inside.index_add_(0, ends, -torch.ones_like(ends))
        assert graph.bucket[columns[inside.cumsum(0)[:-1] > 0]].eq(part).all()


def test_weights_are_single_precision_in_the_order_of_the_edges() -> None:
    source, target = torch.tensor([0, 1]), torch.tensor([1, 0])
    assert len(list(csr_of(source, target, rows=2).tensors())) == 2
    weighted = csr_of(source, target, torch.tensor([2.0, 3.0], dtype=torch.float64), rows=2)
    assert weighted.weights is not None
    assert weighted.weights.dtype is torch.float32
    assert weighted.weights.tolist() == [3.0, 2.0]
    assert len(list(weighted.tensors())) == 3


def test_no_nodes_and_no_edges() -> None:
    nothing = torch.empty(0, dtype=torch.int64)
    for rows, segments in ((0, None), (3, None), (0, (0, 0)), (3, (0, 3))):
        csr = csr_of(nothing, nothing, rows=rows, segments=segments)
        assert (csr.edges, csr.longest) == (0, 0)
        assert csr.sizes.tolist() == [0] * rows
        assert csr.targets.numel() == 0
