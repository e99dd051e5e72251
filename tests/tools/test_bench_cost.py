from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest

from sgq.cost import Pricer, Workload, pace, rates, space_operations, workload
from sgq.cost.architectures import MeasuredArchitecture
from sgq.cost.predictor_training import FitSettings
from sgq.cost.space_operations import Sizes
from sgq.cost.timing import Timing
from sgq.models import genotype_sampling
from sgq.models.genotype import Genotype
from sgq.models.genotype_sampling import GenotypeSpace, random_genotype
from tests.cost.priced import measured_profile

SMALL = Workload(nodes=32, classes=4)
SPACE = GenotypeSpace(most_positions=6, widths=(8, 16), heads=((8,),), widest=64)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small clouds, small operations, small architectures."""
    monkeypatch.setattr(rates, "QUICK_STREAM_BYTES", (2**10,))
    monkeypatch.setattr(rates, "QUICK_PRODUCTS", ((4, 8, 8),))
    monkeypatch.setattr(rates, "TOUCHED_BYTES", 2**12)
    monkeypatch.setattr(pace, "WATCHED_S", 0.01)
    sizes = Sizes(rows=(32,), k=(10,), channels=(1, 16), edge_channels=(3,), narrow=(8, 4, 2, 1))
    monkeypatch.setattr(space_operations, "QUICK_SIZES", sizes)
    monkeypatch.setattr(workload, "POINTS", SMALL)

    def small_space(**changes: object) -> GenotypeSpace:
        return GenotypeSpace(most_positions=5, widths=(8, 16), heads=((8,),), widest=64, **changes)  # type: ignore[arg-type]

    monkeypatch.setattr(genotype_sampling, "GenotypeSpace", small_space)


@pytest.mark.soak
@pytest.mark.usefixtures("tiny")
def test_the_suite_measures_compares_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import bench
    from benches import cost, cost_results, paper_predictors

    monkeypatch.setattr(cost, "BATCH", 20)
    monkeypatch.setattr(cost, "SINGLE_PRICES", 5)
    short = {paper: FitSettings(epochs=1) for paper in paper_predictors.SETTINGS}
    monkeypatch.setattr(paper_predictors, "SETTINGS", short)
    file = tmp_path / "cost.json"
    words = ["cost", "--folder", str(tmp_path / "measured"), "--quick", "--train", "20", "--test", "10"]
    words += ["--moved", "10", "--peaks", "10", "--orders", "2", "--json", str(file)]
    assert bench.main(words) == 0
    document = json.loads(file.read_text())
    assert set(document["aims"]) == set(cost_results.AIMS)
    assert document["summary"]["peak_within_5"] > 0.9
    names = [row["name"] for row in document["predictors"]]
    assert {"ours", "HGNAS", "GCoDE", "look-up table alone", "ours, moved"} < set(names)
    assert {row["name"] for row in document["peaks"]} > {"dgcnn, 8 bits", "gcn, fp32 csr", "sage, 8 bits"}
    assert document["bits"]["architectures"] == 2
    rows = (tmp_path / "measured" / "host.architectures.csv").read_text()
    assert bench.main(words) == 0
    assert (tmp_path / "measured" / "host.architectures.csv").read_text() == rows
    assert "HGNAS's closed form" in capsys.readouterr().out


def test_errors_and_order_of_predictions() -> None:
    from benches.cost_results import Training, predictor_row

    row = predictor_row("ours", [1.0, 2.1, 2.0], [1.0, 2.0, 4.0], threads=2, training=Training(9, 5))
    assert (row.trained_on, row.epochs, row.tested_on) == (9, 5, 3)
    assert row.mape == pytest.approx((0.0 + 0.05 + 0.5) / 3)
    assert row.within_10 == pytest.approx(2 / 3)
    # The second and the third are the wrong way round.
    assert row.pair_ranking == pytest.approx(2 / 3)


def test_the_floor_is_what_the_mean_of_half_of_the_passes_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """By simulation: it is as far from the mean of all as that is from the truth."""
    from benches import cost

    noise = random.Random(0)
    truth = [1e-3 * noise.uniform(1.0, 5.0) for _ in range(2000)]

    def measured(path: Path, count: int, *, part: str, seed: int) -> list[MeasuredArchitecture]:
        seconds = [time * math.exp(noise.gauss(0.0, 0.08)) for time in truth]
        timings = [Timing(5, time, time, time) for time in seconds]
        return [MeasuredArchitecture(Genotype(()), SMALL, timing, 1, part) for timing in timings]

    monkeypatch.setattr(cost, "architectures", measured)
    found = cost.tested(Path("host.yaml"), len(truth), cost.PASSES, threads=1)
    perfect = cost.compared("perfect", truth, found.architectures, threads=1)
    assert found.noise.mape == pytest.approx(perfect.mape, rel=0.05)
    assert found.noise.within_10 == pytest.approx(perfect.within_10, abs=0.01)
    # Two single passes are further apart, by the root of 2; the mean of 4 is half as far off as one.
    assert found.noise_one_pass.mape == pytest.approx(2**1.5 * perfect.mape, rel=0.05)


def test_an_aim_below_the_noise_floor_is_met_at_the_floor() -> None:
    from benches.cost_results import meets

    floors = {"noise_mape": 0.08, "noise_within_10": 0.7, "noise_pair_ranking": 0.99}
    assert meets("latency_mape", {"latency_mape": 0.07, **floors})
    assert not meets("latency_mape", {"latency_mape": 0.09, **floors})
    assert meets("latency_within_10", {"latency_within_10": 0.75, **floors})
    # A floor that is better than the aim changes nothing.
    assert not meets("latency_pair_ranking", {"latency_pair_ranking": 0.97, **floors})
    assert meets("latency_pair_ranking", {"latency_pair_ranking": 0.98, **floors})
    assert not meets("price_ms", {"price_ms": 3.1})


def test_pairs_of_widths_inside_the_noise_do_not_count() -> None:
    from benches.cost import bits_order

    class Told:
        """Says the seconds of the wrong order for the last two."""

        def prices(self, genotypes: list[str], on: Workload) -> list[Timing]:
            return [TOLD[genotype] for genotype in genotypes]

    class Price:
        def __init__(self, seconds: float) -> None:
            self.latency_s = seconds

    TOLD = {"fp32": Price(3.0), "int8": Price(1.0), "int4": Price(2.0)}
    measured = {"fp32": 4.0, "int8": 2.0, "int4": 1.0}

    class Variant:
        def __init__(self, genotype: str, latency_s: float) -> None:
            self.genotype, self.latency_s = genotype, latency_s

    variants = tuple(Variant(name, seconds) for name, seconds in measured.items())
    found = bits_order(Told(), [variants], floor=0.1)  # type: ignore[arg-type, list-item]
    assert (found.architectures, found.pairs, found.told) == (1, 3, 2)
    # Four times as long is 300 % apart, twice as long 100 %.
    assert bits_order(Told(), [variants], floor=1.5).pairs == 1  # type: ignore[arg-type, list-item]


@pytest.mark.parametrize("paper", ["HGNAS", pytest.param("GCoDE", marks=pytest.mark.soak)])
def test_the_papers_predictors_learn(paper: str, tmp_path: Path) -> None:
    from benches.paper_predictors import predictions

    pricer = Pricer(measured_profile(tmp_path, seconds=1e-4))
    generator = random.Random(0)
    measured = []
    for _ in range(60):
        genotype = random_genotype(SPACE, generator, in_channels=3)
        seconds = 1e-3 * len(genotype.positions)
        measured.append(
            MeasuredArchitecture(genotype, SMALL, Timing(5, seconds, seconds, seconds), 1, "train")
        )

    def error(epochs: int) -> float:
        settings = FitSettings(epochs=epochs, lr=8e-4, batch=8)
        found = predictions(paper, measured, measured, pricer, settings=settings)  # type: ignore[arg-type]
        return sum(abs(one / wanted.latency_s - 1.0) for one, wanted in zip(found, measured, strict=True))

    assert error(30) < 0.6 * error(1)
