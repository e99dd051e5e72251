"""Searches over tables of accuracies, in functions that worker processes can import."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler
from optuna.trial import TrialState, create_trial

import sgq.bits
from sgq.bits.searching import SearchResult
from sgq.bits.space import Assignment, Choice, Codes, Space
from sgq.bits.studies import DIRECTIONS, QuietOptuna
from sgq.bits.trials import codes_of, distributions, parameters_of, suggest

CHOICES: dict[str, tuple[Choice, ...]] = {
    "weight": (2, 4, 8),
    "input": (2, 4, 8),
    "message[0]": (2, 4, 8),
    "message[1]": (2, 4, 8),
}
"""81 assignments."""
SPACE = Space.of(CHOICES)
NEEDS = {"weight": (4, 0.02), "input": (4, 0.03), "message[0]": (8, 0.05), "message[1]": (4, 0.1)}
"""What an axis costs in accuracy where it has fewer bits than it needs."""
TOP = 0.9
BEST = {"weight": 4, "input": 4, "message[0]": 8, "message[1]": 4}
"""The least memory without any loss."""


def accuracy(assignment: Assignment) -> float:
    """Return 0.9 less what every axis costs."""
    return TOP - sum(cost for name, (bits, cost) in NEEDS.items() if int(assignment[name]) < bits)


def memory(assignment: Assignment) -> float:
    """Return bytes: the axes in order weigh 1, 2, 3 and 4 for each bit."""
    return float(sum(weight * int(assignment[name]) for weight, name in enumerate(CHOICES, start=1)))


def memory_of(codes: np.ndarray) -> np.ndarray:
    """Return bytes [assignments] of codes [assignments, axes]."""
    return np.array([memory(SPACE.assignment(row)) for row in codes.tolist()])


@dataclass(frozen=True)
class Logged:
    """The accuracy of the table, slowly; every evaluation is a line of a file: process and assignment."""

    path: Path
    seconds: float = 0.0

    def __call__(self, assignment: Assignment) -> float:
        line = json.dumps([os.getpid(), dict(assignment)]) + "\n"
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(handle, line.encode())
        os.close(handle)
        time.sleep(self.seconds)
        return accuracy(assignment)

    @property
    def lines(self) -> list[tuple[int, dict[str, Any]]]:
        """The evaluations that were begun so far."""
        text = self.path.read_text() if self.path.exists() else ""
        return [(pid, assignment) for pid, assignment in map(json.loads, text.splitlines())]


@dataclass
class Kept:
    """Something of which a process has its own one; a copy of it has not been used yet."""

    uses: int = 0

    def __getstate__(self) -> dict[str, int]:
        return {"uses": 0}


@dataclass(frozen=True)
class Using:
    """The accuracy of the table; every evaluation is a line: how often what is kept was used before, too."""

    kept: Kept
    log: Logged

    def __call__(self, assignment: Assignment) -> float:
        self.kept.uses += 1
        return self.log({**assignment, "uses": self.kept.uses})


@dataclass(frozen=True)
class Unreadable:
    """An evaluation that cannot be read in another process, as its data is elsewhere."""

    server: str = "elsewhere"

    def __setstate__(self, state: object) -> None:
        raise ConnectionRefusedError("no data server")

    def __call__(self, assignment: Assignment) -> float:
        return accuracy(assignment)


@dataclass(frozen=True)
class Orphaning:
    """The accuracy of the table; the first one starts a process that outlives its own, which is killed."""

    log: Logged
    left: Path
    """Where the number of the process is that is left."""

    def __call__(self, assignment: Assignment) -> float:
        first = not self.log.lines
        found = self.log(assignment)
        if first:
            process = os.fork()
            if not process:
                time.sleep(300.0)
                os._exit(0)
            self.left.write_text(str(process))
            os.kill(os.getpid(), signal.SIGKILL)
        return found


def failing_sometimes(assignment: Assignment) -> float:
    """Raise for every assignment with a weight of 4 bits."""
    if assignment["weight"] == 4:
        raise RuntimeError("four bits are broken")
    return accuracy(assignment)


def killing_itself(assignment: Assignment) -> float:
    """Kill the process, as the system does when memory runs out."""
    del assignment
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def killing_the_narrowest(assignment: Assignment) -> float:
    """Kill the process at the fewest bits everywhere."""
    if all(bits == 2 for bits in assignment.values()):
        os.kill(os.getpid(), signal.SIGKILL)
    return TOP


def killing_the_widest(assignment: Assignment) -> float:
    """Kill the process at the most bits everywhere."""
    if all(bits == 8 for bits in assignment.values()):
        os.kill(os.getpid(), signal.SIGKILL)
    return TOP


def bits_of(assignment: Assignment) -> float:
    """Return the sum of all bits as bytes."""
    return float(sum(map(int, assignment.values())))


def memory_of_the_first_process(assignment: Assignment) -> float:
    """Return the bytes, but fail in a worker."""
    if multiprocessing.parent_process() is not None:
        raise RuntimeError("no memory in a worker")
    return memory(assignment)


def keys(assignments: Iterable[Assignment]) -> list[tuple[tuple[str, Choice], ...]]:
    """Return assignments as something that can be counted."""
    return [tuple(sorted(assignment.items())) for assignment in assignments]


def assert_no_twins(result: SearchResult) -> None:
    """Fail where an assignment was measured twice."""
    count = Counter(keys(trial.assignment for trial in result.trials))
    assert {key: times for key, times in count.items() if times > 1} == {}


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Return once the condition holds; fail when it takes too long."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come to that"
        time.sleep(0.01)


def new_study(sampler: BaseSampler | None = None) -> optuna.Study:
    """Return a study of bits in memory, without trials."""
    with QuietOptuna():
        return optuna.create_study(directions=DIRECTIONS, sampler=sampler)


def add(
    study: optuna.Study, codes: Codes, state: TrialState = TrialState.COMPLETE, **user_attrs: Any
) -> None:
    """Add a trial of the table; a finished one has its values."""
    assignment = SPACE.assignment(codes)
    study.add_trial(
        create_trial(
            state=state,
            params=parameters_of(SPACE, codes),
            distributions=distributions(SPACE),
            values=(accuracy(assignment), memory(assignment)) if state is TrialState.COMPLETE else None,
            user_attrs=user_attrs,
        )
    )


def proposed(study: optuna.Study, sampler: BaseSampler, space: Space = SPACE) -> Codes:
    """Return what a sampler proposes; the trial is given back as if it had been interrupted."""
    study.sampler = sampler
    trial = study.ask()
    suggest(trial, space)
    codes = codes_of(space, study.get_trials()[trial.number])
    study.tell(trial, state=TrialState.FAIL)
    assert codes is not None
    return codes


def summary(result: SearchResult) -> dict[str, Any]:
    """Return what a test asks of a search that ran in another process."""
    return {
        "trials": [[trial.number, trial.assignment, trial.accuracy, trial.memory] for trial in result.trials],
        "best": None if result.best is None else result.best.assignment,
        "interrupted": result.interrupted,
        "feasible": result.feasible,
    }


def main(words: list[str]) -> None:
    """Search with STORAGE LOG SECONDS WORKERS TRIALS and print the summary as JSON."""
    storage, log, seconds, workers, trials = words
    result = sgq.bits.search(
        CHOICES,
        Logged(Path(log), float(seconds)),
        memory,
        trials=int(trials),
        limit={"accuracy_drop": 0.025},
        storage=storage,
        workers=int(workers),
    )
    print(json.dumps(summary(result)))


if __name__ == "__main__":
    main(sys.argv[1:])
