"""Several processes on one search: they measure what was asked for, and survive the death of any of them."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from sgq.bits import SearchResult, search
from sgq.bits.pool import Workers
from sgq.bits.storage import open_storage
from sgq.bits.studies import load_study
from sgq.bits.trials import records_of
from sgq.errors import SearchError
from tests.bits import tables
from tests.bits.tables import (
    CHOICES,
    SPACE,
    Kept,
    Logged,
    Using,
    accuracy,
    assert_no_twins,
    killing_itself,
    memory,
    wait_for,
)

ROOT = Path(__file__).resolve().parents[2]
LIMIT = {"accuracy_drop": 0.025}
TRIALS = 40
SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(1, 6))]


@contextmanager
def searching(storage: Path, log: Path, *, seconds: float) -> Iterator[subprocess.Popen[str]]:
    """Run a search of two workers in a process that leads a session of its own, with all of them in it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bits.tables", str(storage), str(log), str(seconds), "2", str(TRIALS)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def measured_in(storage: Path) -> dict[int, tuple[dict[str, Any], float | None, float]]:
    """Return what the finished trials of a stored search measured, by their numbers."""
    study = load_study(open_storage(storage), "bits")
    return measured(records_of(SPACE, study.get_trials(deepcopy=False)))


def measured(trials: Any) -> dict[int, tuple[dict[str, Any], float | None, float]]:
    return {trial.number: (trial.assignment, trial.accuracy, trial.memory) for trial in trials}


def assert_whole(result: SearchResult) -> None:
    """Fail unless a search has all its trials, once each and with the table's values, and a usable best."""
    assert len(result.trials) == TRIALS
    assert_no_twins(result)
    for trial in result.trials:
        assert (trial.state, trial.accuracy) == ("finished", accuracy(trial.assignment))
        assert trial.memory == memory(trial.assignment)
    assert not result.interrupted
    assert result.reference == tables.TOP
    assert result.feasible
    assert result.best is not None
    assert accuracy(result.best.assignment) >= tables.TOP - LIMIT["accuracy_drop"]


def test_two_workers_measure_what_was_asked_for_and_nothing_twice(tmp_path: Path) -> None:
    evaluate = Logged(tmp_path / "log", seconds=0.02)
    shown: list[int] = []
    result = search(
        CHOICES, evaluate, memory, trials=TRIALS, limit=LIMIT, workers=2, on_progress=shown.append
    )
    assert_whole(result)
    assert result.best is not None
    assert result.best.memory <= memory(tables.BEST)
    assert len(evaluate.lines) == TRIALS
    assert len({process for process, _ in evaluate.lines}) == 2
    assert shown == sorted(shown)


def test_what_cannot_be_sent_to_a_worker_is_told_before_a_study_is_made(tmp_path: Path) -> None:
    storage = tmp_path / "study.log"
    with pytest.raises(SearchError, match=r"must be picklable .* importable module, or .*workers=1"):
        search(CHOICES, lambda assignment: 0.5, memory, trials=3, storage=storage, workers=2)
    assert not storage.exists()


def test_the_death_of_all_workers_is_an_interruption(tmp_path: Path) -> None:
    result = search(CHOICES, tables.killing_itself, memory, trials=3, workers=2)
    assert result.interrupted
    # The second worker may have died at what killed the first, or at something else.
    assert {trial.reason for trial in result.trials} <= {"its worker died twice"}
    assert result.best is None


def test_what_killed_two_workers_is_a_failed_trial_and_the_third_goes_on() -> None:
    space = {"weight": (2, 4, 8), "input": (2, 4, 8)}
    result = search(space, tables.killing_the_narrowest, tables.bits_of, 9, "exhaustive", workers=3)
    assert len(result.trials) == 9
    assert_no_twins(result)
    (failed,) = (trial for trial in result.trials if trial.state == "failed")
    assert (failed.assignment, failed.memory) == ({"weight": 2, "input": 2}, 4.0)
    assert failed.reason == "its worker died twice"
    assert not result.interrupted


def test_a_widest_that_killed_two_workers_ends_a_search_for_a_drop_from_it() -> None:
    result = search(
        CHOICES, tables.killing_the_widest, memory, TRIALS, "random", {"accuracy_drop": 0.01}, workers=3
    )
    assert result.reference is None
    assert len(result.trials) < TRIALS
    assert result.remark.endswith(": its worker died twice")


def test_an_error_in_all_workers_is_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SearchError, match="all workers ended with an error"):
        search(CHOICES, accuracy, tables.memory_of_the_first_process, trials=3, workers=2)
    assert "no memory in a worker" in capfd.readouterr().err


def test_workers_of_several_searches_keep_what_is_shared(tmp_path: Path) -> None:
    kept, log = Kept(), Logged(tmp_path / "log", seconds=0.02)
    with Workers(2, shared=kept) as workers:
        for study in ("first", "second", "third"):
            storage = tmp_path / "study.log"
            result = search(
                CHOICES, Using(kept, log), memory, 10, "random", storage=storage, study=study, workers=workers
            )
            assert (len(result.trials), result.interrupted) == (10, False)
    uses: dict[int, list[int]] = {}
    for process, told in log.lines:
        uses.setdefault(process, []).append(told["uses"])
    assert kept.uses == 0
    assert len(uses) <= 2  # one of them had a second search at least
    assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in uses.values())
    wait_for(lambda: not any(map(is_alive, uses)))


def test_workers_that_share_nothing_have_a_new_copy_in_each_search(tmp_path: Path) -> None:
    kept, log = Kept(), Logged(tmp_path / "log")
    with Workers(2) as workers:
        for _ in range(3):
            search(CHOICES, Using(kept, log), memory, 10, "random", workers=workers)
    assert len({process for process, _ in log.lines}) <= 2
    assert [told["uses"] for _, told in log.lines].count(1) >= 3


def test_a_worker_that_died_is_replaced_for_the_next_search(tmp_path: Path) -> None:
    log = Logged(tmp_path / "log", seconds=0.05)
    with Workers(2) as workers:
        assert search(CHOICES, killing_itself, memory, trials=3, workers=workers).interrupted
        result = search(CHOICES, log, memory, trials=TRIALS, limit=LIMIT, workers=workers)
        assert_whole(result)
        assert len({process for process, _ in log.lines}) == 2
        os.kill(log.lines[0][0], signal.SIGKILL)
        wait_for(lambda: not is_alive(log.lines[0][0]))
        search(CHOICES, Logged(log.path, seconds=0.25), memory, trials=TRIALS // 2, workers=workers)
    assert len({process for process, _ in log.lines[TRIALS:]}) == 2
    assert len({process for process, _ in log.lines}) == 3


def test_workers_that_ended_with_an_error_are_replaced_for_the_next_search(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with Workers(2) as workers:
        with pytest.raises(SearchError, match="all workers ended with an error"):
            search(CHOICES, accuracy, tables.memory_of_the_first_process, trials=3, workers=workers)
        result = search(CHOICES, Logged(tmp_path / "log"), memory, TRIALS, limit=LIMIT, workers=workers)
    assert_whole(result)
    capfd.readouterr()


def test_what_cannot_be_read_in_a_worker_is_an_error_and_no_interruption(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with Workers(2, shared="something else") as workers, pytest.raises(SearchError, match="on stderr"):
        search(CHOICES, tables.Unreadable(), memory, trials=3, workers=workers)
    assert "no data server" in capfd.readouterr().err


def test_the_death_of_a_worker_is_seen_although_what_it_started_lives_on(tmp_path: Path) -> None:
    evaluate = tables.Orphaning(Logged(tmp_path / "log"), tmp_path / "left")
    result = search(CHOICES, evaluate, memory, trials=TRIALS, limit=LIMIT, workers=2)
    assert_whole(result)
    assert len({process for process, _ in evaluate.log.lines}) == 2
    left = int(evaluate.left.read_text())
    assert is_alive(left)
    os.kill(left, signal.SIGKILL)


def test_an_error_of_the_caller_ends_the_workers(tmp_path: Path) -> None:
    log = Logged(tmp_path / "log", seconds=0.05)

    def fail(done: int) -> None:
        if done > 3:
            raise RuntimeError("no progress to be shown")

    with pytest.raises(RuntimeError, match="no progress"), Workers(2) as workers:
        search(CHOICES, log, memory, trials=TRIALS, workers=workers, on_progress=fail)
    assert not any(is_alive(process) for process, _ in log.lines)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_killed_worker_of_three_takes_nothing_with_it(tmp_path: Path, seed: int) -> None:
    evaluate = Logged(tmp_path / "log", seconds=0.05)
    chance = random.Random(seed)
    after, wait = chance.randrange(1, 30), chance.random() * 0.1
    killed: list[int] = []

    def kill() -> None:
        wait_for(lambda: len(evaluate.lines) >= after)
        time.sleep(wait)
        killed.append(chance.choice(sorted({process for process, _ in evaluate.lines})))
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    result = search(CHOICES, evaluate, memory, trials=TRIALS, limit=LIMIT, workers=3)
    killer.join()
    assert_whole(result)
    # What it had begun was begun once more at most, by another one.
    assert TRIALS <= len(evaluate.lines) <= TRIALS + 1
    assert len({process for process, _ in evaluate.lines} - set(killed)) == 2


@pytest.mark.parametrize("seed", SEEDS)
def test_a_search_whose_processes_were_all_killed_goes_on_where_it_was(tmp_path: Path, seed: int) -> None:
    storage, log = tmp_path / "study.log", Logged(tmp_path / "log")
    chance = random.Random(seed)
    after, wait = chance.randrange(1, 30), chance.random() * 0.1
    with searching(storage, log.path, seconds=0.05) as process:
        wait_for(lambda: len(log.lines) >= after)
        time.sleep(wait)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    wait_for(lambda: not any(is_alive(worker) for worker, _ in log.lines))
    before, begun = measured_in(storage), len(log.lines)
    result = search(
        CHOICES, log, memory, trials=TRIALS, limit=LIMIT, storage=storage, resume=True, workers=1 + seed % 2
    )
    assert_whole(result)
    assert before.items() <= measured(result.trials).items()
    assert begun - 2 <= len(before) <= begun
    # Nothing that was finished was begun again.
    assert len(log.lines) == begun + TRIALS - len(before)


def test_workers_whose_parent_was_killed_end_without_a_word(tmp_path: Path) -> None:
    log = Logged(tmp_path / "log")
    with searching(tmp_path / "study.log", log.path, seconds=0.2) as process:
        wait_for(lambda: len(log.lines) >= 4)
        os.kill(process.pid, signal.SIGKILL)
        _, err = process.communicate(timeout=30)
    assert not any(is_alive(worker) for worker, _ in log.lines)
    assert len(log.lines) < TRIALS
    assert "Traceback" not in err


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    # Of a killed process the first thread may be gone before the others.
    return state not in "ZX" or len(list(Path(f"/proc/{process}/task").iterdir())) > 1


def test_ctrl_c_ends_all_workers_and_gives_what_was_measured(tmp_path: Path) -> None:
    storage, log = tmp_path / "study.log", Logged(tmp_path / "log")
    with searching(storage, log.path, seconds=0.1) as process:
        wait_for(lambda: len(log.lines) >= 8)
        os.killpg(process.pid, signal.SIGINT)  # to all of them, as a terminal does
        out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    found = json.loads(out)
    assert found["interrupted"]
    assert 6 <= len(found["trials"]) < TRIALS
    assert {number: (assignment, value, size) for number, assignment, value, size in found["trials"]} == (
        measured_in(storage)
    )
    assert not any(is_alive(worker) for worker, _ in log.lines)
    assert_whole(search(CHOICES, log, memory, trials=TRIALS, limit=LIMIT, storage=storage, resume=True))
