"""Train every assignment of a small space and record it as a CSV: python tools/record_table.py [--workers 2].

The table is that of the bench suite `bits`: GCN on Cora, the space of tools/benches/gcn-cora-729.recipe.yaml,
several seeds of finetuning from one float model, none of them given up early. Finished runs are kept in a
JSON-lines file, so that a recording that was stopped goes on.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from benches.bit_tables import ACCURACY_COLUMN, BYTES_COLUMN, FLOAT_COLUMN, TRAINED_CSV
from reproduce import ALLOCATOR

from sgq.cli.arguments import integer_from

if TYPE_CHECKING:
    from sgq.bits.finetuned import FinetunedAccuracy

MODEL, DATA, FLOAT_SEED = "gcn", "cora", 0
RECIPE = TRAINED_CSV.with_suffix(".recipe.yaml")
RUNS = Path("runs") / "record-table" / f"{TRAINED_CSV.stem}.jsonl"
TOLD_EVERY = 100


def main() -> int:
    """Train what is missing, several runs at once, then write the table; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--csv", type=Path, default=TRAINED_CSV, help="the table (default: the one in use)")
    parser.add_argument("--runs", type=Path, default=RUNS, help="file of finished runs")
    parser.add_argument("--seeds", type=integer_from(1), default=3, help="of finetuning (default: 3)")
    parser.add_argument("--workers", type=integer_from(1), default=2, help="a thread each (default: 2)")
    given = parser.parse_args()
    os.environ.update({name: value for name, value in ALLOCATOR.items() if name not in os.environ})
    given.runs.parent.mkdir(parents=True, exist_ok=True)
    evaluation = _evaluation(given.runs)  # trains the float model, which the workers then read
    # Seed by seed: a recording that was stopped has whole columns.
    jobs = [(place, seed) for seed in range(given.seeds) for place in range(evaluation.space.space.size)]
    accuracy: dict[tuple[int, int], float] = {}
    start = time.perf_counter()
    with ProcessPoolExecutor(given.workers, mp_context=get_context("spawn")) as pool:
        running = [pool.submit(_train, place, seed, given.runs) for place, seed in jobs]
        for future in as_completed(running):
            place, seed, value = future.result()
            accuracy[place, seed] = value
            if len(accuracy) % TOLD_EVERY == 0 or len(accuracy) == len(jobs):
                print(f"{time.perf_counter() - start:6.0f} s: {len(accuracy)} of {len(jobs)}", flush=True)
    _write(given.csv, evaluation, accuracy, seeds=given.seeds)
    return 0


@cache
def _evaluation(runs: Path) -> FinetunedAccuracy:
    """Return the evaluation of this process: data, float model, space, and a memory of finished runs."""
    import torch
    from reproductions.sgquant import Job, dataset_of, float_model, float_training

    import sgq
    from sgq.bits.finetuned import FinetunedAccuracy
    from sgq.bits.memo import Memo
    from sgq.bits.planned_space import planned_space

    torch.set_num_threads(1)
    dataset = dataset_of(DATA, MODEL, FLOAT_SEED)
    task = sgq.as_task(dataset)
    training = float_training(MODEL, DATA)
    model = float_model(Job(MODEL, DATA, FLOAT_SEED, ()), dataset, task, training)
    space = planned_space(model, RECIPE, task)
    return FinetunedAccuracy(model, space, task, training=training, least_accuracy=0.0, memo=Memo(runs))


def _train(place: int, seed: int, runs: Path) -> tuple[int, int, float]:
    """Return place, seed and the validation accuracy of the assignment at a place of the space."""
    evaluation = _evaluation(runs)
    space = evaluation.space.space
    plan = evaluation.space.plan_of(space.assignment(space.at(place)))
    return place, seed, evaluation.of_plan(plan, seed=seed).accuracy


def _write(
    file: Path, evaluation: FinetunedAccuracy, accuracy: dict[tuple[int, int], float], *, seeds: int
) -> None:
    from sgq.report.files import write_atomically

    space = evaluation.space.space
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    columns = [ACCURACY_COLUMN.format(seed) for seed in range(seeds)]
    writer.writerow([*space.names, BYTES_COLUMN, FLOAT_COLUMN, *columns])
    for place in range(space.size):
        chosen = space.assignment(space.at(place))
        values = [f"{accuracy[place, seed]:.4g}" for seed in range(seeds)]
        floats = f"{evaluation.float_accuracy:.4g}"
        writer.writerow([*chosen.values(), int(evaluation.space.memory(chosen)), floats, *values])
    write_atomically(file, stream.getvalue())


if __name__ == "__main__":
    sys.exit(main())
