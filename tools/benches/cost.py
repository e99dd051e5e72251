"""Suite `cost`: how near prices are to what is measured, on clouds of 1,024 points, one at a time.

A device profile is measured on two threads, a predictor trained on random architectures, and others measured
after that to test it, in several passes, each in an order of its own. Their mean is what is measured. The
noise floor is how far the mean of half of them is from it: about as far as the mean of all is from the truth,
so that nothing is told any better. One thread is the new device that the predictor is moved to, with a quick
profile and 100 samples. The predictors of HGNAS and GCoDE learn from the same architectures. Measurements
stay in a folder: what is there is not measured again.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from benches.cost_peaks import architecture_peaks, dgcnn_peaks, hgnas_peaks, model_peaks
from benches.cost_results import (
    BitsOrder,
    CostResult,
    PredictorRow,
    PricingSpeed,
    Training,
    predictor_row,
)
from sgq.cli.arguments import integer_from
from sgq.cost.timing import Timing

if TYPE_CHECKING:
    from sgq.cost.architectures import MeasuredArchitecture
    from sgq.cost.pricing import Pricer
    from sgq.cost.profile import DeviceProfile
    from sgq.models.genotype import Genotype

TRAIN_SEED, MOVED_SEED, TEST_SEED, BITS_SEED, SPEED_SEED = 0, 1, 2, 3, 4
"""Seeds of random architectures; that of training is the one of `sgq profile --predictor`."""
WIDTHS = (32, 8, 4)
PASSES = ("test", "test again", "test, third pass", "test, fourth pass")
"""Parts of the file that the test architectures are measured into; those of the new device into two."""
SINGLE_PRICES, BATCHES, BATCH = 200, 5, 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the suite's own options."""
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("runs/bench-cost"),
        help="where measurements are, and are added (default: runs/bench-cost)",
    )
    parser.add_argument("--train", type=integer_from(20), default=3000, help="architectures (default: 3000)")
    parser.add_argument("--test", type=integer_from(10), default=500, help="architectures (default: 500)")
    parser.add_argument("--moved", type=integer_from(10), default=100, help="samples of the new device")
    parser.add_argument("--peaks", type=integer_from(1), default=200, help="peaks of architectures compared")
    parser.add_argument("--orders", type=integer_from(1), default=50, help="architectures at three widths")
    parser.add_argument("--quick", action="store_true", help="few sizes on two threads as well: rough")


def run(given: argparse.Namespace) -> CostResult:
    """Measure what is not measured yet, train, and compare."""
    from sgq.cost.predictor_training import FitSettings

    start = time.perf_counter()
    two, one = given.folder / "host.yaml", given.folder / "one-thread-quick.yaml"
    measure_profile(two, 2, quick=given.quick, predictor=given.train)
    measure_profile(one, 1, quick=True)
    training = architectures(two, given.train, part="train", seed=TRAIN_SEED)
    known = {one.genotype for one in training}
    test = tested(two, given.test, PASSES, threads=2)
    testing = [one for one in test.architectures if one.genotype not in known]
    orders = measure_orders(two, given.orders)
    samples = architectures(one, given.moved, part="train", seed=MOVED_SEED)
    elsewhere = tested(one, given.test, PASSES[:2], threads=1)

    pricer, table = pricer_of(two), pricer_of(two, learned=False)
    learned = Training(given.train, FitSettings().epochs)
    own = compared("ours", priced(pricer, testing), testing, threads=2, training=learned)
    some = testing[: given.peaks]
    counted = (
        architecture_peaks("random architectures", pricer, some),
        *dgcnn_peaks(),
        *model_peaks(quick=given.quick),
    )
    return CostResult(
        predictors=(
            compared("look-up table alone", priced(table, testing), testing, threads=2),
            *paper_rows(table, training, testing),
        ),
        own=own,
        moved=moved_row(pricer, pricer_of(one, learned=False), samples, elsewhere.architectures),
        noise=test.noise,
        noise_one_pass=test.noise_one_pass,
        noise_one_thread=elsewhere.noise,
        counted_peaks=counted,
        peaks=(architecture_peaks("the same by the walk alone", table, some), *hgnas_peaks(some)),
        bits=bits_order(pricer, orders, floor=test.noise_one_pass.mape),
        speed=pricing_speed(pricer, training),
        noisy_share=statistics.mean(one.timing.noisy for one in testing),
        seconds=time.perf_counter() - start,
    )


def measure_profile(path: Path, threads: int, *, quick: bool, predictor: int = 0) -> None:
    """Measure a profile as a user does; what is there of it stays."""
    from sgq.cli.main import main
    from sgq.errors import ProfileError

    words = ["profile", "-o", str(path), "--threads", str(threads), *(["--quick"] if quick else [])]
    print(f"sgq {' '.join(words)}", file=sys.stderr)
    if main([*words, *(["--predictor", str(predictor)] if predictor else [])]) != 0:
        raise ProfileError(f"{path}: not measured; run the suite again to go on")


def architectures(path: Path, count: int, *, part: str, seed: int) -> list[MeasuredArchitecture]:
    """Return measured random architectures beside a profile, on its threads; measure those that lack.

    Each part is measured in an order of its own, so that neighbours in time differ.
    """
    from sgq.cost.architectures import drawn
    from sgq.cost.workload import POINTS
    from sgq.models.genotype_sampling import GenotypeSpace

    wanted = list(drawn(count, POINTS, seed=seed, space=GenotypeSpace()))
    order = random.Random(part).sample(wanted, count)
    found = dict(zip(order, measured(path, order, part=part), strict=True))
    return [found[one] for one in wanted]


@dataclass(frozen=True)
class Tested:
    """Architectures at the mean of all passes, and what noise alone does.

    `noise` is the mean of half of the passes against that of all, `noise_one_pass` the second against the
    first.
    """

    architectures: list[MeasuredArchitecture]
    noise: PredictorRow
    noise_one_pass: PredictorRow


def tested(path: Path, count: int, passes: Sequence[str], *, threads: int) -> Tested:
    """Return architectures to test with, measured in so many passes, an even number."""
    taken = [architectures(path, count, part=part, seed=TEST_SEED) for part in passes]
    every, half = (list(map(mean_of, zip(*some, strict=True))) for some in (taken, taken[::2]))
    first, second = taken[:2]

    return Tested(
        every,
        compared(f"half of {len(passes)} passes", latencies(half), every, threads=threads),
        compared("one pass again", latencies(second), first, threads=threads),
    )


def latencies(architectures: Sequence[MeasuredArchitecture]) -> list[float]:
    """Return the seconds of architectures."""
    return [one.latency_s for one in architectures]


def mean_of(passes: Sequence[MeasuredArchitecture]) -> MeasuredArchitecture:
    """Return an architecture at the geometric mean of its latencies."""
    seconds = [one.latency_s for one in passes]
    timing = Timing(
        sum(one.timing.count for one in passes),
        statistics.geometric_mean(seconds),
        min(seconds),
        max(seconds),
        any(one.timing.noisy for one in passes),
    )
    return replace(passes[0], timing=timing)


def measured(path: Path, genotypes: Sequence[Genotype], *, part: str) -> list[MeasuredArchitecture]:
    """Return genotypes as they are measured beside a profile, on its threads and at its pace."""
    from sgq.cost.architectures import measure_listed
    from sgq.cost.timing import on_threads
    from sgq.cost.workload import POINTS
    from sgq.report.progress import counting

    profile = profile_of(path)
    table = path.with_name(f"{path.stem}.architectures.csv")
    with (
        counting(len(genotypes), description=f"{path.stem}, {part}", quiet=False) as show,
        on_threads(profile.threads or 1),
    ):
        return measure_listed(table, genotypes, POINTS, part=part, pace=profile.pace, on_progress=show)


def profile_of(path: Path) -> DeviceProfile:
    """Return a profile."""
    from sgq.cost.profile_file import load_profile

    return load_profile(path)


def pricer_of(path: Path, *, learned: bool = True) -> Pricer:
    """Return the pricer of a profile, with its predictor or without."""
    from sgq.cost.pricing import Pricer

    return Pricer(profile_of(path), learned=learned)


def priced(pricer: Pricer, architectures: Sequence[MeasuredArchitecture]) -> list[float]:
    """Return the seconds that a pricer gives of architectures."""
    from sgq.cost.workload import POINTS

    return [price.latency_s for price in pricer.prices([one.genotype for one in architectures], POINTS)]


def compared(
    name: str,
    predicted: Sequence[float],
    testing: Sequence[MeasuredArchitecture],
    *,
    threads: int,
    training: Training | None = None,
) -> PredictorRow:
    """Return how near seconds are to those measured."""
    return predictor_row(name, predicted, latencies(testing), threads=threads, training=training)


def paper_rows(
    table: Pricer, training: Sequence[MeasuredArchitecture], testing: Sequence[MeasuredArchitecture]
) -> Iterable[PredictorRow]:
    """Yield the papers' predictors, trained on the same architectures."""
    from benches.paper_predictors import SETTINGS, predictions

    for paper in SETTINGS:
        print(f"training the predictor of {paper}", file=sys.stderr)
        found = predictions(paper, training, testing, table)
        learned = Training(len(training), SETTINGS[paper].epochs)
        yield compared(paper, found, testing, threads=2, training=learned)


def moved_row(
    pricer: Pricer,
    table: Pricer,
    samples: Sequence[MeasuredArchitecture],
    testing: Sequence[MeasuredArchitecture],
) -> PredictorRow:
    """Return the predictor of one device, moved to another one whose look-up table is given."""
    import torch

    from sgq.cost.predictor_training import TRANSFER, data_of, transfer

    assert pricer.predictor is not None
    fitted = transfer(pricer.predictor, samples, table)
    batch, _ = data_of(testing, table)
    with torch.inference_mode():
        found = fitted.predictor(batch)[:, 0].tolist()
    return compared(
        "ours, moved", found, testing, threads=1, training=Training(len(samples), TRANSFER.epochs)
    )


def measure_orders(path: Path, count: int) -> list[tuple[MeasuredArchitecture, ...]]:
    """Return random architectures, each at all widths, as measured."""
    from sgq.cost.architectures import drawn
    from sgq.cost.workload import POINTS
    from sgq.models.genotype_sampling import GenotypeSpace, with_bits

    bare = drawn(count, POINTS, seed=BITS_SEED, space=GenotypeSpace(bits=(32,)))
    wanted = [with_bits(one, bits) for one in bare for bits in WIDTHS]
    found = measured(path, wanted, part="bits")
    return [tuple(found[at : at + len(WIDTHS)]) for at in range(0, len(found), len(WIDTHS))]


def bits_order(
    pricer: Pricer, orders: Sequence[tuple[MeasuredArchitecture, ...]], *, floor: float
) -> BitsOrder:
    """Count the pairs of widths that differ by more than the floor, and those whose order is predicted."""
    pairs = told = 0
    for variants in orders:
        predicted = priced(pricer, variants)
        for (one, its), (other, others) in combinations(zip(variants, predicted, strict=True), 2):
            if abs(one.latency_s / other.latency_s - 1.0) <= floor:
                continue
            pairs += 1
            told += (one.latency_s < other.latency_s) == (its < others)
    return BitsOrder(len(orders), pairs, told)


def pricing_speed(pricer: Pricer, priced_before: Sequence[MeasuredArchitecture]) -> PricingSpeed:
    """Time prices of architectures that were never priced, after others of their space were."""
    from sgq.cost.workload import POINTS
    from sgq.models.genotype_sampling import GenotypeSpace, random_genotype

    generator, space = random.Random(SPEED_SEED), GenotypeSpace()

    def fresh(count: int) -> list[Genotype]:
        return [random_genotype(space, generator, in_channels=POINTS.features) for _ in range(count)]

    def seconds(call: Callable[[], object]) -> float:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    pricer.prices([one.genotype for one in priced_before], POINTS)
    alone = [seconds(lambda one=one: pricer.prices([one], POINTS)) for one in fresh(SINGLE_PRICES)]
    batches = [fresh(BATCH) for _ in range(BATCHES)]
    together = [seconds(lambda batch=batch: pricer.prices(batch, POINTS)) for batch in batches]
    return PricingSpeed(
        price_ms=1e3 * statistics.median(alone),
        prices_per_s=BATCH / statistics.median(together),
        priced_before=len(priced_before),
    )
