"""Which works share a grid of the look-up table, and where on it they are."""

from __future__ import annotations

import pytest

from sgq.cost.categories import AXES, Category, category_of, coordinates, repetitions
from sgq.cost.work import Kind, Work

GATHER = Work("integer", "gather", "sum", 16, 48, 4, 4, 8)
LINEAR = Work("integer", "linear", "relu", 16, 0, 4, 8, 8, 8, 8)
KNN = Work("float", "knn", "knn", 64, 320, 3, 0, clouds=4)


def test_a_category_reads_as_it_is() -> None:
    assert str(category_of(GATHER)) == "integer gather sum 8->32 bits"
    assert category_of(LINEAR) == Category("integer", "linear", "linear", 8, 8)


@pytest.mark.parametrize(
    "alike",
    [
        GATHER._replace(variant="mean"),
        GATHER._replace(rows=99, edges=1000, inputs=512, outputs=512),
        # Sums leave in fp32 or are rounded to codes: next to gathering rows that is nothing.
        GATHER._replace(output_bits=4),
        GATHER._replace(input_bits=5),
    ],
)
def test_gathers_that_cost_alike_share_a_category(alike: Work) -> None:
    assert category_of(alike) == category_of(GATHER)


@pytest.mark.parametrize(
    "other",
    [
        GATHER._replace(variant="max"),
        GATHER._replace(input_bits=4),
        GATHER._replace(input_bits=32),
        GATHER._replace(runtime="float", input_bits=32),
        GATHER._replace(kind="pool"),
    ],
)
def test_gathers_that_cost_otherwise_do_not(other: Work) -> None:
    assert category_of(other) != category_of(GATHER)


@pytest.mark.parametrize(
    ("bits", "held"), [(1, 1), (2, 2), (3, 4), (4, 4), (7, 8), (8, 8), (9, 32), (32, 32)]
)
def test_codes_that_are_unpacked_alike_share_a_category(bits: int, held: int) -> None:
    assert category_of(GATHER._replace(input_bits=bits)).input_bits == held
    assert category_of(LINEAR._replace(input_bits=bits)).input_bits == held
    # Neighbours are looked for among unpacked codes.
    knn = KNN._replace(runtime="integer", input_bits=bits)
    assert category_of(knn).input_bits == (8 if bits <= 8 else 32)


def test_a_layer_of_fp32_weights_is_one_of_fp32_rows() -> None:
    for bits in ((8, 32), (32, 8), (16, 8)):
        layer = LINEAR._replace(input_bits=bits[0], weight_bits=bits[1])
        assert category_of(layer) == Category("integer", "linear", "linear", 32, 8)
    assert category_of(LINEAR._replace(weight_bits=2)) == category_of(LINEAR)
    assert category_of(LINEAR._replace(variant="none")) == category_of(LINEAR)
    assert category_of(LINEAR._replace(output_bits=16)) == Category("integer", "linear", "linear", 8, 32)


def test_on_torch_bits_change_nothing() -> None:
    layer = LINEAR._replace(runtime="float")
    assert category_of(layer) == Category("float", "linear", "linear", 32, 32)


@pytest.mark.parametrize("variant", ["max", "min", "sum", "mean"])
def test_the_reducer_of_lengths_and_of_edge_networks_does_not_matter(variant: str) -> None:
    for kind in ("distance", "edge_network"):
        assert category_of(GATHER._replace(runtime="float", kind=kind, variant=variant)).variant == "max"


def test_messages_are_apart_and_concatenations_together() -> None:
    def variant(shape: str) -> str:
        return category_of(Work("integer", "assemble", shape, 16, 0, 8, 8)).variant

    assert [variant(shape) for shape in ("1x1", "1x2", "2x2", "4x2")] == ["1x1", "1x2", "2x2", "4x2"]
    assert [variant(shape) for shape in ("2x1", "3x1", "4x1")] == ["2x1"] * 3


@pytest.mark.parametrize(
    ("work", "wanted"),
    [
        (GATHER, {"rows": 16.0, "k": 3.0, "inputs": 4.0}),
        (LINEAR, {"rows": 16.0, "inputs": 4.0, "outputs": 8.0}),
        # 4 clouds of 16 points with 5 neighbours each.
        (KNN, {"rows": 16.0, "k": 5.0, "inputs": 3.0}),
        (Work("float", "pool", "max", 64, 0, 3, 3, clouds=4), {"rows": 16.0, "inputs": 3.0}),
        (Work("integer", "assemble", "4x2", 64, 0, 7, 10, clouds=4), {"rows": 64.0, "outputs": 10.0}),
        # Fewer edges than rows, and none at all.
        (GATHER._replace(edges=8), {"rows": 16.0, "k": 1.0, "inputs": 4.0}),
        (GATHER._replace(edges=0), {"rows": 16.0, "k": 1.0, "inputs": 4.0}),
    ],
)
def test_a_work_is_where_its_sizes_are(work: Work, wanted: dict[str, float]) -> None:
    assert dict(zip(AXES[work.kind], coordinates(work), strict=True)) == wanted


@pytest.mark.parametrize(
    ("kind", "times"),
    [("knn", 4), ("pool", 4), ("gather", 1), ("random", 1), ("linear", 1), ("assemble", 1), ("distance", 1)],
)
def test_only_what_looks_at_whole_clouds_is_done_for_each(kind: Kind, times: int) -> None:
    assert repetitions(KNN._replace(kind=kind)) == times
    assert repetitions(KNN._replace(kind=kind, clouds=1)) == 1
