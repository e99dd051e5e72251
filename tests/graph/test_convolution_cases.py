"""Tests of the table of convolutions itself: it is complete, sound, and what it says about CSR is true."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric.nn import conv

from tests.graph.convolution_cases import CASES, EXCEPTIONS, WITHOUT_CSR, ConvolutionCase
from tests.graph.convolution_graph import random_graph

EVERY_CASE = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def flat(output: Any) -> Tensor:
    """All numbers of an output, which may be a dictionary by node type."""
    parts = output.values() if isinstance(output, dict) else [output]
    return torch.cat([part.flatten() for part in parts])


@torch.no_grad()
def run(module: torch.nn.Module, arguments: tuple[tuple[Any, ...], dict[str, Any]]) -> Tensor:
    """The output of one call."""
    args, kwargs = arguments
    return flat(module(*args, **kwargs))


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Relative L2 distance."""
    return float((actual - expected).norm() / expected.norm())


def test_every_convolution_has_a_case_or_a_reason() -> None:
    covered = {case.convolution for case in CASES}
    assert covered | set(EXCEPTIONS) == set(conv.__all__)
    assert not covered & set(EXCEPTIONS)
    assert len(covered) >= 55


def test_case_names_are_unique_and_reasons_name_cases() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)
    assert set(WITHOUT_CSR) <= set(names)
    assert all((*EXCEPTIONS.values(), *WITHOUT_CSR.values()))


@pytest.mark.parametrize("name", ["GravNetConv", "DynamicEdgeConv", "XConv", "SplineConv", "FusedGATConv"])
def test_exceptions_cannot_be_built_on_plain_torch(name: str) -> None:
    count = {"GravNetConv": 5, "DynamicEdgeConv": 2, "XConv": 4, "SplineConv": 4, "FusedGATConv": 2}[name]
    values = [torch.nn.Linear(8, 8), 2] if name == "DynamicEdgeConv" else [8] * count
    options = {"add_self_loops": False} if name == "FusedGATConv" else {}
    with pytest.raises(ImportError):
        getattr(conv, name)(*values, **options)


def test_the_graph_has_isolated_nodes_a_leaf_self_loops_and_multi_edges() -> None:
    edge_index = random_graph().edge_index
    in_degree = torch.bincount(edge_index[1], minlength=60)
    assert in_degree[-6:].tolist() == [0] * 6
    assert in_degree[-7] == 1
    assert (edge_index[0] == edge_index[1]).any()
    assert torch.unique(edge_index, dim=1).size(1) < edge_index.size(1)


def test_the_simple_graph_has_neither_self_loops_nor_multi_edges() -> None:
    edge_index = random_graph(simple=True).edge_index
    assert not (edge_index[0] == edge_index[1]).any()
    assert torch.unique(edge_index, dim=1).size(1) == edge_index.size(1)


@EVERY_CASE
def test_a_case_builds_its_class_and_gives_finite_varied_output(case: ConvolutionCase) -> None:
    module = case.build()
    output = run(module, case.arguments())
    assert type(module) is getattr(conv, case.convolution)
    assert not module.training
    assert output.isfinite().all()
    assert output.std() > 0.05


@EVERY_CASE
def test_a_case_is_the_same_each_time(case: ConvolutionCase) -> None:
    state = torch.random.get_rng_state()
    first, second = (run(case.build(), case.arguments()) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.random.get_rng_state(), state)


@EVERY_CASE
def test_every_parameter_that_is_not_idle_matters(case: ConvolutionCase) -> None:
    module, arguments = case.build(), case.arguments()
    expected = run(module, arguments)
    generator = torch.Generator().manual_seed(1)
    idle = set()
    for name, parameter in module.named_parameters():
        kept = parameter.detach().clone()
        with torch.no_grad():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
            if relative_error(run(module, arguments), expected) < 1e-4:
                idle.add(name)
            parameter.copy_(kept)
    assert idle == case.idle


@EVERY_CASE
def test_edges_are_where_the_case_says(case: ConvolutionCase) -> None:
    names = [
        name
        for name in inspect.signature(getattr(conv, case.convolution).forward).parameters
        if name != "self"
    ]
    for position in case.edges:
        assert case.convolution == "HeteroConv" or names[position].endswith(("edge_index", "edge_index_dict"))
    assert case.edges or "hyperedge_index" in names


@pytest.mark.parametrize("case", [case for case in CASES if case.csr], ids=lambda case: case.name)
def test_csr_gives_what_edge_index_gives(case: ConvolutionCase) -> None:
    args, kwargs = case.csr_arguments()
    layouts = {
        edges.layout
        for position in case.edges
        for edges in (args[position].values() if isinstance(args[position], dict) else [args[position]])
    }
    module = case.build()
    assert layouts == {torch.sparse_csr}
    assert relative_error(run(module, (args, kwargs)), run(module, case.arguments(simple=True))) < 1e-5


@pytest.mark.parametrize("case", [case for case in CASES if not case.csr], ids=lambda case: case.name)
def test_csr_is_refused_or_gives_another_output_where_the_table_says_so(case: ConvolutionCase) -> None:
    module = case.build()
    expected = run(module, case.arguments(simple=True))
    try:
        output = run(module, case.csr_arguments())
    except (AssertionError, IndexError, NotImplementedError, RuntimeError, ValueError):
        return
    assert relative_error(output, expected) > 0.01
