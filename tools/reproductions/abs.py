"""Automatic bit selection on GAT, GCN and AGNN and four graphs, against the recipes written by hand.

Protocol: a search of 200 trials over bits by layer, component and degree bucket, limited to a drop of 0.4
points of validation accuracy below the widest assignment, finetuned alike. It measures on the float models of
all seeds of SGQuant's table, a trial on one of them, and confirms what it found on all of them. The recipe
found is then applied to each, the widest assignment as well, and test is read once a run. Searches and runs
resume; finished ones are appended to files of JSON lines.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from reproductions import sgquant
from reproductions.sgquant import FLOAT, GRANULARITIES, SEEDS, Cell, Job, cells, line

if TYPE_CHECKING:
    from sgq.bits.finetuned import FinetunedAccuracy

MODELS = ("gat", "gcn", "agnn")
TRIALS = 200
DROP = 0.004
STUDIES = Path("runs") / "reproduce-abs"
"""Where the searches' journals are, from the folder that the tool is started in."""
FOUND = Path(__file__).resolve().parents[2] / "recipes" / "searched"
HAND_WRITTEN = ("int8", "int4", *GRANULARITIES)


@dataclass(frozen=True)
class Searched:
    """One finished search; accuracies 0 to 1 on validation, seconds of the search and of its repeats.

    A resumed search took at least `trials_s`, the seconds of all trials by the number of workers. `refined`
    assignments were proposed after the `trials`, by what the repeats had found. `confirmed_val` is None where
    nothing held the limit less its error in repeats.
    """

    model: str
    dataset: str
    trials: int
    stopped: int
    search_s: float
    trials_s: float
    confirm_s: float
    workers: int
    float_val: float
    val: float
    confirmed_val: float | None
    packed_bytes: int
    refined: int = 0


def space_name(model: str) -> str:
    """Return the shipped name of the space that a model is searched in."""
    return f"spaces/{model}-lwq-cwq-taq"


def recipe_of(model: str, dataset: str) -> str:
    """Return the shipped name of the recipe found for a model and data set."""
    return f"searched/{model}-{dataset}"


def read_searches(file: Path) -> dict[tuple[str, str], Searched]:
    """Return the latest search of each model and data set in a JSON-lines file; none where it is missing."""
    if not file.exists():
        return {}
    searches = (Searched(**json.loads(text)) for text in file.read_text().splitlines() if text.strip())
    return {(one.model, one.dataset): one for one in searches}


def reproduce(
    searches: Path,
    runs: Path,
    *,
    datasets: Iterable[str],
    models: Iterable[str],
    seeds: int | None,
    workers: int,
) -> None:
    """Search what has not been searched, then apply what was found to all seeds that lack a run."""
    datasets, models = tuple(datasets), tuple(models)
    searches.parent.mkdir(parents=True, exist_ok=True)
    for dataset in datasets:
        for model in models:
            if (model, dataset) in read_searches(searches):
                continue
            found = search_one(model, dataset, workers=workers)
            with searches.open("a") as stream:
                stream.write(json.dumps(asdict(found)) + "\n")
            print(f"{model} {dataset}: {found.packed_bytes} bytes in {found.search_s:.0f} s", flush=True)
    done = sgquant.read_runs(runs)
    wanted = (
        Job(cell.model, cell.dataset, seed, (space_name(cell.model), recipe_of(cell.model, cell.dataset)))
        for cell in read_searches(searches).values()
        if cell.model in models and cell.dataset in datasets
        for seed in range(min(SEEDS[cell.dataset], seeds or SEEDS[cell.dataset]))
    )
    jobs = [replace(job, recipes=recipes) for job in wanted if (recipes := sgquant.left(job, done))]
    context = get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=sgquant.one_thread) as pool:
        for future in as_completed([pool.submit(sgquant.run_job, job, runs) for job in jobs]):
            print(future.result(), flush=True)


def accuracy_of(model: str, dataset: str, seed: int, threads: int) -> FinetunedAccuracy:
    """Build the evaluation of a search where it runs: data, float model of a seed, space."""
    import torch

    import sgq
    from sgq.bits.finetuned import FinetunedAccuracy
    from sgq.bits.memo import Memo
    from sgq.bits.planned_space import planned_space

    torch.set_num_threads(threads)
    data = sgquant.dataset_of(dataset, model, seed)
    task = sgq.as_task(data)
    training = sgquant.float_training(model, dataset)
    network = sgquant.float_model(Job(model, dataset, seed, ()), data, task, training)
    space = planned_space(network, space_name(model), task)
    least = sgq.accuracy(network, task, "val") - DROP
    memo = Memo(STUDIES / f"{model}-{dataset}" / "memo.jsonl")
    return FinetunedAccuracy(
        network, space, task, training=training, least_accuracy=least, seed=seed, memo=memo
    )


def train_float(model: str, dataset: str, seed: int) -> None:
    """Train the float model of a seed, unless the cache has it."""
    import sgq

    data = sgquant.dataset_of(dataset, model, seed)
    training = sgquant.float_training(model, dataset)
    sgquant.float_model(Job(model, dataset, seed, ()), data, sgq.as_task(data), training)


def search_one(model: str, dataset: str, *, workers: int) -> Searched:
    """Search one cell, or go on with its search; write the recipe that it found.

    Raises KeyboardInterrupt, and writes nothing, where Ctrl-C or the death of all workers ended it.
    """
    from sgq.bits.deferred import DeferredAccuracy
    from sgq.bits.limits import Limits
    from sgq.bits.results import best_recipe
    from sgq.bits.selection import select_bits
    from sgq.report.files import write_atomically

    threads = max(1, (os.cpu_count() or 1) // workers)
    trainings = range(SEEDS[dataset])
    storage = STUDIES / f"{model}-{dataset}" / "study.log"
    storage.parent.mkdir(parents=True, exist_ok=True)
    # Once, and not by each worker; not a part of the search.
    context = get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=sgquant.one_thread) as pool:
        list(pool.map(partial(train_float, model, dataset), trainings))
    built, *others = (partial(accuracy_of, model, dataset, seed, threads) for seed in trainings)
    deferred = DeferredAccuracy(built, others)
    began = time.perf_counter()
    selection = select_bits(
        deferred,
        trials=TRIALS,
        limits=Limits(accuracy_drop=DROP),
        storage=storage,
        resume=None,
        workers=workers,
    )
    seconds = time.perf_counter() - began
    if selection.result.interrupted:
        raise KeyboardInterrupt(
            f"the search of {model} on {dataset} is not finished: start it again to go on"
        )
    evaluation, chosen, confirmed = deferred.built, selection.chosen, selection.confirmed
    if chosen is None or chosen.accuracy is None:
        raise RuntimeError(f"nothing was found for {model} on {dataset}: {selection.result.remark}")
    trials = selection.result.trials[: len(selection.result.trials) - len(selection.refined)]
    recipe = best_recipe(selection, evaluation.space, name=f"{model}-{dataset}")
    write_atomically(FOUND / f"{model}-{dataset}.yaml", recipe.text)
    return Searched(
        model=model,
        dataset=dataset,
        trials=len(trials),
        stopped=sum(trial.state == "stopped" for trial in trials),
        search_s=round(seconds - selection.confirm_s, 1),
        trials_s=round(sum(trial.seconds for trial in trials) / workers, 1),
        confirm_s=round(selection.confirm_s, 1),
        workers=workers,
        float_val=evaluation.float_accuracy,
        val=chosen.accuracy,
        confirmed_val=None if confirmed is None else confirmed.accuracy,
        packed_bytes=int(chosen.memory),
        refined=len(selection.refined),
    )


def markdown(searches: Path, runs: Path, by_hand: Path) -> str:
    """Return the table as markdown: what was found beside the smallest recipes by hand that hold the limit,
    counted as the search does from the widest assignment, and counted from the float model.

    Rows of which runs are missing are left out, which is told on stderr.
    """
    found, hand = cells(runs), cells(by_hand)
    heads = (
        "model",
        "data",
        "seeds",
        "search",
        "trials (stopped) + refined",
        "fp32",
        "searched",
        "below 16 bits",
        "below fp32",
        "packed",
        "SGQuant saving",
        "best by hand, 0.4 below 16 bits",
        "smaller by",
        "best by hand, 0.4 below fp32",
        "smaller by",
    )
    lines = [line(heads), line(["---"] * len(heads))]
    for (model, dataset), search in sorted(read_searches(searches).items(), key=_place):
        cell = found.get((model, dataset, recipe_of(model, dataset)))
        widest = found.get((model, dataset, space_name(model)))
        seeds = set(range(SEEDS[dataset]))
        if cell is None or widest is None or cell.seeds != seeds or widest.seeds != seeds:
            names = f"{space_name(model)} or {recipe_of(model, dataset)}"
            print(
                f"{model} on {dataset} is left out: runs of {names} are missing in {runs.name}; "
                f"tools/reproduce.py abs --model {model} --data {dataset} makes them",
                file=sys.stderr,
            )
            continue
        own = {
            column: hand[model, dataset, column]
            for column in HAND_WRITTEN
            if (model, dataset, column) in hand and hand[model, dataset, column].seeds == seeds
        }
        below_widest = {column: other.below(widest) for column, other in own.items()}
        texts = _searched_texts(search, cell, widest, found[model, dataset, FLOAT])
        lines.append(
            line((*texts, *_by_hand_texts(cell.below(widest), below_widest), *_by_hand_texts(cell, own)))
        )
    return "\n".join(lines) + "\n"


def _place(item: tuple[tuple[str, str], Searched]) -> tuple[int, int]:
    model, dataset = item[0]
    return MODELS.index(model), list(SEEDS).index(dataset)


def _searched_texts(search: Searched, cell: Cell, widest: Cell, floats: Cell) -> Iterator[str]:
    yield from (search.model, search.dataset, str(len(cell.runs)))
    yield f"{(max(search.search_s, search.trials_s) + search.confirm_s) / 60:.1f} min"
    refuted = ", none held" if search.confirmed_val is None else ""
    yield f"{search.trials} ({search.stopped}) + {search.refined}{refuted}"
    yield from (str(floats), str(cell), _drop_text(cell.below(widest)), _drop_text(cell))
    yield from (f"{cell.packed_bytes / 1e3:.0f} kB", f"{cell.saving:.1f}x")


def _by_hand_texts(cell: Cell, hand: dict[str, Cell]) -> Iterator[str]:
    """Yield the smallest recipe by hand that holds the limit, and how much smaller what was found is."""
    holding = [column for column in hand if hand[column].drop <= 100 * DROP]
    if not holding:
        yield from ("none", "")
        return
    column = min(holding, key=lambda name: hand[name].packed_bytes)
    best = hand[column]
    yield f"{column}, {best.packed_bytes / 1e3:.0f} kB, {_drop_text(best)}"
    yield f"{best.packed_bytes / cell.packed_bytes:.2f}x" if cell.drop <= 100 * DROP else "does not hold"


def _drop_text(cell: Cell) -> str:
    return f"{cell.drop:+.2f} ± {cell.drop_interval:.2f}"
