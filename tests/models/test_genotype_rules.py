"""What positions read and make, and the reasons why a genotype cannot run."""

from __future__ import annotations

import random

import pytest

from sgq.errors import ModelError
from sgq.models.dgcnn import dgcnn
from sgq.models.genotype import (
    Aggregate,
    Combine,
    Communicate,
    Concat,
    Connect,
    EdgeMlp,
    Genotype,
    Head,
    Operation,
    Pool,
    Sample,
)
from sgq.models.genotype_rules import (
    INPUT,
    Features,
    faults_of,
    is_quantized,
    last_features,
    stages_of,
)
from sgq.models.genotype_sampling import GenotypeSpace, random_genotype, with_bits

KNN = Sample("knn", 4)


def reasons(*positions: Operation, has_edges: bool = False, head: Head | None = None) -> list[str]:
    genotype = Genotype(positions, head or Head())
    return [str(fault) for fault in faults_of(genotype, 3, has_edges=has_edges)]


def test_stages_follow_channels_and_rows() -> None:
    stages = stages_of(
        Genotype((KNN, Aggregate("max", "target_relative"), Combine(16), Pool(("max", "mean")))), 3
    )
    assert [stage.made.channels for stage in stages] == [3, 6, 16, 32]
    assert [stage.made.rows for stage in stages] == ["nodes", "nodes", "nodes", "graphs"]
    assert (stages[1].sampled_at, stages[1].k) == (0, 4)


@pytest.mark.parametrize(
    ("message", "channels"),
    [
        ("source", 3),
        ("target", 3),
        ("relative", 3),
        ("source_relative", 6),
        ("target_relative", 6),
        ("distance", 1),
        ("full", 10),
    ],
)
def test_a_message_has_the_channels_of_gcode(message: str, channels: int) -> None:
    stages = stages_of(Genotype((KNN, Aggregate("sum", message))), 3)  # type: ignore[arg-type]
    assert stages[-1].made == Features(1, channels)


def test_a_skip_adds_the_latest_earlier_features_of_its_width() -> None:
    stages = stages_of(Genotype((Combine(8), Combine(4), Combine(8), Combine(8), Connect("skip"))), 3)
    assert stages[-1].added == Features(2, 8)
    assert stages[-1].made == Features(4, 8)


def test_a_skip_without_such_features_is_a_fault() -> None:
    assert reasons(Combine(8), Connect("skip")) == [
        "position 1: skip finds no earlier features of 8 channels to add"
    ]


def test_aggregation_needs_neighbours() -> None:
    wanted = "position 0: aggregate needs neighbours: put a sample before it, or give data with edges"
    assert reasons(Aggregate("max", "source")) == [wanted]
    assert reasons(Aggregate("max", "source"), has_edges=True) == []
    assert "edge_mlp needs neighbours" in reasons(EdgeMlp(8))[0]


@pytest.mark.parametrize("operation", [KNN, Aggregate("max", "source"), EdgeMlp(8), Pool(("max",))])
def test_nothing_looks_at_nodes_after_a_pool(operation: Operation) -> None:
    (reason,) = reasons(KNN, Pool(("max",)), operation)
    assert reason == f"position 2: {operation.verb} after pool, which leaves one row a graph"


def test_a_concat_joins_what_earlier_positions_left() -> None:
    stages = stages_of(Genotype((Combine(8), Combine(4), Concat((0, 1)))), 3)
    assert stages[-1].joined == (Features(0, 8), Features(1, 4))
    assert stages[-1].made.channels == 12
    assert reasons(Concat((1,)), Combine(8)) == [
        "position 0: concat of position 1, which does not come before it"
    ]
    assert "one row for each of the nodes" in reasons(Combine(8), Pool(("max",)), Concat((0, 1)))[0]
    assert reasons(Concat(())) == ["position 0: concat of no positions"]


def test_the_same_features_have_one_width() -> None:
    (reason,) = reasons(Sample("knn", 4, input_bits=8), Aggregate("max", "source", message_bits=4))
    assert reason == (
        "position 1: message of 4 bits, but position 0 reads the same features as input of 8 bits: "
        "they are kept once"
    )
    (reason,) = reasons(Combine(8), Pool(("max",), input_bits=8), Combine(8, input_bits=4, weight_bits=2),
                        head=Head(input_bits=8)) or [""]  # fmt: skip
    assert reason == ""


def test_random_neighbours_read_no_features() -> None:
    sample = Sample("random", 4, input_bits=8)
    assert reasons(sample, Aggregate("max", "source", message_bits=4)) == []
    assert stages_of(Genotype((sample, Aggregate("max", "source"))), 3)[0].reads == ()


def test_what_nobody_asks_for_is_idle() -> None:
    stages = stages_of(
        Genotype((
            Sample("knn", 4, input_bits=8), Aggregate("max", "target", message_bits=4), KNN,
            Aggregate("max", "source"), Connect("identity"), Communicate(), Sample("random", 2),
            Aggregate("sum", "target"), Combine(8),
        )),
        3,
    )  # fmt: skip
    assert [stage.idle for stage in stages] == [True, True, False, False, True, True, True, False, False]
    assert [len(stage.reads) for stage in stages] == [0, 0, 1, 1, 0, 0, 0, 1, 1]


def test_at_most_two_crossings() -> None:
    assert reasons(Communicate(), Communicate()) == []
    (reason,) = reasons(Communicate(), Communicate(), Communicate())
    assert reason == "position 2: expected at most 2 communicate (this is number 3)"


def test_all_faults_are_in_one_error() -> None:
    broken = Genotype((Aggregate("max", "source"), Connect("skip")), name="broken")
    with pytest.raises(ModelError, match=r'"broken" cannot run: position 0: .*; position 1: skip'):
        stages_of(broken, 3)


def test_the_weight_of_a_single_channel_is_a_vector_in_the_head_too() -> None:
    single = (KNN, Aggregate("max", "distance"))
    assert not is_quantized(Genotype(single, Head((), weight_bits=8)), 3)
    assert is_quantized(Genotype(single, Head((4,), weight_bits=8)), 3)
    assert is_quantized(Genotype(single, Head((), input_bits=8)), 3)
    assert is_quantized(Genotype((KNN,), Head((), weight_bits=8)), 3)


def test_no_positions_leave_the_input() -> None:
    assert last_features(stages_of(Genotype(()), 3), 3) == Features(INPUT, 3)


def test_dgcnn_is_valid_and_random_genotypes_are() -> None:
    assert faults_of(dgcnn(), 3) == ()
    generator = random.Random(0)
    space = GenotypeSpace()
    for _ in range(100):
        genotype = random_genotype(space, generator, in_channels=3)
        assert faults_of(genotype, 3) == ()
        assert max(stage.made.channels for stage in stages_of(genotype, 3)[:-1]) <= space.widest
        assert faults_of(with_bits(genotype, 4), 3) == ()
        assert is_quantized(with_bits(genotype, 4), 3)
        assert not is_quantized(with_bits(genotype, 32), 3)


def test_random_genotypes_are_those_of_their_seed() -> None:
    def drawn(seed: int) -> list[Genotype]:
        generator = random.Random(seed)
        return [random_genotype(GenotypeSpace(), generator, in_channels=3) for _ in range(5)]

    assert drawn(1) == drawn(1) != drawn(2)
