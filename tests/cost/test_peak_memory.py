"""Peak memory of genotypes: as measured, as the kernels ask for room, and as HGNAS estimates it."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch_geometric.data import Batch

from sgq.cost.calls import Calls, calls_of
from sgq.cost.footprint import footprint_of, padding_bytes, value_bytes
from sgq.cost.peak_memory import hgnas_peak_bytes, peak_memory
from sgq.cost.work import Call, Value, Work
from sgq.cost.workload import POINTS, Workload
from sgq.models.dgcnn import dgcnn
from sgq.models.genotype import (
    Aggregate,
    Combine,
    Concat,
    Connect,
    EdgeMlp,
    Genotype,
    Head,
    Message,
    Operation,
    Pool,
    Reducer,
    Sample,
    choices_of,
)
from sgq.models.genotype_rules import is_quantized
from sgq.models.genotype_sampling import GenotypeSpace, random_genotype, with_bits
from sgq.models.searched import build_genotype
from sgq.runtime.comparison import integer_peak
from sgq.runtime.lowering.model import LoweredModel
from sgq.runtime.measuring import measure_peak, stored_bytes
from sgq.runtime.workspace import Recording
from tests.runtime.lowering.test_searched import clouds, lowered_of

POINTS_A_CLOUD, CLASSES = 256, 5
WORKLOAD = Workload(POINTS_A_CLOUD, classes=CLASSES)
FLOAT_SEEDS, QUANTIZED_SEEDS = range(8), range(12)


def float_genotype(seed: int) -> Genotype:
    return with_bits(random_genotype(GenotypeSpace(), random.Random(seed), in_channels=3), 32)


@cache
def quantized_genotype(seed: int) -> Genotype:
    generator = random.Random(seed)
    space = GenotypeSpace(bits=(32, 16, 8, 4, 2, 1))
    while True:
        genotype = random_genotype(space, generator, in_channels=3)
        if is_quantized(genotype, 3):
            return genotype


@cache
def lowered_model(genotype: Genotype, count: int = 1, points: int = POINTS_A_CLOUD) -> LoweredModel:
    return lowered_of(genotype, clouds(count, points))[2]


def measured_float_peak(genotype: Genotype, workload: Workload = WORKLOAD) -> int:
    torch.manual_seed(0)
    model = build_genotype(genotype, in_channels=3, out_channels=CLASSES).eval()
    given = Batch.from_data_list(clouds(workload.batch, workload.nodes))
    batch = given.batch if workload.batch > 1 else None

    def run() -> Any:
        with torch.inference_mode():
            return model(given.x, None, batch, workload.batch)

    run()
    resident_bytes = stored_bytes([given.x, *model.parameters(), *model.buffers()])
    return measure_peak(run, resident_bytes=resident_bytes).peak_bytes


def loose_bytes(lowered: LoweredModel) -> int:
    """Return how much larger an arena is than the most that is alive at once: places may not fit better."""
    assert lowered.inputs is not None
    recording = lowered.inputs.schedule._recording
    assert recording is not None
    steps = range(len(lowered.steps) + 1)
    alive = [sum(one.nbytes for one in recording.requests if one.first <= at <= one.last) for at in steps]
    return recording.places()[1] - max(alive)


@pytest.mark.parametrize("seed", FLOAT_SEEDS)
def test_the_peak_on_torch_is_the_measured_one(seed: int) -> None:
    genotype = float_genotype(seed)
    modelled = peak_memory(genotype, WORKLOAD).peak_bytes
    assert modelled == pytest.approx(measured_float_peak(genotype), rel=0.001)


@pytest.mark.parametrize("seed", QUANTIZED_SEEDS)
def test_the_peak_on_integers_is_the_measured_one(seed: int) -> None:
    genotype = quantized_genotype(seed)
    lowered = lowered_model(genotype)
    measured = integer_peak(lowered)
    modelled = peak_memory(genotype, WORKLOAD)
    assert modelled.peak_bytes + loose_bytes(lowered) == pytest.approx(measured.peak_bytes, rel=0.02)


def test_arenas_are_rarely_larger_than_what_is_alive_at_once() -> None:
    shares = []
    for seed in QUANTIZED_SEEDS:
        lowered = lowered_model(quantized_genotype(seed))
        measured = integer_peak(lowered)  # the run lays the arena out
        shares.append(loose_bytes(lowered) / measured.peak_bytes)
    assert sorted(shares)[-3] < 0.005, shares


@pytest.mark.parametrize("head", [Head(()), Head((16,))])
def test_logits_of_every_node_are_given_back_beside_the_arena(head: Head) -> None:
    genotype = with_bits(Genotype((Sample("knn", 4), Aggregate("max", "source"), Combine(16)), head), 8)
    measured = integer_peak(lowered_model(genotype)).peak_bytes
    assert peak_memory(genotype, WORKLOAD).peak_bytes == pytest.approx(measured, rel=0.01)


@pytest.mark.parametrize("bits", [8, 4])
def test_the_peak_of_dgcnn_on_integers_is_the_measured_one(bits: int) -> None:
    genotype = with_bits(dgcnn(5), bits)
    measured = integer_peak(lowered_model(genotype)).peak_bytes
    assert peak_memory(genotype, WORKLOAD).peak_bytes == pytest.approx(measured, rel=0.02)


def test_the_peak_of_dgcnn_on_torch_is_the_measured_one() -> None:
    measured = measured_float_peak(dgcnn(5))
    assert peak_memory(dgcnn(5), WORKLOAD).peak_bytes == pytest.approx(measured, rel=0.001)


@pytest.mark.parametrize("reducer", ["max", "mean"])
def test_an_edge_network_on_torch_takes_what_is_measured(reducer: Reducer) -> None:
    genotype = Genotype((Sample("knn", 9), EdgeMlp(24, reducer), Pool(("max",))), Head((8,)))
    measured = measured_float_peak(genotype)
    assert peak_memory(genotype, WORKLOAD).peak_bytes == pytest.approx(measured, rel=0.001)


@pytest.mark.parametrize("message", choices_of(Message))
@pytest.mark.parametrize("reducer", choices_of(Reducer))
def test_the_peak_of_every_message_on_torch_is_the_measured_one(message: Message, reducer: Reducer) -> None:
    genotype = Genotype(
        (Sample("random", 6), Combine(24), Aggregate(reducer, message), Pool(("max",))), Head((8,))
    )
    measured = measured_float_peak(genotype)
    assert peak_memory(genotype, WORKLOAD).peak_bytes == pytest.approx(measured, rel=0.001)


@pytest.mark.parametrize("next_k", [None, 2])
def test_neighbours_are_kept_on_torch_until_the_next_ones(next_k: int | None) -> None:
    # 40 edges a node are still there at the widest layer, long after they were read.
    positions: list[Operation] = [Sample("random", 40), Aggregate("max", "distance")]
    if next_k is not None:
        positions += [Sample("random", next_k), Aggregate("max", "source")]
    genotype = Genotype((*positions, Combine(512), Combine(8), Pool(("max",))), Head(()))
    modelled = peak_memory(genotype, WORKLOAD)
    widest = genotype.positions.index(Combine(512))
    assert modelled.position == widest
    assert modelled.peak_bytes == pytest.approx(measured_float_peak(genotype), rel=0.001)


@pytest.mark.parametrize(("count", "points"), [(3, 64), (2, 30)])
@pytest.mark.parametrize("seed", range(3))
def test_the_peak_of_a_batch_is_the_measured_one(seed: int, count: int, points: int) -> None:
    workload = Workload(points, batch=count, classes=CLASSES)
    bare, narrow = float_genotype(seed), quantized_genotype(seed)
    assert peak_memory(bare, workload).peak_bytes == pytest.approx(
        measured_float_peak(bare, workload), rel=0.02
    )
    lowered = lowered_model(narrow, count, points)
    measured = integer_peak(lowered).peak_bytes - loose_bytes(lowered)
    assert peak_memory(narrow, workload).peak_bytes == pytest.approx(measured, rel=0.02)


def test_fp32_rows_that_kernels_pad_count_beside_the_arena() -> None:
    # 16 · 3 + 1 = 49 channels in fp32 are copied to 56 before they are gathered, outside of the arena.
    positions = (
        Combine(16, input_bits=8, weight_bits=8), Sample("random", 4),
        Aggregate("max", "full", message_bits=8), Aggregate("max", "full", message_bits=32),
        Pool(("max",), input_bits=32),
    )  # fmt: skip
    genotype = Genotype(positions, Head((), input_bits=8, weight_bits=8))
    lowered = lowered_model(genotype)
    measured = integer_peak(lowered).peak_bytes - loose_bytes(lowered)
    assert peak_memory(genotype, WORKLOAD).peak_bytes == pytest.approx(measured, rel=0.001)


def test_the_worst_call_is_named() -> None:
    genotype = Genotype(
        (Combine(8), Sample("knn", 4), Aggregate("max", "distance"), Pool(("max",))), Head(())
    )
    peak = peak_memory(genotype, WORKLOAD)
    # All pairs of 256 points.
    assert peak.position == 1
    assert peak.peak_bytes > 4 * POINTS_A_CLOUD**2 > peak.resident_bytes


@pytest.mark.parametrize("seed", QUANTIZED_SEEDS)
def test_kernels_ask_for_the_room_of_their_footprint(seed: int) -> None:
    """Step by step: result, scratch room, and the padded copies of fp32 rows."""
    _assert_room_is_modelled(quantized_genotype(seed))


@pytest.mark.parametrize("bits", [3, 5, 6])
def test_kernels_ask_for_the_room_of_the_width_that_codes_are_held_at(bits: int) -> None:
    _assert_room_is_modelled(with_bits(float_genotype(bits), bits))


def _assert_room_is_modelled(genotype: Genotype) -> None:
    lowered = lowered_model(genotype)
    assert lowered.inputs is not None
    calls = calls_of(genotype, WORKLOAD)
    values: dict[int, Any] = {0: lowered.inputs.features}
    for step, call in zip(lowered.steps, calls.calls, strict=True):
        recording = Recording()
        step.run(values, lowered.inputs, recording)
        need = footprint_of(call.work, calls.values[call.writes], threads=1)
        asked = sum(request.size for request in recording.requests)
        # How far past its channels an assembly unpacks codes depends on where in a row it puts them.
        slack = 1024 if call.work.kind == "assemble" else 0
        assert abs(asked - room_of(calls, call)) <= slack, call
        assert need.weight_bytes == pytest.approx(stored_bytes(step.tensors()), abs=64), call
        if call.work.kind != "random":
            assert need.result_bytes == value_bytes(calls.values[call.writes], integer=True)


def room_of(calls: Calls, call: Call) -> int:
    """Return what a call should ask a workspace for."""
    if call.work.kind == "random":
        return 0  # drawn once, and kept by the step
    need = footprint_of(call.work, calls.values[call.writes], threads=1)
    read = () if call.work.kind == "assemble" else call.reads
    copies = sum(padding_bytes(calls.values[number]) for number in read if number)
    return need.result_bytes + need.scratch_bytes + copies


@pytest.mark.parametrize("threads", [2, 5])
def test_every_thread_has_room_of_its_own_where_work_is_large(threads: int) -> None:
    def scratch_bytes(rows: int, threads: int) -> int:
        work = Work("integer", "linear", "relu", rows, 0, 64, 64, 8, 8, 8)
        return footprint_of(work, Value(rows, 64, 8), threads=threads).scratch_bytes

    assert scratch_bytes(4096, threads) == threads * scratch_bytes(4096, 1)
    assert scratch_bytes(1, threads) == scratch_bytes(1, 1) == scratch_bytes(4096, 1)
    large = with_bits(dgcnn(20), 8)
    alone = peak_memory(large, POINTS, threads=1).peak_bytes
    assert peak_memory(large, POINTS, threads=threads).peak_bytes > alone


def test_narrower_features_take_less() -> None:
    genotype = Genotype((Combine(64), Sample("knn", 8), Aggregate("max", "source"), Combine(64),
                         Aggregate("max", "relative"), Pool(("max",))), Head(()))  # fmt: skip
    peaks = [peak_memory(with_bits(genotype, bits), WORKLOAD).peak_bytes for bits in (8, 4, 2, 1)]
    assert peaks == sorted(peaks, reverse=True)
    assert len(set(peaks)) == 4


HEAD = Head((), dropout=0.0)
FOUR_POINTS = Workload(4, classes=5)


def test_hgnas_estimate_of_an_aggregation() -> None:
    positions = (Sample("knn", 2), Aggregate("max", "target_relative"), Combine(8), Pool(("max",)))
    weights = 4 * (6 * 8 + 8 * 5)
    graph, points = 2 * 8 * 8, 4 * 3 * 4
    messages, made = 2 * 8 * (2 * 3) * 4, 4 * 6 * 4
    assert (weights, graph, points, messages, made) == (352, 128, 48, 384, 96)
    assert hgnas_peak_bytes(Genotype(positions, HEAD), FOUR_POINTS) == 352 + 128 + 48 + 384 + 96


def test_hgnas_estimate_of_a_combination() -> None:
    # Points and 512 channels of each, beside the neighbours; their messages are less.
    positions = (Sample("knn", 2), Aggregate("max", "source"), Combine(512), Combine(8), Pool(("max",)))
    weights = 4 * (3 * 512 + 512 * 8 + 8 * 5)
    assert (
        hgnas_peak_bytes(Genotype(positions, HEAD), FOUR_POINTS)
        == weights + 2 * 8 * 8 + 4 * 512 * 4 + 4 * 8 * 4
    )


def test_hgnas_estimate_of_a_distance_is_that_of_whole_rows() -> None:
    # ‖x_j − x_i‖ is made of both ends, 3 channels each.
    positions = (Sample("knn", 2), Aggregate("max", "distance"), Pool(("max",)))
    assert hgnas_peak_bytes(Genotype(positions, HEAD), FOUR_POINTS) == (
        4 * (1 * 5) + 2 * 8 * 8 + 4 * 3 * 4 + 2 * 8 * 3 * 4 + 4 * 1 * 4
    )


def test_hgnas_estimate_counts_edges_of_the_data_and_whole_batches() -> None:
    positions = (Aggregate("max", "source"), Pool(("max",)))
    assert hgnas_peak_bytes(Genotype(positions, HEAD), Workload(4, edges=6, batch=2, classes=5)) == (
        4 * (3 * 5) + 2 * 12 * 8 + 8 * 3 * 4 + 2 * 12 * 3 * 4 + 8 * 3 * 4
    )


def test_hgnas_estimate_releases_what_was_read_also_after_a_concat() -> None:
    positions = (Sample("knn", 1), Aggregate("max", "source"), Combine(64), Concat((1, 2)), Combine(2))
    wide = (*positions, Connect("identity"), Pool(("max",)), Combine(4))
    weights = 4 * (3 * 64 + 67 * 2 + 2 * 4 + 4 * 5)
    # Worst where 64 and 67 channels are side by side.
    assert hgnas_peak_bytes(Genotype(wide, HEAD), FOUR_POINTS) == (
        weights + 2 * 4 * 8 + 4 * 64 * 4 + 4 * 67 * 4
    )


def test_hgnas_estimate_knows_no_bits() -> None:
    genotype = float_genotype(0)
    assert hgnas_peak_bytes(with_bits(genotype, 2), WORKLOAD) == hgnas_peak_bytes(genotype, WORKLOAD)
    assert hgnas_peak_bytes(genotype, replace(WORKLOAD, batch=4)) > 2 * hgnas_peak_bytes(genotype, WORKLOAD)
