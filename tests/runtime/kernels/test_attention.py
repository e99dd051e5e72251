from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from quantizers import QuantizerSpec
from sgq.runtime.kernels import EdgeAttention, attention
from sgq.runtime.kernels.contract import AttentionKind, Implementation
from sgq.runtime.packed import PackedTensor, with_head_padding
from tests.runtime.graphs import Edges, graphs, normal, packed_rows, random_edges, rule_of, seeds, specs
from tests.runtime.kernels.test_aggregate import torch_threads

IMPLEMENTATIONS: tuple[Implementation, ...] = ("torch", "numba")
SLOPE = 0.2


def node_tensors(
    kind: AttentionKind, spec: QuantizerSpec, graph: Edges, heads: int, channels: int, seed: int
) -> tuple[PackedTensor, PackedTensor, Tensor]:
    """Return source and target as the kind of attention takes them, and its vector."""
    if kind == "additive":
        shape: tuple[int, ...] = (graph.rows, heads)
    elif kind == "dynamic" and heads > 1:
        shape = (graph.rows, heads, channels)
    else:
        shape = (graph.rows, channels)
    source, target = (packed_rows(spec, normal(seed + k, *shape), graph.segments) for k in range(2))
    if kind == "cosine":
        return source, target, torch.tensor([0.7])
    # Zero at the padding of heads, which one-bit symmetric codes cannot keep at zero.
    vector = normal(seed + 2, heads, source.layout.width // heads)
    vector[:, source.layout.channels :] = 0.0
    return source, target, vector.flatten()


def dense_attention(
    kind: AttentionKind, graph: Edges, heads: int, source: PackedTensor, target: PackedTensor, vector: Tensor
) -> Tensor:
    """Return the attention of each edge and head by a softmax node for node, float64."""
    left = with_head_padding(source.values(), source.layout).double()[graph.source]
    right = with_head_padding(target.values(), target.layout).double()[graph.target]
    if kind == "cosine":
        scores = (left * right).sum(1, keepdim=True) * vector.double()
    else:
        scores = torch.nn.functional.leaky_relu(left + right, SLOPE)
        if kind == "dynamic":
            scores = (scores * vector.double()).unflatten(1, (heads, -1)).sum(2)
    result = torch.zeros_like(scores)
    for node in range(graph.rows):
        here = graph.target == node
        result[here] = scores[here].softmax(0)
    return result


def in_order(graph: Edges, *, segmented: bool) -> Edges:
    """Return the graph with its edges in the order of its CSR."""
    csr = graph.csr(segmented=segmented)
    columns = csr.columns[: csr.edges].long()
    return Edges(columns, csr.targets, torch.ones(csr.edges), graph.segments)


def assert_near_codes(got: EdgeAttention, want: EdgeAttention) -> None:
    distance = (got.codes.int() - want.codes.int()).abs()
    assert (got.scale, got.zero_point) == (want.scale, want.zero_point)
    if distance.numel():
        assert distance.max() <= 1
        assert distance.count_nonzero() <= max(1, distance.numel() / 1000)


@settings(max_examples=60, deadline=None)
@given(
    graph=graphs(most_nodes=40, most_edges=150),
    kind=st.sampled_from(("additive", "dynamic", "cosine")),
    spec=specs(),
    heads=st.integers(1, 4),
    channels=st.sampled_from((1, 5, 8, 19)),
    seed=seeds,
)
def test_every_implementation_is_a_softmax_over_the_edges_into_a_node(
    graph: Edges, kind: AttentionKind, spec: QuantizerSpec, heads: int, channels: int, seed: int
) -> None:
    heads = 1 if kind == "cosine" else heads
    source, target, vector = node_tensors(kind, spec, graph, heads, channels, seed)
    csr = graph.csr(segmented=spec.bucketed)
    want = dense_attention(kind, in_order(graph, segmented=spec.bucketed), heads, source, target, vector)
    for implementation in IMPLEMENTATIONS:
        got = attention(
            csr,
            source,
            target,
            kind=kind,
            heads=heads,
            vector=vector,
            slope=SLOPE,
            implementation=implementation,
        )
        assert (got.scale, got.zero_point, got.heads) == (1.0, 0.0, heads)
        assert got.codes.shape == (csr.edges, heads)
        # Scores reach tens: their rounding in fp32 is a relative error of their exponentials.
        assert torch.allclose(got.values().double(), want, rtol=1e-5, atol=1e-7)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    graph=graphs(most_nodes=100, most_edges=400),
    kind=st.sampled_from(("additive", "dynamic", "cosine")),
    heads=st.integers(1, 3),
    seed=seeds,
    bits=st.integers(1, 8),
    symmetric=st.booleans(),
    signed=st.booleans(),
)
def test_codes_of_coefficients_are_those_of_the_quantizer(
    graph: Edges, kind: AttentionKind, heads: int, seed: int, bits: int, symmetric: bool, signed: bool
) -> None:
    heads = 1 if kind == "cosine" else heads
    source, target, vector = node_tensors(kind, QuantizerSpec(8), graph, heads, 6, seed)
    spec = QuantizerSpec(bits, symmetric=symmetric, signed=signed)
    # A range that no ratio of small whole numbers falls between two levels of.
    rule = rule_of(spec, torch.tensor([[0.0, 0.9137]]))
    got, want = (
        attention(
            graph.csr(), source, target, kind=kind, heads=heads, vector=vector, slope=SLOPE,
            quantization=rule, implementation=implementation,
        )
        for implementation in ("numba", "torch")
    )  # fmt: skip
    assert got.codes.dtype is torch.uint8
    assert got.codes.numel() == 0 or int(got.codes.max()) < 2**bits
    assert_near_codes(got, want)
    plain = dense_attention(kind, in_order(graph, segmented=False), heads, source, target, vector)
    assert rule.parameters is not None
    scale = rule.parameters[0, 0]
    if not (symmetric and signed and bits == 1):
        assert torch.allclose(want.values(), plain.float().clamp(max=0.9137), atol=float(scale / 2 + 1e-5))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_equal_scores_share_attention_equally(implementation: Implementation) -> None:
    # Three edges into node 0, one of them twice, none into node 1, one into node 2.
    graph = Edges(torch.tensor([1, 2, 2, 0]), torch.tensor([0, 0, 0, 2]), torch.ones(4), (3,))
    zeros = packed_rows(QuantizerSpec(8), torch.zeros(3, 2), (3,))
    got = attention(
        graph.csr(),
        zeros,
        zeros,
        kind="additive",
        heads=2,
        vector=torch.zeros(1),
        implementation=implementation,
    )
    want = torch.tensor([1 / 3, 1 / 3, 1 / 3, 1.0]).unsqueeze(1).expand(4, 2)
    assert torch.allclose(got.values(), want)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_scores_far_apart_neither_overflow_nor_vanish(implementation: Implementation) -> None:
    graph = Edges(torch.tensor([0, 1, 2]), torch.tensor([0, 0, 0]), torch.ones(3), (3,))
    scores = packed_rows(QuantizerSpec(32), torch.tensor([[1000.0], [999.0], [-1e30]]), (3,))
    zeros = packed_rows(QuantizerSpec(32), torch.zeros(3, 1), (3,))
    got = attention(
        graph.csr(), scores, zeros, kind="additive", heads=1, vector=torch.zeros(1), slope=1.0,
        implementation=implementation,
    )  # fmt: skip
    assert torch.allclose(got.values().flatten(), torch.tensor([1000.0, 999.0, -1e30]).softmax(0))


@pytest.mark.parametrize("kind", ["additive", "dynamic", "cosine"])
@pytest.mark.parametrize("segments", [(0, 0), (4, 0)])
def test_graphs_without_nodes_or_edges(kind: AttentionKind, segments: tuple[int, ...]) -> None:
    graph = random_edges(0, segments, 0)
    heads = 1 if kind == "cosine" else 2
    source, target, vector = node_tensors(kind, QuantizerSpec(8), graph, heads, 5, 0)
    for implementation in IMPLEMENTATIONS:
        got = attention(
            graph.csr(), source, target, kind=kind, heads=heads, vector=vector, implementation=implementation
        )
        assert got.codes.shape == (0, heads)


def test_threads_change_no_bit() -> None:
    graph = random_edges(3, (500,), 4000)
    source, target, vector = node_tensors("dynamic", QuantizerSpec(8), graph, 3, 8, 0)
    results = []
    for threads in (1, 2):
        with torch_threads(threads):
            got = attention(graph.csr(), source, target, kind="dynamic", heads=3, vector=vector, slope=SLOPE)
            results.append(got.codes)
    assert torch.equal(*results)
