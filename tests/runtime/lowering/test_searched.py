"""Searched models on integer kernels: the numbers of the simulated model, given the same neighbours.

Between codes distances are often equal, and which of two equally near points is a neighbour depends on how
sums are rounded. So the simulated model is given the neighbours that the kernels found; that those are
nearest is checked apart, by their distances.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch_geometric.data import Batch, Data

import sgq
from sgq.errors import DataError
from sgq.models.dgcnn import dgcnn
from sgq.models.genotype import (
    Aggregate,
    Combine,
    Connect,
    EdgeMlp,
    Genotype,
    Head,
    Message,
    Pool,
    Reducer,
    Sample,
    choices_of,
)
from sgq.models.genotype_recipe import recipe_of
from sgq.models.genotype_rules import is_quantized
from sgq.models.genotype_sampling import GenotypeSpace, random_genotype, with_bits
from sgq.models.neighbours import Neighbours, Sampling
from sgq.models.searched import build_genotype
from sgq.pipeline.planning import plan_for
from sgq.pipeline.tasks import GraphTask
from sgq.pipeline.wrapping import apply_plan
from sgq.runtime.csr import Csr
from sgq.runtime.lowering.cloud_steps import NeighboursStep
from sgq.runtime.lowering.model import LoweredModel
from sgq.runtime.workspace import Workspace

NO_EDGES = torch.empty(2, 0, dtype=torch.int64)
POINTS = 40
KINDS = [
    *(("max", message) for message in choices_of(Message)),
    *((reducer, "full") for reducer in choices_of(Reducer) if reducer != "max"),
]


def clouds(count: int, points: int = POINTS, *, seed: int = 0) -> list[Data]:
    generator = torch.Generator().manual_seed(seed)
    return [
        Data(x=torch.randn(points, 3, generator=generator), edge_index=NO_EDGES, y=torch.tensor([0]))
        for _ in range(count)
    ]


def lowered_of(
    genotype: Genotype, graphs: list[Data], *, has_edges: bool = False
) -> tuple[Any, Any, LoweredModel]:
    """Return (simulated model, batch, lowered model) of a genotype with random weights, calibrated."""
    torch.manual_seed(0)
    model = build_genotype(genotype, in_channels=3, out_channels=5, has_edges=has_edges)
    with torch.no_grad():
        for norm in (one for one in model.modules() if isinstance(one, nn.BatchNorm1d)):
            norm.weight.uniform_(-1.5, 1.5)  # of both signs, as training leaves them
            norm.bias.normal_()
            norm.running_mean.normal_()
    model.eval()
    task = GraphTask(graphs, {"train": torch.arange(len(graphs))})
    wrapped, _ = apply_plan(model, plan_for(model, recipe_of(genotype, has_edges=has_edges), task), task)
    batch = Batch.from_data_list(graphs)
    return wrapped.eval(), batch, sgq.lower(wrapped, batch)


def found_neighbours(lowered: LoweredModel) -> Iterator[Csr]:
    """Yield the neighbours that the kernels find, in the order of the positions."""
    values: dict[int, Any] = dict.fromkeys(lowered.arguments.values(), lowered.inputs.features)
    for step in lowered.steps:
        step.run(values, lowered.inputs, Workspace())
        if isinstance(step, NeighboursStep):
            yield values[step.output]


def give_neighbours(simulated: nn.Module, lowered: LoweredModel) -> None:
    """Make the simulated model take the kernels' neighbours; check that they are as near as its own."""
    nearest = [one for one in simulated.modules() if isinstance(one, Sampling) and one.method == "knn"]
    for module, graph in zip(nearest, list(found_neighbours(lowered)), strict=True):
        edges = torch.stack([graph.columns[: graph.edges].long(), graph.targets])
        own = module.forward

        def forward(x: Any, clouds: Any, own: Any = own, edges: Any = edges, k: int = module.k) -> Neighbours:
            rows = x.double()
            theirs = own(x, clouds).edge_index
            lengths = [(rows[i[0]] - rows[i[1]]).square().sum(1).view(-1, k) for i in (edges, theirs)]
            assert torch.allclose(*(one.sort(1).values for one in lengths), rtol=1e-4, atol=1e-5)
            return Neighbours(edges, k)

        module.forward = forward


def assert_same_numbers(genotype: Genotype, graphs: list[Data], *, has_edges: bool = False) -> LoweredModel:
    simulated, batch, lowered = lowered_of(genotype, graphs, has_edges=has_edges)
    assert lowered.report.simulated == ()
    if not has_edges:
        give_neighbours(simulated, lowered)
    with torch.no_grad():
        wanted = simulated(batch.x, batch.edge_index, batch.batch, batch.num_graphs)
    first, bound, again = lowered(), lowered(), lowered()
    assert torch.equal(first, bound)
    assert torch.equal(bound, again)
    scale = float(wanted.abs().max())
    # Sums in another order may round a value to the next code.
    assert torch.allclose(first, wanted, atol=0.05 * scale), float((first - wanted).abs().max())
    return lowered


@pytest.mark.parametrize("seed", range(12))
def test_random_genotypes_with_random_bits(seed: int) -> None:
    generator = random.Random(seed)
    space = GenotypeSpace(k=(3, 5), bits=(32, 8, 4, 2, 1), widths=(8, 24, 64), heads=((16,),), widest=256)
    genotype = random_genotype(space, generator, in_channels=3)
    while not is_quantized(genotype, 3):
        genotype = random_genotype(space, generator, in_channels=3)
    assert_same_numbers(genotype, clouds(2))


@pytest.mark.parametrize(("reducer", "message"), KINDS)
def test_every_message_and_reducer(reducer: Any, message: Any) -> None:
    genotype = Genotype(
        (Sample("knn", 4), Aggregate(reducer, message), Combine(16, "leaky_relu"), Pool(("max",))),
        Head((8,)),
    )
    assert_same_numbers(with_bits(genotype, 8), clouds(2))


@pytest.mark.parametrize("reducer", choices_of(Reducer))
@pytest.mark.parametrize("bits", [8, 4])
def test_edge_networks_by_node_and_by_edge(reducer: Any, bits: int) -> None:
    genotype = Genotype((Sample("knn", 4), EdgeMlp(16, reducer), Pool(("mean",))), Head((8,)))
    assert_same_numbers(with_bits(genotype, bits), clouds(2))


def test_dgcnn_runs_on_integers_throughout() -> None:
    lowered = assert_same_numbers(with_bits(dgcnn(5), 8), clouds(1))
    assert {layer.kind for layer in lowered.report.layers} >= {"edge_mlp", "concat", "combine", "pool"}


def test_a_skip_reads_what_others_read_once() -> None:
    genotype = Genotype(
        (Sample("knn", 4), Combine(16), Combine(16), Connect("identity"), Connect("skip"),
         Sample("random", 3), Aggregate("mean", "source"), Connect("skip"), Pool(("max", "sum"))),
        Head(()),
    )  # fmt: skip
    assert_same_numbers(with_bits(genotype, 8), clouds(3))


@pytest.mark.parametrize(("reducer", "message"), KINDS)
def test_graphs_with_edges_of_their_own(reducer: Any, message: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    graphs = [
        Data(
            x=torch.randn(n, 3, generator=generator),
            edge_index=torch.randint(n - 1, (2, 3 * n), generator=generator),  # the last node has no edges
            y=torch.tensor([0]),
        )
        for n in (9, 14, 6)
    ]
    genotype = Genotype((Aggregate(reducer, message), Combine(8), Pool(("max", "mean"))), Head((8,)))
    assert_same_numbers(with_bits(genotype, 8), graphs, has_edges=True)


@pytest.mark.parametrize("has_edges", [False, True])
def test_targets_alone_are_as_many_as_their_sample_has(has_edges: bool) -> None:
    genotype = Genotype(
        (Sample("knn", 4), Aggregate("sum", "target"), Combine(8), Pool(("max",))), Head((8,))
    )
    edges = torch.stack([torch.arange(POINTS), torch.arange(POINTS).roll(1)])
    graphs = clouds(2)
    for graph in graphs:
        graph.edge_index = edges if has_edges else NO_EDGES
    assert_same_numbers(with_bits(genotype, 8), graphs, has_edges=has_edges)


def test_other_clouds_can_be_prepared() -> None:
    simulated, _, lowered = lowered_of(
        with_bits(
            Genotype((Combine(16), Sample("random", 3), Aggregate("max", "relative"), Pool(("max",)))), 8
        ),
        clouds(1),
    )
    other = Batch.from_data_list(clouds(3, 64, seed=7))
    with torch.no_grad():
        wanted = simulated(other.x, None, other.batch, other.num_graphs)
    assert torch.allclose(lowered(lowered.prepare(other)), wanted, rtol=1e-3, atol=1e-3)


def test_sampled_graphs_of_unequal_size_are_refused() -> None:
    genotype = Genotype((Sample("knn", 2), Aggregate("max", "source"), Combine(8), Pool(("max",))), Head(()))
    _, _, lowered = lowered_of(with_bits(genotype, 8), clouds(2))
    unequal = Batch.from_data_list([*clouds(1, 10), *clouds(1, 12)])
    with pytest.raises(DataError, match="expected graphs of one size, whose neighbours are sampled"):
        lowered.prepare(unequal)
