"""Aggregation against its definition: a message an edge, then the reducer."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.utils import scatter

from sgq.models.genotype import Message, Reducer, choices_of
from sgq.models.graph_aggregate import EdgeNetwork, GraphAggregate
from sgq.models.neighbours import Neighbours

MESSAGES, REDUCERS = choices_of(Message), choices_of(Reducer)


def by_definition(x: Tensor, edges: Tensor, reducer: str, message: str) -> Tensor:
    """Return the aggregation with every message written out."""
    source, target = x[edges[0]], x[edges[1]]
    relative = source - target
    distance = relative.norm(dim=1, keepdim=True)
    parts = {
        "source": [source],
        "target": [target],
        "relative": [relative],
        "source_relative": [source, relative],
        "target_relative": [target, relative],
        "distance": [distance],
        "full": [target, source, relative, distance],
    }[message]
    return scatter(torch.cat(parts, dim=1), edges[1], dim=0, dim_size=x.size(0), reduce=reducer)


@pytest.mark.parametrize("message", MESSAGES)
@pytest.mark.parametrize("reducer", REDUCERS)
def test_fixed_degree_is_the_definition(reducer: str, message: str) -> None:
    x = torch.randn(20, 5, dtype=torch.float64)
    source = torch.randint(20, (20 * 4,))
    edges = torch.stack([source, torch.arange(20).repeat_interleave(4)])
    made = GraphAggregate(reducer, message, k=4)(x, Neighbours(edges, 4))  # type: ignore[arg-type]
    assert torch.allclose(made, by_definition(x, edges, reducer, message))


@pytest.mark.parametrize("message", MESSAGES)
@pytest.mark.parametrize("reducer", REDUCERS)
def test_any_graph_is_the_definition_also_where_nodes_have_no_edges(reducer: str, message: str) -> None:
    x = torch.randn(12, 3, dtype=torch.float64)
    edges = torch.tensor([[0, 1, 2, 3, 3, 11], [5, 5, 5, 1, 0, 11]])
    made = GraphAggregate(reducer, message)(x, Neighbours(edges))  # type: ignore[arg-type]
    assert torch.allclose(made, by_definition(x, edges, reducer, message))
    assert bool((made[6] == 0).all())


def test_relative_messages_by_hand() -> None:
    x = torch.tensor([[0.0], [2.0], [5.0]])
    edges = torch.tensor([[1, 2, 0, 2, 0, 1], [0, 0, 1, 1, 2, 2]])
    made = GraphAggregate("max", "target_relative", k=2)(x, Neighbours(edges, 2))
    assert made.tolist() == [[0.0, 5.0], [2.0, 3.0], [5.0, -3.0]]


@pytest.mark.parametrize("k", [3, None])
def test_an_edge_network_sees_target_and_difference(k: int | None) -> None:
    x = torch.randn(10, 4, dtype=torch.float64)
    edges = torch.stack([torch.randint(10, (30,)), torch.arange(10).repeat_interleave(3)])
    network = nn.Linear(8, 6).double()
    made = EdgeNetwork(network, "max")(x, Neighbours(edges, k))
    messages = network(torch.cat([x[edges[1]], x[edges[0]] - x[edges[1]]], dim=1))
    assert torch.allclose(made, messages.view(10, 3, 6).amax(1))


def test_gradients_reach_sources_and_targets() -> None:
    x = torch.randn(6, 2, dtype=torch.float64, requires_grad=True)
    edges = torch.stack([torch.randint(6, (12,)), torch.arange(6).repeat_interleave(2)])
    aggregate = GraphAggregate("mean", "full", k=2)
    assert torch.autograd.gradcheck(lambda rows: aggregate(rows, Neighbours(edges, 2))[:, :6], x)
