"""The Triton kernels of point clouds against the reference; see `cuda_cases`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sgq.errors import ModelError
from sgq.runtime.finish import Finish
from sgq.runtime.kernels import reference
from sgq.runtime.kernels.contract import Term, exact_distances
from sgq.runtime.kernels.cuda import calls, cloud_calls
from tests.runtime.kernels.cuda_problems import (
    EXAMPLES,
    Setting,
    assert_same,
    drawn,
    finishes,
    graph_of,
    moved,
    packed,
)

EVERY = [(bits, "tensor") for bits in (1, 2, 3, 4, 8, 32)] + [(1, "channel"), (8, "channel"), (4, "node")]


@pytest.mark.parametrize(("bits", "granularity"), EVERY)
def test_neighbours_at_every_width(bits: int, granularity: str) -> None:
    check_neighbours(Setting(3 + bits, bits, granularity, channels=5, nodes=12), 3, 3)


@pytest.mark.parametrize("k", [1, 6])
def test_neighbours_are_one_or_all(k: int) -> None:
    check_neighbours(Setting(4, 2, channels=1, nodes=6), 1, k)


@EXAMPLES
@given(drawn(), st.integers(1, 3), st.integers(1, 9))
def test_neighbours_anything(setting: Setting, clouds: int, k: int) -> None:
    bits = setting.bits if isinstance(setting.bits, int) else 8
    size = setting.nodes
    check_neighbours(replace(setting, bits=bits, heads=1, nodes=clouds * size), clouds, min(k, size))


def test_neighbours_in_several_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloud_calls, "MOST_COLUMNS", 4)
    check_neighbours(Setting(2, 2, channels=19, nodes=10, symmetric=True, signed=True), 1, 6)


def check_neighbours(setting: Setting, clouds: int, k: int) -> None:
    x = packed(setting)
    found = calls.neighbours(moved(x), clouds=clouds, k=k)
    expected = reference.neighbours(x, clouds=clouds, k=k)
    assert torch.equal(found.pointers.cpu(), expected.pointers)
    assert (found.rows, found.sources, found.step, found.longest) == (x.layout.rows, x.layout.rows, 1, k)
    assert found.columns.dtype == torch.int32
    if exact_distances(x):
        assert torch.equal(found.columns.cpu(), expected.columns)
        return
    # Rows whose distances are closer than fp32 tells may come in any order.
    values = x.values().double()
    ends = [graph.columns[: graph.edges].cpu().long().view(-1, k) for graph in (found, expected)]
    ours, theirs = ((values[end] - values.unsqueeze(1)).norm(dim=2) for end in ends)
    assert (ours - theirs).abs().max() <= 1e-5 * (1.0 + theirs.max())


@pytest.mark.parametrize(("bits", "granularity"), [*EVERY, ((4, 1, 8), "tensor"), ((8, 32, 2), "node")])
def test_distances_at_every_width(bits: Any, granularity: str) -> None:
    setting = Setting(7, bits, granularity, channels=17, nodes=4, edges=9)
    for reduction in ("sum", "min") if granularity == "tensor" else ("mean", "max"):
        check_distances(setting, reduction)


@EXAMPLES
@given(drawn(), st.sampled_from(("sum", "mean", "max", "min")))
def test_distances_anything(setting: Setting, reduction: Any) -> None:
    check_distances(replace(setting, heads=1), reduction)


def test_distances_need_edges_by_segment() -> None:
    setting = Setting(1, (8, 4, 2))
    graph = graph_of(replace(setting, bits=8))
    with pytest.raises(ModelError, match=r"in 1 \(got 3\): build the graph with the rows' segments"):
        calls.edge_distances(moved(graph), moved(packed(setting)), Finish(), reduction="sum")


def check_distances(setting: Setting, reduction: Any) -> None:
    x, graph = packed(setting), graph_of(setting)
    for finish in finishes(setting, 1):
        expected = reference.edge_distances(graph, x, finish, reduction=reduction)
        found = calls.edge_distances(moved(graph), moved(x), moved(finish), reduction=reduction)
        assert_same(found, expected)


@pytest.mark.parametrize(("bits", "granularity"), [*EVERY, ((4, 1, 8), "tensor"), ((8, 32, 2), "node")])
def test_assemble_at_every_width(bits: Any, granularity: str) -> None:
    check_assemble(Setting(5, bits, granularity, channels=11, nodes=4), 3)


@EXAMPLES
@given(drawn(), st.integers(1, 20))
def test_assemble_anything(setting: Setting, width: int) -> None:
    check_assemble(replace(setting, heads=1), width)


def check_assemble(setting: Setting, width: int) -> None:
    x, other = packed(setting), packed(replace(setting, bits=4, granularity="node"))
    generator = torch.Generator().manual_seed(setting.seed + 7)
    values = torch.randn(setting.nodes, width, generator=generator)
    narrow = packed(replace(setting, bits=8, granularity="tensor"), channels=width)
    blocks = ((Term(x),), (Term(values, 0.5), Term(narrow, -1.0)), (Term(other, 2.0), Term(x, -0.5), Term(x)))
    for finish in finishes(setting, 2 * setting.channels + width):
        expected = reference.assemble(blocks, finish)
        assert_same(calls.assemble(moved(blocks), moved(finish)), expected)
