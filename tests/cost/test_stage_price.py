"""Positions that cost the same are priced as one, and no figure shows it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from sgq.cost import Pricer, Workload
from sgq.cost.architecture_graph import idle_row, own_numbers
from sgq.cost.calls import calls_of
from sgq.cost.peak_memory import peak_memory
from sgq.cost.pricing import packed_bytes
from sgq.cost.profile_file import load_profile
from sgq.cost.stage_price import StagePrices
from sgq.errors import ModelError
from sgq.models.genotype import Aggregate, Combine, Connect, EdgeMlp, Genotype, Head, Operation, Pool, Sample
from sgq.models.genotype_sampling import GenotypeSpace, random_genotype
from tests.cost.priced import measured_profile

NODES = Workload(nodes=64)
SPACE = GenotypeSpace(
    k=(2, 4), widths=(1, 8, 64), heads=((16,), (8, 4)), widest=256, bits=(32, 16, 8, 4, 2, 1)
)


def drawn(count: int) -> list[Genotype]:
    generator = random.Random(8)
    return [random_genotype(SPACE, generator, in_channels=NODES.features) for _ in range(count)]


@pytest.mark.parametrize("measured", [True, False])
def test_a_price_is_that_of_its_own_calls_whatever_was_priced_before(tmp_path: Path, measured: bool) -> None:
    profile = measured_profile(tmp_path, seconds=1e-3) if measured else load_profile("raspberry-pi-4b")
    pricer, genotypes = Pricer(profile), drawn(120)
    for genotype, found in zip(genotypes, pricer.prices(genotypes, NODES), strict=True):
        works = [call.work for call in calls_of(genotype, NODES).calls]
        entries = [pricer.entry(work) for work in works]
        assert found.latency_s == pytest.approx(sum(entry.seconds for entry in entries), rel=1e-12)
        assert found.flops == sum(work.flops for work in works)
        assert found.bytes_moved == pytest.approx(sum(work.bytes_moved for work in works), rel=1e-12)
        assert found.packed_bytes == packed_bytes(genotype, NODES)
        assert found.peak_bytes == peak_memory(genotype, NODES, threads=pricer.threads).peak_bytes
        assert found.extrapolated == any(entry.extrapolated for entry in entries)


def test_what_a_predictor_is_told_is_the_same_whatever_was_priced_before(tmp_path: Path) -> None:
    profile, genotypes = measured_profile(tmp_path, seconds=1e-3), drawn(40)
    after_others = Pricer(profile)
    after_others.prices(drawn(120), NODES)
    for genotype in genotypes:
        alone = Pricer(profile).inputs([genotype], NODES)
        found = after_others.inputs([genotype], NODES)
        assert found.nodes.equal(alone.nodes)
        assert found.base.equal(alone.base)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Combine(8, "relu", 8, 2), Combine(8, "leaky_relu", 8, 4)),
        (Aggregate("mean", "full", 4), Aggregate("sum", "full", 4)),
        (Aggregate("min", "source"), Aggregate("max", "source")),
        (Pool(("max", "mean")), Pool(("max", "sum"))),
        (Head((8,), weight_bits=1), Head((8,), "relu", weight_bits=8)),
    ],
)
def test_what_takes_as_long_has_one_price(one: Operation | Head, other: Operation | Head) -> None:
    stages = stage_prices(measured=True)
    assert stages.kin(one).number == stages.kin(other).number
    assert stages.kin(one).operation == stages.kin(other).operation


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Combine(8, input_bits=8), Combine(8, input_bits=4)),
        (Combine(8, weight_bits=8), Combine(8, weight_bits=16)),
        (Aggregate("max", "full"), Aggregate("sum", "full")),
        (EdgeMlp(8, "max"), EdgeMlp(8, "sum")),
        (Sample("knn", 2), Sample("random", 2)),
        (Pool(("max",)), Pool(("max", "sum"))),
    ],
)
def test_what_does_not_is_priced_apart(one: Operation, other: Operation) -> None:
    stages = stage_prices(measured=True)
    assert stages.kin(one).number != stages.kin(other).number


def test_without_measured_times_bits_of_weights_matter() -> None:
    stages = stage_prices(measured=False)
    one, other = (stages.kin(Combine(8, "leaky_relu", 8, bits)) for bits in (2, 4))
    assert one.number != other.number
    assert one.more_bits == other.more_bits == 0
    assert stage_prices(measured=True).kin(Combine(8, "relu", 8, 2)).more_bits == -6


def test_an_operation_keeps_what_a_predictor_is_told_of_it() -> None:
    stages = stage_prices(measured=True)
    for operation in (Combine(8, "leaky_relu", 8, 2), Aggregate("mean", "full"), Pool(("max", "mean"))):
        assert stages.kin(operation).numbers == own_numbers(operation)
    idle = Connect("identity")
    assert idle_row(idle).startswith(own_numbers(idle))


def test_a_position_without_a_price_is_named_as_it_was_given(tmp_path: Path) -> None:
    pricer = Pricer(measured_profile(tmp_path, seconds=1e-3))
    genotype = Genotype((Sample("knn", 2, 8), EdgeMlp(8, "mean", "relu", 8, 8), Pool(("max",))))
    with pytest.raises(ModelError, match="position 1: edge_mlp by mean"):
        pricer.prices([genotype], NODES)


def stage_prices(*, measured: bool) -> StagePrices:
    return StagePrices(lambda work: pytest.fail(f"not asked for {work}"), measured=measured, threads=1)
