"""Operators of a call that is not computed: shapes, what is alive, what is known, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from sgq.cost.roofline import Demand
from sgq.cost.traced_operators import OperatorTrace, trace_operators
from sgq.errors import ModelError

EDGES = torch.tensor([[0, 1, 2, 2], [1, 1, 0, 3]])


def traced(call: Callable[..., Any], *unknown: Tensor) -> OperatorTrace:
    return trace_operators(lambda: call(*unknown), unknown=unknown)


def test_a_product_and_an_activation_by_hand() -> None:
    trace = traced(lambda x, weight: torch.relu(x @ weight), torch.ones(4, 3), torch.ones(3, 2))
    product, activation = trace.operators
    assert (product.name, product.shape, product.flops) == ("aten.mm", (4, 2), 2 * 4 * 3 * 2)
    assert product.bytes_moved == 4 * (4 * 3 + 3 * 2 + 4 * 2)
    assert (product.made_bytes, product.alive_bytes) == (32, 32)
    # The product is alive until its activation is there.
    assert (activation.made_bytes, activation.alive_bytes) == (32, 64)
    assert (trace.resident_bytes, trace.on_top_bytes) == (4 * (12 + 6), 64)
    assert trace.peak_bytes == trace.resident_bytes + 64
    assert trace.demands[1] == Demand("float", 8, 64)


def test_what_python_lets_go_of_is_free() -> None:
    def chain(x: Tensor) -> Tensor:
        for _ in range(3):
            x = x + 1.0
        return x

    assert [one.alive_bytes for one in traced(chain, torch.ones(8)).operators] == [32, 64, 64]


def test_views_and_writes_in_place_make_nothing() -> None:
    trace = traced(lambda x: x.view(4, 2).t().unsqueeze(0).mul_(2.0), torch.ones(8))
    assert [(one.name, one.made_bytes) for one in trace.operators] == [("aten.mul_", 0)]
    assert trace.on_top_bytes == 0


def test_what_follows_from_edges_alone_is_computed() -> None:
    def without_loops(x: Tensor) -> Tensor:
        kept = EDGES[:, EDGES[0] != EDGES[1]]
        assert int(kept.max()) == 3
        return torch.zeros(4, 5).index_add_(0, kept[1], x[kept[0]])

    gathered = [one.shape for one in traced(without_loops, torch.ones(4, 5)).operators if one.shape == (3, 5)]
    assert len(gathered) == 1


def test_a_known_mask_chooses_rows_of_unknown_numbers() -> None:
    trace = traced(lambda x: x[torch.tensor([True, False, True])], torch.ones(3, 2))
    assert trace.operators[-1].shape == (2, 2)


def test_no_number_is_computed() -> None:
    # 40 GB of features and 4 TB of results, of one number in memory.
    features = torch.ones(1).expand(10**6, 10**4)
    trace = traced(lambda x: x @ x.t(), features)
    assert trace.resident_bytes == 4
    assert trace.on_top_bytes == 4 * 10**12


def test_buffers_are_not_written_to() -> None:
    mean = torch.zeros(3)
    traced(lambda x, running: running.add_(x.mean(0)), torch.ones(2, 3), mean)
    assert mean.tolist() == [0.0, 0.0, 0.0]


def test_kept_tensors_are_resident_though_no_operator_reads_them() -> None:
    unread = torch.ones(10)
    trace = trace_operators(lambda: torch.ones(2), unknown=[], kept=[unread])
    assert (trace.resident_bytes, trace.on_top_bytes) == (40, 8)


@pytest.mark.parametrize(("index", "narrowed"), [(torch.int64, 4 * (3 + 2)), (torch.int32, 0)])
def test_a_sparse_product_holds_what_its_library_wants(index: torch.dtype, narrowed: int) -> None:
    matrix = torch.sparse_csr_tensor(
        torch.tensor([0, 1, 2]).to(index), torch.tensor([0, 2]).to(index), torch.ones(2), (2, 3)
    )
    [product] = traced(lambda weight: matrix @ weight, torch.ones(3, 4)).operators
    assert (product.shape, product.flops, product.scratch_bytes) == ((2, 4), 2 * 2 * 4, narrowed)
    # A weight that lies in columns is copied, and so is the result.
    [product] = traced(lambda weight: matrix @ weight.t(), torch.ones(4, 3)).operators
    assert product.scratch_bytes == narrowed + 4 * (3 * 4 + 2 * 4)
    [dense] = traced(lambda _: matrix.to_dense(), torch.ones(1)).operators
    assert (dense.shape, dense.made_bytes) == ((2, 3), 24)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x[x.sum(1) > 0],
        lambda x: float(x.sum()),
        lambda x: torch.zeros(3).index_add_(0, torch.tensor([1]), x[:1, 0]).nonzero(),
    ],
    ids=["a mask of features", "a sum", "what features were added to"],
)
def test_shapes_that_depend_on_features_are_refused(call: Callable[[Tensor], Any]) -> None:
    with pytest.raises(
        ModelError, match=r"aten\.\S+ asks for numbers that come of node features.*measure it"
    ):
        traced(call, torch.ones(3, 2))


def test_sparse_matrices_of_features_are_refused() -> None:
    def weighed(x: Tensor) -> Tensor:
        pointers, columns = torch.tensor([0, 1, 2]), torch.tensor([0, 1])
        return torch.sparse_csr_tensor(pointers, columns, x, (2, 2), check_invariants=False)

    with pytest.raises(ModelError, match="makes a sparse matrix of numbers that come of node features"):
        traced(weighed, torch.ones(2))


def test_an_operator_without_a_rule_for_shapes_is_named() -> None:
    @torch.library.custom_op("sgq_tests::opaque", mutates_args=())
    def opaque(x: Tensor) -> Tensor:
        raise AssertionError("it is never run")

    with pytest.raises(ModelError, match=r"sgq_tests\.opaque\.default has no rule.*register_fake"):
        traced(opaque, torch.ones(2))
