"""Suite `bits`: what samplers of bits find in a few hundred evaluations of two tables that are known whole.

Searches run through `sgq.bits.search` in memory, measure with noise, and are judged by less noisy accuracies:
by the hypervolume of what they evaluated, and the bytes that the least of it inside the limit saves, both as
shares of what all assignments have. The limit is one point below the float model. Cost models are held
against each other by rank correlation on assignments that they were not fitted to.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import numpy as np

from benches.bit_results import COUNTS, BitsResult, Overhead, RankRow, SearchRow
from benches.bit_tables import RecordedTable, synthetic_table, trained_table
from sgq.cli.arguments import integer_from

if TYPE_CHECKING:
    from sgq.bits.space import Assignment

TABLES: dict[str, Callable[[], RecordedTable]] = {"synthetic": synthetic_table, "trained": trained_table}
COMPARED = ("abs", "tree", "random", "tpe", "nsga2", "milp")
COST_MODELS = ("tree", "forest", "gaussian process")
FITTED_TO = (50, 100, 200)
FOREST_TREES = 100
OVERHEAD_AXES, OVERHEAD_BITS = 20, (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class SearchRun:
    """One search: share of the hypervolume and of the best saving after each of its evaluations."""

    table: str
    sampler: str
    seed: int
    hypervolume: tuple[float, ...]
    saving: tuple[float, ...]
    seconds: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the suite's own options."""
    parser.add_argument("--seeds", type=integer_from(1), default=20, help="searches a cell (default: 20)")
    parser.add_argument(
        "--evaluations", type=integer_from(1), default=200, help="a search has so many (default: 200)"
    )
    parser.add_argument("--workers", type=integer_from(1), default=2, help="processes (default: 2)")
    parser.add_argument(
        "--overhead-trials",
        type=integer_from(1),
        default=500,
        help="trials over which the sampler's own time is a mean (default: 500)",
    )


def run(given: argparse.Namespace) -> BitsResult:
    """Time the sampler alone, then search both tables with every sampler and fit the cost models."""
    start = time.perf_counter()
    overhead = measure_overhead(given.overhead_trials)  # before anything runs beside it
    searches = [
        (search_table, (table, sampler, seed, given.evaluations))
        for table in TABLES
        for sampler in COMPARED
        for seed in range(given.seeds)
    ]
    fits = [(rank_correlations, (table, seed)) for table in TABLES for seed in range(given.seeds)]
    runs: list[SearchRun] = []
    correlations: list[dict[tuple[str, str, int], float]] = []
    for done, result in enumerate(_results([*searches, *fits], workers=given.workers), start=1):
        (runs if isinstance(result, SearchRun) else correlations).append(result)
        if done % max(1, 2 * given.seeds) == 0:
            print(
                f"{time.perf_counter() - start:6.0f} s: {done} of {len(searches) + len(fits)}",
                file=sys.stderr,
            )
    return BitsResult(
        searches=tuple(_search_rows(runs, given.evaluations)),
        ranks=tuple(_rank_rows(correlations)),
        overhead=overhead,
        evaluations_to_random={table: _evaluations_to_random(runs, table) for table in TABLES},
        sampler_seconds={
            name: float(np.median([one.seconds for one in runs if one.sampler == name])) for name in COMPARED
        },
        seconds=time.perf_counter() - start,
    )


Task = tuple[Callable[..., Any], tuple[Any, ...]]


def _results(tasks: Sequence[Task], *, workers: int) -> Iterator[Any]:
    """Yield what each function returns, as they end; one worker is this process."""
    if workers == 1:
        with _one_thread():
            yield from (function(*arguments) for function, arguments in tasks)
        return
    context = get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_one_thread) as pool:
        for future in as_completed([pool.submit(function, *arguments) for function, arguments in tasks]):
            yield future.result()


def _one_thread() -> Any:
    """Have linear algebra use one thread, for good or as a context: searches run beside each other."""
    import scipy.linalg  # noqa: F401 - its library has to be loaded to be told
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1)


@cache
def _table(name: str) -> RecordedTable:
    return TABLES[name]()


def search_table(name: str, sampler: str, seed: int, evaluations: int) -> SearchRun:
    """Search a table once, and judge the search after each of its evaluations."""
    import sgq
    from sgq.bits.front import hypervolume

    table = _table(name)

    def evaluate(assignment: Assignment) -> float:
        return table.measured(table.place(assignment), seed=seed)

    start = time.perf_counter()
    result = sgq.bits.search(
        table.space,
        evaluate,
        table,
        trials=evaluations,
        sampler=sampler,
        limit={"accuracy": table.least_accuracy},
        seed=seed,
    )
    seconds = time.perf_counter() - start
    places = np.array([table.place(trial.assignment) for trial in result.trials])
    memory, accuracy = table.memory[places], table.accuracy[places]
    volumes = [hypervolume(memory[:count], accuracy[:count], table.frame) for count in _up_to(len(places))]
    saved = np.where(table.inside[places], table.memory[-1] - memory, 0.0)
    return SearchRun(
        table=name,
        sampler=sampler,
        seed=seed,
        hypervolume=tuple(volume / table.best_hypervolume for volume in volumes),
        saving=tuple((np.maximum.accumulate(saved) / table.best_saving_bytes).tolist()),
        seconds=seconds,
    )


def _up_to(count: int) -> range:
    return range(1, count + 1)


def _search_rows(runs: Sequence[SearchRun], evaluations: int) -> Iterator[SearchRow]:
    counts = [count for count in COUNTS if count < evaluations] + [evaluations]
    for table in TABLES:
        for sampler in COMPARED:
            cell = [one for one in runs if (one.table, one.sampler) == (table, sampler)]
            for count in counts:
                volumes = [_after(one.hypervolume, count) for one in cell]
                savings = [_after(one.saving, count) for one in cell]
                ended = sum(len(one.hypervolume) < count for one in cell)
                yield SearchRow(
                    table, sampler, count, len(cell), ended, *_quartiles(volumes), *_quartiles(savings)
                )


def _after(curve: Sequence[float], count: int) -> float:
    return curve[min(count, len(curve)) - 1]


def _quartiles(values: Iterable[float]) -> tuple[float, float, float]:
    """Return median, lower and upper quartile."""
    return tuple(np.percentile(list(values), (50, 25, 75)).round(5).tolist())


def _evaluations_to_random(runs: Sequence[SearchRun], table: str) -> float | None:
    """Return the median count of evaluations that abs needs for the hypervolume of random in the end."""
    wanted = np.median([one.hypervolume[-1] for one in _of(runs, table, "random")])
    needed = [
        next((count for count, share in enumerate(one.hypervolume, 1) if share >= wanted), np.inf)
        for one in _of(runs, table, "abs")
    ]
    median = float(np.median(needed))
    return median if np.isfinite(median) else None


def _of(runs: Sequence[SearchRun], table: str, sampler: str) -> list[SearchRun]:
    return [one for one in runs if (one.table, one.sampler) == (table, sampler)]


def rank_correlations(name: str, seed: int) -> dict[tuple[str, str, int], float]:
    """Return Spearman's correlation by (table, cost model, measurements), on all that was not measured."""
    from scipy.stats import spearmanr

    table = _table(name)
    codes = np.array(list(table.space.every()))
    order = np.random.default_rng((seed, 1)).permutation(len(codes))
    found = {}
    for count in FITTED_TO:
        if count >= len(codes):
            continue
        known, held_out = order[:count], order[count:]
        measured = np.array([table.measured(int(place), seed=seed) for place in known])
        for model in COST_MODELS:
            predicted = _predicted(model, table, codes[known], measured, codes[held_out], seed)
            found[name, model, count] = float(spearmanr(predicted, table.accuracy[held_out]).statistic)
    return found


def _predicted(
    model: str, table: RecordedTable, codes: np.ndarray, measured: np.ndarray, asked: np.ndarray, seed: int
) -> np.ndarray:
    """Return predictions that rank assignments, of a cost model as its sampler fits it."""
    from sklearn.ensemble import ExtraTreesRegressor
    from sklearn.tree import DecisionTreeRegressor

    from sgq.bits.gaussian_process import GaussianProcess
    from sgq.bits.proposals import BEST_SHARE, squashed

    if model == "tree":
        return DecisionTreeRegressor(random_state=seed).fit(codes, measured).predict(asked)
    if model == "forest":
        forest = ExtraTreesRegressor(n_estimators=FOREST_TREES, random_state=seed)
        return forest.fit(codes, measured).predict(asked)
    process = GaussianProcess(table.space)
    best = np.sort(measured)[-max(1, len(measured) // BEST_SHARE) :].mean()
    process.fit(codes, squashed(measured - best))
    return process.predict(asked)[0]


def _rank_rows(correlations: Sequence[dict[tuple[str, str, int], float]]) -> Iterator[RankRow]:
    keys = sorted({key for found in correlations for key in found}, key=_rank_order)
    for key in keys:
        values = [found[key] for found in correlations if key in found]
        yield RankRow(*key, len(values), *_quartiles(values))


def _rank_order(key: tuple[str, str, int]) -> tuple[int, int, int]:
    table, model, measurements = key
    return list(TABLES).index(table), measurements, COST_MODELS.index(model)


def measure_overhead(trials: int) -> Overhead:
    """Return what a trial of abs costs in one thread on 20 axes of 5 choices, without its evaluation."""
    import sgq
    from sgq.bits.space import Space

    space = Space.of({f"axis-{axis}": OVERHEAD_BITS for axis in range(OVERHEAD_AXES)})
    generator = np.random.default_rng(0)
    drops = generator.lognormal(0.0, 1.0, OVERHEAD_AXES)
    drops *= 0.3 / drops.sum()
    sizes = generator.lognormal(0.0, 1.0, OVERHEAD_AXES) * 1e5
    evaluating = [0.0]

    def evaluate(assignment: Assignment) -> float:
        began = time.perf_counter()
        bits = np.array(list(assignment.values()), dtype=float)
        accuracy = 0.8 - float(drops @ (1.0 / bits - 1.0 / OVERHEAD_BITS[-1]))
        evaluating[0] += time.perf_counter() - began
        return accuracy

    class Sizes:
        def of_codes(self, codes: np.ndarray) -> np.ndarray:
            return np.array(OVERHEAD_BITS)[codes] @ sizes

        def __call__(self, assignment: Assignment) -> float:
            return float(self.of_codes(np.array([space.codes(assignment)]))[0])

    with _one_thread(), _sampling_seconds() as sampling:
        start = time.perf_counter()
        sgq.bits.search(space, evaluate, Sizes(), trials=trials, limit={"accuracy": 0.79})
        whole = time.perf_counter() - start - evaluating[0]
    return Overhead(
        trials, round(1e3 * sum(sampling) / len(sampling), 3), round(1e3 * whole / len(sampling), 3)
    )


@contextmanager
def _sampling_seconds() -> Iterator[list[float]]:
    """Yield a list that gets the seconds of each proposal of abs."""
    from sgq.bits.abs_sampler import AbsSampler

    seconds: list[float] = []
    original = AbsSampler.sample_relative

    def timed(*arguments: Any) -> dict[str, Any]:
        start = time.perf_counter()
        try:
            return original(*arguments)
        finally:
            seconds.append(time.perf_counter() - start)

    AbsSampler.sample_relative = timed  # type: ignore[method-assign]
    try:
        yield seconds
    finally:
        AbsSampler.sample_relative = original  # type: ignore[method-assign]
