"""SGQuant's table: GCN, GAT and AGNN on four graphs, float, uniform and at five granularities.

Protocol: every seed trains a float model (its epoch chosen on validation), applies each recipe to it and
reads test once a run. Cora and CiteSeer have their public split, Computers and CS a split of 20 / 30 nodes
a class drawn with the seed. Finished runs are appended to a JSON-lines file and never run twice.
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from sgq.data import GraphDataset
    from sgq.models import TrainingDefaults
    from sgq.pipeline.tasks import Task
    from sgq.recipe import LoadedRecipe

MODELS = ("gcn", "gat", "agnn")
GRANULARITIES = ("lwq", "cwq", "taq", "lwq-cwq", "lwq-cwq-taq")
SEEDS = {"cora": 10, "citeseer": 10, "computers": 5, "cs": 5}
FLOAT_EPOCHS = {("gcn", "computers"): 100, ("gat", "computers"): 100, ("agnn", "computers"): 200} | {
    (model, "cs"): 80 for model in MODELS
}
"""Epochs of float training where the model's own default is more than the graph needs."""
FLOAT = "fp32"


@dataclass(frozen=True)
class Job:
    """All recipes on one model, trained with one seed."""

    model: str
    dataset: str
    seed: int
    recipes: tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """One finished run; accuracies 0 to 1, bytes and bits modelled."""

    model: str
    dataset: str
    seed: int
    recipe: str
    digest: str
    val: float
    test: float
    chosen_epoch: int
    packed_bytes: int
    ratio_dense: float
    ratio_sparse: float
    sgquant_bits: float
    a2q_bits: float | None
    mixq_bits: float
    split: str
    seconds: float

    @property
    def key(self) -> tuple[str, str, int, str]:
        """What a run is a repetition of; its digest tells whether it is still that of the recipe."""
        return (self.model, self.dataset, self.seed, self.recipe)


def recipes_for(model: str) -> tuple[str, ...]:
    """Return the recipes of the table's columns for a model."""
    return ("int8", "int4", *(f"sgquant/{model}-{granularity}" for granularity in GRANULARITIES))


def read_runs(file: Path) -> dict[tuple[str, str, int, str], Run]:
    """Return the latest run of each key in a JSON-lines file; none where the file is missing."""
    if not file.exists():
        return {}
    runs = (Run(**json.loads(line)) for line in file.read_text().splitlines() if line.strip())
    return {run.key: run for run in runs}


def reproduce(
    file: Path, *, datasets: Iterable[str], models: Iterable[str], seeds: int | None, workers: int
) -> None:
    """Run whatever the file lacks, several seeds at once; each finished run is appended as it ends."""
    done = read_runs(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    wanted = (replace(job, recipes=left(job, done)) for job in _jobs(tuple(datasets), tuple(models), seeds))
    jobs = [job for job in wanted if job.recipes]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=one_thread) as pool:
        for future in as_completed([pool.submit(run_job, job, file) for job in jobs]):
            print(future.result(), flush=True)


def run_job(job: Job, file: Path) -> str:
    """Train the float model of a job, or take it from the cache, and apply the job's recipes to it."""
    import torch

    import sgq

    start = time.perf_counter()
    dataset = dataset_of(job.dataset, job.model, job.seed)
    task = sgq.as_task(dataset)
    training = float_training(job.model, job.dataset)
    model = float_model(job, dataset, task, training)
    for recipe in job.recipes:
        began = time.perf_counter()
        torch.manual_seed(job.seed)
        plan = sgq.plan(model, recipe_named("int8" if recipe == FLOAT else recipe), task)
        if recipe == FLOAT:
            plan = plan.with_specs({str(entry.site.name): None for entry in plan})
            val, test, chosen = sgq.accuracy(model, task, "val"), sgq.accuracy(model, task, "test"), 0
        else:
            applied = sgq.apply(model, plan, task, training=training, seed=job.seed)
            val, test, chosen = applied.accuracy.val, applied.accuracy.test, applied.history.chosen_epoch
        memory = sgq.memory_of(plan)
        run = Run(
            model=job.model,
            dataset=job.dataset,
            seed=job.seed,
            recipe=recipe,
            digest=digest_of(job.model, job.dataset, recipe),
            val=val,
            test=test,
            chosen_epoch=chosen,
            packed_bytes=memory.packed_bytes,
            ratio_dense=memory.ratio_dense,
            ratio_sparse=memory.ratio_sparse,
            sgquant_bits=memory.sgquant_bits,
            a2q_bits=memory.a2q_bits,
            mixq_bits=memory.mixq_bits,
            split=dataset.split,
            seconds=round(time.perf_counter() - began, 2),
        )
        with file.open("a") as stream:  # one write of one line: whole, whoever else appends
            stream.write(json.dumps(asdict(run)) + "\n")
    seconds = time.perf_counter() - start
    return f"{job.model} {job.dataset} seed {job.seed}: {len(job.recipes)} runs in {seconds:.0f} s"


def _jobs(datasets: tuple[str, ...], models: tuple[str, ...], seeds: int | None) -> Iterator[Job]:
    """Yield jobs seed by seed, so that an unfinished table has about as many seeds everywhere."""
    for seed in range(max(SEEDS.values())):
        for dataset in datasets:
            if seed < min(SEEDS[dataset], seeds or SEEDS[dataset]):
                for model in models:
                    yield Job(model, dataset, seed, recipes_for(model))


def left(job: Job, done: dict[tuple[str, str, int, str], Run]) -> tuple[str, ...]:
    """Return the recipes of a job that have no run, or one of an earlier version of the study."""
    left = []
    for recipe in (FLOAT, *job.recipes):
        run = done.get((job.model, job.dataset, job.seed, recipe))
        if run is None or run.digest != digest_of(job.model, job.dataset, recipe):
            left.append(recipe)
    return tuple(left)


@cache
def digest_of(model: str, dataset: str, recipe: str) -> str:
    """Return a hash of what decides a run beside its seed: the float model's training and the recipe.

    What a recipe does not have is left out, so that an optional field that is new in the format changes no
    hash.
    """
    content = ""
    if recipe != FLOAT:
        loaded = recipe_named(recipe).recipe
        content = loaded.model_dump_json(exclude_none=True, exclude={"name", "about"})
    return hashlib.sha256(f"{float_training(model, dataset)}{content}".encode()).hexdigest()[:16]


def recipe_named(name: str) -> LoadedRecipe:
    """Return a recipe by its shipped name; of a space, the recipe of its most bits everywhere."""
    from sgq.bits.planned_space import widest_recipe
    from sgq.recipe import load_recipe
    from sgq.recipe.choices import choosable

    loaded = load_recipe(name)
    return widest_recipe(loaded) if choosable(loaded.recipe) else loaded


def one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def dataset_of(name: str, model: str, seed: int) -> GraphDataset:
    """Load a data set with the split of a seed; GCN gets PyG's fast form, a CSR adjacency normalised once."""
    from sgq.data import load, normalise_adjacency

    if model == "gcn":
        return normalise_adjacency(load(name, seed=seed, adjacency="csr"))
    return load(name, seed=seed)


def float_training(model: str, dataset: str) -> TrainingDefaults:
    from sgq.models import training_defaults

    training = training_defaults(model)
    return replace(training, epochs=FLOAT_EPOCHS.get((model, dataset), training.epochs))


def float_model(job: Job, dataset: GraphDataset, task: Task, training: TrainingDefaults) -> nn.Module:
    """Return the float model of a seed, trained now or read from the cache."""
    import torch

    import sgq
    from sgq.data.cache import cache_root
    from sgq.models import resolve_model
    from sgq.pipeline.training import TrainingSettings, fit

    torch.manual_seed(job.seed)
    model, _ = resolve_model(job.model, dataset=dataset)
    settings = TrainingSettings(training.epochs, seed=job.seed, evaluate_every=2)
    digest = hashlib.sha256(repr((training, settings)).encode()).hexdigest()[:8]
    file = cache_root() / "reproduce" / f"{job.model}-{job.dataset}-{job.seed}-{digest}.safetensors"
    if file.exists():
        return sgq.load(file, model).eval()
    fit(model, task, optimiser=torch.optim.Adam(training.parameter_groups(model)), settings=settings)
    file.parent.mkdir(parents=True, exist_ok=True)
    sgq.save(file, model)
    return model


@dataclass(frozen=True)
class Cell:
    """All seeds of one recipe on one model and data set, and the drop of each below what it is compared
    with: its float model, or another recipe on that."""

    runs: tuple[Run, ...]
    drops: tuple[float, ...]

    @property
    def seeds(self) -> set[int]:
        """The seeds that were run."""
        return {run.seed for run in self.runs}

    def below(self, other: Cell) -> Cell:
        """Return the seeds that another recipe has as well, with the drops below that one."""
        others = {run.seed: drop for run, drop in zip(other.runs, other.drops, strict=True)}
        both = [(run, drop) for run, drop in zip(self.runs, self.drops, strict=True) if run.seed in others]
        return Cell(tuple([run for run, _ in both]), tuple([drop - others[run.seed] for run, drop in both]))

    @property
    def drop(self) -> float:
        """The mean paired drop of test accuracy, in points."""
        return 100 * statistics.fmean(self.drops)

    @property
    def drop_interval(self) -> float:
        """Half the 95 % interval of the mean drop (Student's t over the seeds), in points."""
        from scipy.stats import t

        seeds = len(self.drops)
        if seeds < 2:
            return float("nan")
        return 100 * float(t.ppf(0.975, seeds - 1)) * statistics.stdev(self.drops) / math.sqrt(seeds)

    @property
    def packed_bytes(self) -> float:
        """The mean packed bytes."""
        return statistics.fmean(run.packed_bytes for run in self.runs)

    @property
    def saving(self) -> float:
        """How many times fewer bits than fp32, under SGQuant's definition."""
        return statistics.fmean(32 / run.sgquant_bits for run in self.runs)

    def __str__(self) -> str:
        tests = [100 * run.test for run in self.runs]
        spread = statistics.stdev(tests) if len(tests) > 1 else 0.0
        return f"{statistics.fmean(tests):.1f} ± {spread:.1f}"


def cells(file: Path) -> dict[tuple[str, str, str], Cell]:
    """Return the cells of a results file by (model, data set, column); columns drop the model's name.

    Only runs of the study as it is now count, and of those only the ones whose float run is there too; how
    many do not count is told on stderr.
    """
    runs = read_runs(file).values()
    current = [run for run in runs if run.digest == digest_of(run.model, run.dataset, run.recipe)]
    if len(current) < len(runs):
        older = sorted({run.recipe for run in runs if run not in current})
        print(
            f"{file.name}: {len(runs) - len(current)} runs are of earlier versions of {', '.join(older)} "
            "and do not count",
            file=sys.stderr,
        )
    floats = {(run.model, run.dataset, run.seed): run.test for run in current if run.recipe == FLOAT}
    grouped: dict[tuple[str, str, str], list[Run]] = {}
    for run in sorted(current, key=lambda run: run.seed):
        if (run.model, run.dataset, run.seed) in floats:
            grouped.setdefault((run.model, run.dataset, column_of(run)), []).append(run)
    return {
        key: Cell(tuple(group), tuple(floats[run.model, run.dataset, run.seed] - run.test for run in group))
        for key, group in grouped.items()
    }


def column_of(run: Run) -> str:
    """Return the column of a run: `sgquant/gat-lwq` and `sgquant/gcn-lwq` share `lwq`."""
    return run.recipe.removeprefix(f"sgquant/{run.model}-")


def markdown(file: Path) -> str:
    """Return the table and its summary as markdown."""
    found = cells(file)
    columns = (FLOAT, "int8", "int4", *GRANULARITIES)
    heads = ("model", "data", "seeds", *(c.upper() if c in GRANULARITIES else c for c in columns))
    lines = [line(heads), line(["---"] * len(heads))]
    for model in MODELS:
        for dataset in SEEDS:
            row = [found.get((model, dataset, column)) for column in columns]
            if row[0] is not None:
                seeds = "/".join(sorted({str(len(cell.runs)) for cell in row if cell is not None}))
                texts = [_text(cell, column) for cell, column in zip(row, columns, strict=True)]
                lines.append(line([model, dataset, seeds, *texts]))
    summary = [[cell for key, cell in found.items() if key[2] == column] for column in columns[1:]]
    lines += ["", line(["all cells", *heads[4:]]), line(["---"] * len(columns))]
    lines.append(line(["mean drop, points", *(_mean_drop(c) if c else "" for c in summary)]))
    lines.append(line(["saving, worst to best", *(_range(c) if c else "" for c in summary)]))
    return "\n".join(lines) + "\n"


def line(texts: Iterable[str]) -> str:
    """Return a row of a markdown table."""
    return f"| {' | '.join(texts)} |"


def _text(cell: Cell | None, column: str) -> str:
    if cell is None or column == FLOAT:
        return "" if cell is None else str(cell)
    return f"{cell}<br>{cell.drop:+.1f} ± {cell.drop_interval:.1f}<br>{cell.saving:.1f}x"


def _mean_drop(column: list[Cell]) -> str:
    """Return the mean of the cells' drops with its 95 % interval, cells taken as independent."""
    half = math.sqrt(sum(cell.drop_interval**2 for cell in column)) / len(column)
    return f"{statistics.fmean(cell.drop for cell in column):+.2f} ± {half:.2f}"


def _range(column: list[Cell]) -> str:
    savings = [cell.saving for cell in column]
    return f"{min(savings):.2f}x to {max(savings):.1f}x"
