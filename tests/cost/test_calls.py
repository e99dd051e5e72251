"""A genotype as kernel calls: those that the lowered model really makes, and what each of them does."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch_geometric.data import Data

from sgq.cost.calls import HEAD, Calls, calls_of
from sgq.cost.work import Call, Value, Work
from sgq.cost.workload import POINTS, Workload
from sgq.errors import ModelError, UsageError
from sgq.models.dgcnn import dgcnn
from sgq.models.genotype import (
    Aggregate,
    Combine,
    Concat,
    Connect,
    EdgeMlp,
    Genotype,
    Head,
    Operation,
    Pool,
    Reducer,
    Sample,
    choices_of,
)
from sgq.models.genotype_rules import INPUT, is_quantized, walk_of
from sgq.models.genotype_sampling import GenotypeSpace, random_genotype, with_bits
from sgq.runtime.csr import Csr
from sgq.runtime.lowering.cloud_steps import (
    AssembleStep,
    DistanceStep,
    NeighboursStep,
    PoolStep,
    RandomNeighboursStep,
)
from sgq.runtime.lowering.edge_convolution import EdgeConvStep
from sgq.runtime.lowering.model import LoweredModel
from sgq.runtime.lowering.steps import AggregateStep, LinearStep, Step
from sgq.runtime.packed import PackedTensor, held_bits
from sgq.runtime.workspace import Workspace
from tests.runtime.lowering.test_searched import clouds, lowered_of

KINDS: dict[type, str] = {
    NeighboursStep: "knn",
    RandomNeighboursStep: "random",
    AggregateStep: "gather",
    DistanceStep: "distance",
    AssembleStep: "assemble",
    LinearStep: "linear",
    EdgeConvStep: "edge_network",
    PoolStep: "pool",
}
"""All steps that a searched model may have."""
POINTS_A_CLOUD, EDGES_A_GRAPH, CLASSES = 12, 30, 5
SPACE = GenotypeSpace(
    k=(3, 5), bits=(32, 8, 4, 2, 1), widths=(8, 24, 64), heads=((16,), (32, 16)), widest=256
)
KNN = Sample("knn", 3)
SMALL = Workload(nodes=10, classes=CLASSES)


def quantized(seed: int, space: GenotypeSpace = SPACE) -> Genotype:
    generator = random.Random(seed)
    while True:
        genotype = random_genotype(space, generator, in_channels=3)
        if is_quantized(genotype, 3, has_edges=space.has_edges):
            return genotype


def graphs(count: int) -> list[Data]:
    """Graphs with edges of their own; the last node of each has none."""
    generator = torch.Generator().manual_seed(0)
    return [
        Data(
            x=torch.randn(POINTS_A_CLOUD, 3, generator=generator),
            edge_index=torch.randint(POINTS_A_CLOUD - 1, (2, EDGES_A_GRAPH), generator=generator),
            y=torch.tensor([0]),
        )
        for _ in range(count)
    ]


def shape_of(value: Any) -> Value:
    """Return what the calls should say of a value of a lowered model."""
    if isinstance(value, Csr):
        return Value(value.rows, 0, edges=value.edges)
    if isinstance(value, PackedTensor):
        return Value(value.layout.rows, value.layout.channels, value.layout.segments[0].bits)
    return Value(value.size(0), value.size(1))


def as_held(value: Value) -> Value:
    """Return a value at the bits at which its codes are held: nothing holds 3."""
    return value._replace(bits=held_bits(value.bits))


def assert_calls_are_steps(genotype: Genotype, data: list[Data], *, has_edges: bool = False) -> None:
    edges = EDGES_A_GRAPH if has_edges else 0
    workload = Workload(POINTS_A_CLOUD, edges, batch=len(data), classes=CLASSES)
    calls = calls_of(genotype, workload)
    _, _, lowered = lowered_of(genotype, data, has_edges=has_edges)
    assert lowered.inputs is not None
    assert [call.work.kind for call in calls.calls] == [KINDS.get(type(step)) for step in lowered.steps]
    values: dict[int, Any] = {0: lowered.inputs.features}
    numbers = {0: 0}
    assert shape_of(values[0]) == as_held(calls.values[0])
    for call, step in zip(calls.calls, lowered.steps, strict=True):
        step.run(values, lowered.inputs, Workspace())
        numbers[call.writes] = output_of(step)
        assert shape_of(values[output_of(step)]) == as_held(calls.values[call.writes])
        # The edges of the data are a value of the calls, but none of the steps'.
        assert {numbers[read] for read in call.reads if read in numbers} == set(step.inputs)
        assert_same_work(call.work, step, values, lowered)
    assert numbers[calls.output] == lowered._output
    assert calls.runtime == "integer"


def output_of(step: Any) -> int:
    return int(step.output)


def assert_same_work(work: Work, step: Step, values: dict[int, Any], lowered: LoweredModel) -> None:
    assert lowered.inputs is not None
    read = [shape_of(values[number]) for number in step.inputs]
    features = [value for value in read if not value.edges]
    if not isinstance(step, RandomNeighboursStep):
        assert work.inputs == sum(value.channels for value in features)
        assert held_bits(work.input_bits) == min(value.bits for value in features)
    made = shape_of(values[output_of(step)])
    assert work.outputs == made.channels
    assert work.rows == (features[0].rows if isinstance(step, PoolStep) else made.rows)
    assert work.clouds == lowered.inputs.count
    if isinstance(step, (AggregateStep, DistanceStep, EdgeConvStep)):
        assert work.variant == step.reduction
        assert work.edges == lowered.inputs.edges(step.edges, values).edges
    elif isinstance(step, (NeighboursStep, RandomNeighboursStep)):
        assert work.edges == made.edges
    else:
        assert work.edges == 0
    if isinstance(step, PoolStep):
        assert work.variant == step.reduction
    if isinstance(step, AssembleStep):
        assert work.variant == f"{len(step.blocks)}x{max(map(len, step.blocks))}"
    if isinstance(step, LinearStep):
        assert work.variant == step.finish.activation
        assert (step.weight.inputs, step.weight.outputs) == (work.inputs, work.outputs)
        narrow = held_bits(work.input_bits) <= 8 and held_bits(work.weight_bits) <= 8
        assert step.weight.form == ("tiles" if narrow else "float")
        # Twice a code where a weight is the difference of two, or where codes stand for halves.
        assert step.weight.largest <= 2**work.weight_bits
    finish = getattr(step, "finish", None)
    if finish is not None:
        codes = finish.quantization
        assert work.output_bits == (32 if codes is None else codes.spec.bits)


@pytest.mark.parametrize("seed", range(14))
def test_calls_are_the_steps_of_the_lowered_model(seed: int) -> None:
    assert_calls_are_steps(quantized(seed), clouds(2, POINTS_A_CLOUD))


@pytest.mark.parametrize("seed", range(8))
def test_calls_are_the_steps_on_graphs_with_edges(seed: int) -> None:
    assert_calls_are_steps(quantized(seed, replace(SPACE, has_edges=True)), graphs(2), has_edges=True)


@pytest.mark.parametrize("bits", [(16, 8), (5, 3)])
def test_calls_are_the_steps_at_bits_that_no_kernel_computes(bits: tuple[int, ...]) -> None:
    assert_calls_are_steps(quantized(1, replace(SPACE, bits=bits)), clouds(2, POINTS_A_CLOUD))


def test_calls_are_the_steps_of_dgcnn() -> None:
    assert_calls_are_steps(with_bits(dgcnn(5), 8), clouds(1, POINTS_A_CLOUD))


@pytest.mark.parametrize("reducer", ["max", "min"])
def test_an_edge_network_runs_by_node_on_integers(reducer: Reducer) -> None:
    genotype = with_bits(Genotype((KNN, EdgeMlp(16, reducer), Pool(("mean",))), Head((8,))), 4)
    assert_calls_are_steps(genotype, clouds(2, POINTS_A_CLOUD))
    by_node = calls_of(genotype, SMALL).calls[1:5]
    assert [call.work.kind for call in by_node] == ["linear", "linear", "gather", "assemble"]


def test_an_edge_network_of_one_channel_has_integer_weights() -> None:
    genotype = Genotype((KNN, Aggregate("max", "distance"), EdgeMlp(16), Pool(("max",))), Head((8,)))
    assert_calls_are_steps(with_bits(genotype, 8), clouds(2, POINTS_A_CLOUD))


def test_a_layer_of_one_channel_has_a_vector_of_weights_which_stays_in_fp32() -> None:
    genotype = Genotype(
        (KNN, Aggregate("max", "distance"), Combine(8), Aggregate("max", "distance"), Pool(("max",))),
        Head((8,)),
    )
    assert_calls_are_steps(with_bits(genotype, 8), clouds(2, POINTS_A_CLOUD))
    layers = [
        call.work for call in calls_of(with_bits(genotype, 8), SMALL).calls if call.work.kind == "linear"
    ]
    assert [(work.inputs, work.weight_bits) for work in layers] == [(1, 32), (1, 32), (8, 8)]


def test_targets_of_sampled_neighbours_are_not_gathered_although_the_data_has_edges() -> None:
    genotype = Genotype(
        (KNN, Aggregate("max", "source"), Aggregate("sum", "target"), Pool(("max",))), Head((8,))
    )
    assert_calls_are_steps(with_bits(genotype, 8), graphs(2), has_edges=True)


@pytest.mark.parametrize("message", ["target", "target_relative"])
def test_targets_of_the_datas_own_edges_are_gathered(message: Any) -> None:
    genotype = Genotype((Aggregate("sum", message), Pool(("max",))), Head((8,)))
    assert_calls_are_steps(with_bits(genotype, 8), graphs(2), has_edges=True)


@pytest.mark.parametrize("reducer", choices_of(Reducer))
def test_a_full_message_is_a_distance_and_a_gather_put_together(reducer: Reducer) -> None:
    calls = calls_of(Genotype((KNN, Aggregate(reducer, "full"), Pool(("max",))), Head(())), SMALL)
    assert calls.calls == (
        Call(Work("float", "knn", "knn", 10, 30, 3, 0), (0,), 1),
        Call(Work("float", "distance", reducer, 10, 30, 3, 1), (0, 1), 2),
        Call(Work("float", "gather", reducer, 10, 30, 3, 3), (0, 1), 3),
        Call(Work("float", "assemble", "4x2", 10, 0, 3 + 1 + 3, 10), (0, 2, 3), 4),
        Call(Work("float", "pool", "max", 10, 0, 10, 10), (4,), 5),
        Call(Work("float", "linear", "none", 1, 0, 10, CLASSES), (5,), 6),
    )
    assert calls.values == (
        Value(10, 3), Value(10, 0, edges=30), Value(10, 1), Value(10, 3), Value(10, 10), Value(1, 10),
        Value(1, CLASSES),
    )  # fmt: skip
    assert calls.positions == (0, 1, 1, 1, 2, HEAD)
    assert calls.output == 6


@pytest.mark.parametrize("seed", range(30))
def test_bits_change_no_kind_and_no_shape(seed: int) -> None:
    space = replace(SPACE, has_edges=seed % 2 == 0)
    genotype = random_genotype(space, random.Random(seed), in_channels=3)
    workload = Workload(20, edges=50 if space.has_edges else 0, batch=2)
    bare, narrow = (calls_of(with_bits(genotype, bits), workload) for bits in (32, 4))
    assert (bare.runtime, narrow.runtime) == ("float", "integer")
    assert list(without_bits(bare)) == list(without_bits(narrow))


def without_bits(calls: Calls) -> Iterator[tuple[Any, ...]]:
    for call, position in zip(calls.calls, calls.positions, strict=True):
        work = call.work._replace(
            runtime="float", input_bits=32, weight_bits=32, output_bits=32, mixed_row_bits=0
        )
        value = calls.values[call.writes]
        yield work, position, call.reads, call.writes, value.rows, value.channels, value.edges


def test_a_batch_has_as_many_clouds_and_that_many_times_the_rows() -> None:
    genotype = Genotype((KNN, Aggregate("max", "source"), Pool(("max", "mean"))), Head(()))
    works = [call.work for call in calls_of(genotype, Workload(10, batch=4)).calls]
    assert [work.clouds for work in works] == [4] * 6
    assert [work.rows for work in works] == [40, 40, 40, 40, 4, 4]
    assert [work.edges for work in works] == [120, 120, 0, 0, 0, 0]
    # Nobody looks for neighbours in other clouds.
    assert works[0].flops == 4 * 2 * 10 * 10 * 3


def test_a_skip_and_a_concat_read_what_was_made_before() -> None:
    positions = (Combine(3), Combine(3), Connect("skip"), Concat((0, 2)), Pool(("sum",)))
    calls = calls_of(Genotype(positions, Head(())), SMALL)
    skip, concat = calls.calls[2:4]
    assert (skip.work.variant, skip.reads) == ("1x2", (2, 1))
    assert (concat.work.variant, concat.reads) == ("2x1", (1, 3))
    assert calls.values[concat.writes] == Value(10, 6)


def test_idle_positions_make_no_calls() -> None:
    positions = (Sample("knn", 2), Connect("identity"), KNN, Aggregate("max", "target"), Pool(("max",)))
    calls = calls_of(Genotype(positions, Head(())), SMALL)
    assert [call.work.kind for call in calls.calls] == ["pool", "linear"]


def test_dgcnn_is_5_33_gflop() -> None:
    works = [call.work for call in calls_of(dgcnn(), POINTS).calls]
    counted = sum(work.flops for work in works if work.kind in ("knn", "edge_network", "linear"))
    assert counted == pytest.approx(5.33e9, rel=2e-3)
    # What is left, comparing and putting side by side, is nothing beside it.
    assert sum(work.flops for work in works) == pytest.approx(counted, rel=1e-3)


@pytest.mark.parametrize(
    ("work", "flops", "bytes_moved"),
    [
        # 16 points of 4 channels at 8 bits; 48 indices of 4 bytes.
        (Work("integer", "knn", "knn", 16, 48, 4, 0, 8), 2 * 16 * 16 * 4, 16 * 4 + 48 * 4),
        # On torch both ends of an edge are int64.
        (Work("float", "random", "random", 16, 48, 4, 0), 0, 48 * 16),
        # 48 gathered rows of half a byte times 4, 16 written ones of 4 fp32 numbers, 48 sources.
        (Work("integer", "gather", "max", 16, 48, 4, 4, 4), 48 * 4, 48 * 2 + 16 * 16 + 48 * 4),
        (Work("float", "distance", "sum", 16, 48, 4, 1), 3 * 48 * 4, 48 * 16 + 16 * 4 + 48 * 16),
        (Work("float", "assemble", "2x2", 16, 0, 8, 8), 16 * 8, 16 * 8 * 4 * 2),
        (Work("integer", "linear", "relu", 16, 0, 4, 8, 8, 4, 8), 2 * 16 * 4 * 8, 16 * 4 + 16 * 8 + 32 / 2),
        # [x_i, x_j − x_i] of every edge times a weight of 8 by 8.
        (
            Work("float", "edge_network", "max", 16, 48, 4, 8),
            2 * 48 * 8 * 8,
            (48 * 4 + 16 * 8 + 64) * 4 + 48 * 16,
        ),
        # Rows of 4 numbers in 2 bits; one row of 4 fp32 numbers a cloud.
        (Work("integer", "pool", "max", 16, 0, 4, 4, 2, clouds=2), 16 * 4, 16 + 2 * 16),
        # A row's own 4 numbers in 4 bits and 4 gathered ones in fp32; 4 written in 8 bits.
        (
            Work("integer", "assemble", "1x2", 16, 0, 8, 4, 4, output_bits=8, mixed_row_bits=4 * 4 + 4 * 32),
            16 * 4,
            16 * (2 + 16) + 16 * 4,
        ),
    ],
    ids=lambda value: value.kind if isinstance(value, Work) else "",
)
def test_what_a_work_computes_and_moves(work: Work, flops: int, bytes_moved: float) -> None:
    assert work.flops == flops
    assert work.bytes_moved == bytes_moved


def test_features_are_kept_in_the_bits_of_those_who_read_them() -> None:
    genotype = Genotype(
        (
            Sample("knn", 3, input_bits=8),
            Aggregate("max", "relative", message_bits=8),
            Combine(16, input_bits=4, weight_bits=2),
            Combine(3, input_bits=32, weight_bits=8),
            Connect("skip"),
            Pool(("max",), input_bits=2),
        ),
        Head(input_bits=1),
    )
    # What a skip alone reads would be in fp32; position 1, which the skip adds, is read in 4 bits before.
    assert walk_of(genotype, 3).kept_bits == {INPUT: 8, 1: 4, 2: 32, 4: 2, 5: 1}
    calls = calls_of(genotype, SMALL)
    made = {at: calls.values[call.writes].bits for at, call in zip(calls.positions, calls.calls, strict=True)}
    assert made == {0: 32, 1: 4, 2: 32, 3: 32, 4: 2, 5: 1, HEAD: 32}


def test_random_neighbours_keep_nothing_in_bits() -> None:
    positions: tuple[Operation, ...] = (Sample("random", 3, input_bits=2), Aggregate("max", "source"))
    genotype = Genotype(positions, Head((), input_bits=8))
    assert walk_of(genotype, 3).kept_bits == {INPUT: 32, 1: 8}


def test_a_genotype_that_cannot_run_has_no_calls() -> None:
    with pytest.raises(ModelError, match="needs neighbours"):
        calls_of(Genotype((Aggregate("max", "source"),)), SMALL)


@pytest.mark.parametrize(
    "sizes", [{"nodes": 0}, {"batch": 0}, {"features": 0}, {"classes": 0}, {"edges": -1}]
)
def test_a_workload_without_anything_is_refused(sizes: dict[str, int]) -> None:
    (name,) = sizes
    with pytest.raises(UsageError, match=f"expected {name} of at least"):
        Workload(**({"nodes": 4} | sizes))
