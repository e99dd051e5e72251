"""One question, one answer: prices by roofline and by table, with every figure by hand on small ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from sgq.cost import POINTS, Pricer, Workload, price
from sgq.cost.calls import calls_of
from sgq.cost.profile import DeviceProfile, SideFiles
from sgq.cost.profile_file import shipped_profiles
from sgq.cost.roofline import roofline_s
from sgq.cost.work import Work
from sgq.errors import ModelError, ProfileError, UsageError
from sgq.models.dgcnn import dgcnn
from sgq.models.genotype import Aggregate, Combine, EdgeMlp, Genotype, Head, Pool, Sample
from sgq.models.genotype_sampling import with_bits
from tests.cost.priced import SHEET, measured_profile

SMALL = Genotype((Sample("knn", 2), Aggregate("max", "source"), Combine(4), Pool(("max",))), Head(()))
TEN = Workload(nodes=10, classes=2)


def test_a_call_takes_the_longer_of_arithmetic_and_bytes_and_its_start() -> None:
    arithmetic = Work("float", "linear", "relu", 100, 0, 100, 100)
    assert roofline_s(arithmetic, SHEET) == pytest.approx(2e6 / 1e9 + 1e-6)
    moving = Work("float", "assemble", "2x1", 100, 0, 200, 200)
    assert roofline_s(moving, SHEET) == pytest.approx(160_000 / 1e9 + 1e-6)


def test_narrow_weights_and_inputs_run_at_the_rate_of_the_wider_of_both() -> None:
    def seconds(bits: int, weight_bits: int) -> float:
        return roofline_s(Work("integer", "linear", "relu", 500, 0, 500, 500, bits, weight_bits, 8), SHEET)

    assert seconds(8, 4) == pytest.approx(2.5e8 / 4e9 + 2e-6)
    assert seconds(4, 4) == seconds(8, 8)
    assert seconds(8, 16) == pytest.approx(2.5e8 / 1e9 + 2e-6)


def test_a_price_adds_up_its_calls() -> None:
    found = price(SMALL, TEN, SHEET)
    calls = calls_of(SMALL, TEN).calls
    assert found.latency_s == pytest.approx(sum(roofline_s(call.work, SHEET) for call in calls))
    assert found.energy_j == pytest.approx(10.0 * found.latency_s)
    assert found.flops == sum(call.work.flops for call in calls)
    assert found.source == "modelled from the data sheet, roofline"
    # Weights 3 by 4 and 4 by 2 with 4 and 2 biases; 10 by 3, 10 by 3, 10 by 4, 4 and 2 values; all in fp32.
    assert found.packed_bytes == 4 * (12 + 4 + 8 + 2 + 30 + 30 + 40 + 4 + 2)


def test_fewer_bits_cost_less() -> None:
    whole, narrow, narrower = (price(with_bits(dgcnn(), bits), POINTS, SHEET) for bits in (32, 8, 4))
    assert whole.peak_bytes > 10 * narrow.peak_bytes
    assert whole.latency_s > narrow.latency_s >= narrower.latency_s
    assert whole.packed_bytes > narrow.packed_bytes > narrower.packed_bytes


def test_a_measured_table_prices_what_it_has(tmp_path: Path) -> None:
    profile = measured_profile(tmp_path, seconds=1e-3)
    found = price(SMALL, TEN, profile)
    assert found.source == "modelled, look-up table"
    works = [call.work for call in calls_of(SMALL, TEN).calls]
    seconds = [Pricer(profile).entry(work).seconds for work in works]
    assert found.latency_s == pytest.approx(sum(seconds))
    assert sum(seconds) == pytest.approx(len(works) * 1e-3, rel=0.9)
    assert min(seconds) > 0.0
    assert found.energy_j is None


def test_many_are_priced_as_one_is(tmp_path: Path) -> None:
    pricer = Pricer(measured_profile(tmp_path, seconds=1e-3))
    wanted = [SMALL, with_bits(SMALL, 8), dgcnn(2)]
    assert pricer.prices(wanted, TEN) == [pricer.prices([one], TEN)[0] for one in wanted]
    assert pricer.prices([], TEN) == []


@pytest.mark.parametrize("name", shipped_profiles())
def test_every_data_sheet_prices_dgcnn(name: str) -> None:
    found = price(dgcnn(), POINTS, name)
    assert 1e-5 < found.latency_s < 1.0
    assert found.source == "modelled from the data sheet, roofline"


def test_an_architecture_that_cannot_run_has_no_price() -> None:
    with pytest.raises(ModelError, match="aggregate needs neighbours"):
        price(Genotype((Aggregate("max", "source"),)), POINTS, SHEET)
    with pytest.raises(ModelError, match="edge_mlp by sum runs edge by edge on integers"):
        price(with_bits(Genotype((Sample("knn", 2), EdgeMlp(8, "sum"))), 8), TEN, SHEET)
    far = Genotype((Combine(4), Sample("knn", 11), Aggregate("max", "source")))
    with pytest.raises(ModelError, match=r"position 1: expected clouds of at least k = 11 points \(got 10\)"):
        price(far, TEN, SHEET)
    assert price(far, Workload(10, edges=20), SHEET).latency_s > 0.0


def test_a_profile_without_rates_says_so() -> None:
    bare = DeviceProfile("bare", "data sheet", "2026-01-01")
    with pytest.raises(ProfileError, match="bare has no peak rate at 32 bits"):
        price(SMALL, TEN, bare)


def test_a_table_that_is_named_and_not_there_is_an_error(tmp_path: Path) -> None:
    profile = DeviceProfile("host", "measured", "", files=SideFiles(operations="host.csv"), folder=tmp_path)
    with pytest.raises(ProfileError, match=r"host\.csv: no such file"):
        Pricer(profile)


@pytest.mark.parametrize("sizes", [{"nodes": 0}, {"nodes": 1, "edges": -1}, {"nodes": 1, "batch": 0}])
def test_sizes_that_no_data_has_are_refused(sizes: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="of at least"):
        Workload(**sizes)
