"""Operations, bytes and scratch of single operators, those of their kernels as torch's profiler sees them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sgq.cost.traced_operators import Operator, trace_operators
from sgq.runtime.measuring import measure_peak

X = torch.rand(6, 4)
INDEX = torch.tensor([0, 2, 2, 5])
REPEATS = torch.tensor([1, 0, 3, 2, 0, 4])
NORM = torch.nn.BatchNorm1d(4).eval()
OPERATORS: dict[str, Callable[[Tensor], object]] = {
    "mask": lambda x: x[torch.tensor([True, True, False, True, False, True])],
    "columns": lambda x: x[:, torch.tensor([True, False, True, True])],
    "strided index": lambda x: x.index_select(0, INDEX.repeat_interleave(2)[::2]),
    "batch norm": NORM,
    "sort": lambda x: x.sort(dim=0, stable=True),
    "repeat": lambda x: x.index_select(0, REPEATS.repeat_interleave(REPEATS, output_size=10)),
    "isinf": torch.isinf,
    "softmax": lambda x: x.softmax(1),
    "scatter": lambda x: torch.zeros(6, 4).scatter_add_(0, INDEX.view(-1, 1).expand(4, 4), x[:4]),
    "reduce": lambda x: x.new_zeros(6, 4).scatter_reduce_(0, INDEX.view(-1, 1).expand(4, 4), x[:4], "amax"),
    "mean": lambda x: x.mean(0),
}


def traced(call: Callable[[Tensor], object]) -> tuple[Operator, ...]:
    return trace_operators(lambda: call(X), unknown=[X, *NORM.parameters(), *NORM.buffers()]).operators


@pytest.mark.parametrize("name", OPERATORS)
def test_a_call_holds_what_the_profiler_sees(name: str) -> None:
    call = OPERATORS[name]

    def run() -> object:
        with torch.inference_mode():
            return call(X)

    on_top = max(one.alive_bytes + one.scratch_bytes for one in traced(call))
    # A few single numbers that kernels allocate are left out.
    assert on_top == pytest.approx(measure_peak(run, resident_bytes=0).peak_bytes, abs=64)


def test_a_gather_reads_what_it_writes_and_computes_nothing() -> None:
    gather = traced(lambda x: x.index_select(0, INDEX))[-1]
    assert (gather.flops, gather.bytes_moved) == (0, 2 * 4 * 4 * 4 + 8 * 4)


def test_anything_but_a_product_is_an_operation_a_number() -> None:
    assert [one.flops for one in traced(lambda x: x.exp().sum())] == [24, 24]


def test_an_expanded_tensor_is_read_where_it_is() -> None:
    [added] = traced(lambda x: torch.ones(1).expand(6, 4) + x)[1:]
    assert added.bytes_moved == 4 + 96 + 96
