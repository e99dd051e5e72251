"""Trials of dead workers are retired, by a look at their processes or by the end of their leases."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import TrialState, create_trial

from sgq.bits import leases
from sgq.bits.leases import LEASE, LEASE_S, UNLEASED_S, held, is_retired, retire_dead
from sgq.bits.storage import open_storage

SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture(params=["memory", "journal"])
def study(request: pytest.FixtureRequest, tmp_path: Path) -> optuna.Study:
    where = None if request.param == "memory" else tmp_path / "search.log"
    return optuna.create_study(storage=open_storage(where), study_name="search")


def lease_of(study: optuna.Study, number: int = 0) -> dict[str, Any]:
    return study.get_trials()[number].system_attrs[LEASE]


def leave(study: optuna.Study, **changed: Any) -> None:
    """Ask for a trial and leave it running, with a lease of this process except for what is changed."""
    trial = study.ask()
    with held(study._storage, trial._trial_id):
        pass
    lease = {**lease_of(study, trial.number), **changed}
    study._storage.set_trial_system_attr(trial._trial_id, LEASE, lease)


def ended_process() -> int:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


def test_a_lease_names_the_worker_and_its_end(study: optuna.Study) -> None:
    trial = study.ask()
    before = time.time()
    with held(study._storage, trial._trial_id):
        lease = lease_of(study)
    assert lease["pid"] == os.getpid()
    assert before + LEASE_S <= lease["until"] <= time.time() + LEASE_S
    assert set(lease) == {"host", "pid", "started", "until"}


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="this system has no /proc")
def test_a_lease_tells_machines_namespaces_and_processes_apart(study: optuna.Study) -> None:
    leave(study)
    lease = lease_of(study)
    assert Path("/proc/sys/kernel/random/boot_id").read_text().strip() in lease["host"]
    assert str(os.stat("/proc/self/ns/pid").st_ino) in lease["host"]
    assert isinstance(lease["started"], int)


def test_a_lease_is_renewed_while_it_is_held_and_not_after(study: optuna.Study) -> None:
    trial = study.ask()
    with held(study._storage, trial._trial_id, seconds=0.15):
        first = lease_of(study)["until"]
        until = time.monotonic() + 5
        while lease_of(study)["until"] == first and time.monotonic() < until:
            time.sleep(0.01)
    last = lease_of(study)["until"]
    assert last > first
    time.sleep(0.2)
    assert lease_of(study)["until"] == last


def test_leaving_a_lease_does_not_wait_for_the_next_renewal(study: optuna.Study) -> None:
    trial = study.ask()
    before = time.monotonic()
    with held(study._storage, trial._trial_id):
        pass
    assert time.monotonic() - before < 1
    assert "lease of trial" not in " ".join(thread.name for thread in threading.enumerate())


class AwayStorage(InMemoryStorage):
    """A storage that fails for a number of renewals."""

    failures = 0
    failed = 0

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        if self.failed < self.failures:
            self.failed += 1
            raise ConnectionError("the storage is away")
        super().set_trial_system_attr(trial_id, key, value)


def test_a_storage_that_is_away_for_a_while_ends_no_evaluation(caplog: pytest.LogCaptureFixture) -> None:
    storage = AwayStorage()
    study = optuna.create_study(storage=storage)
    trial = study.ask()
    with held(storage, trial._trial_id, seconds=0.06):
        first = lease_of(study)["until"]
        storage.failures = 2
        until = time.monotonic() + 5
        while lease_of(study)["until"] == first and time.monotonic() < until:
            time.sleep(0.01)
    assert storage.failed == 2
    assert lease_of(study)["until"] > first
    assert "the lease of trial 0 was not renewed: the storage is away" in caplog.text
    study.tell(trial, 1.0)


def test_a_trial_that_another_process_ended_is_no_longer_renewed(study: optuna.Study) -> None:
    trial = study.ask()
    with held(study._storage, trial._trial_id, seconds=0.03):
        study.tell(trial, 1.0)
        until = time.monotonic() + 5
        while "lease of trial" in " ".join(map(str, threading.enumerate())) and time.monotonic() < until:
            time.sleep(0.01)
        assert time.monotonic() < until
    assert study.get_trials()[0].state == TrialState.COMPLETE


def test_an_error_of_the_evaluation_comes_through(study: optuna.Study) -> None:
    trial = study.ask()
    with pytest.raises(ValueError, match="diverged"), held(study._storage, trial._trial_id):
        raise ValueError("diverged")


# Who is dead.


def test_a_trial_of_a_process_that_is_gone_is_retired_at_once(study: optuna.Study) -> None:
    leave(study, pid=ended_process())
    assert retire_dead(study) == (0,)
    (trial,) = study.get_trials()
    assert trial.state == TrialState.FAIL
    assert trial.user_attrs == {"reason": "its worker died"}
    assert trial.system_attrs["sgq:retired"] is True
    assert is_retired(trial)
    assert retire_dead(study) == ()


def test_a_pid_that_another_process_has_now_is_not_taken_for_the_worker(study: optuna.Study) -> None:
    leave(study)
    leave(study, started=1)
    assert retire_dead(study) == (1,)


def test_another_worker_of_this_machine_that_is_late_keeps_its_trial(study: optuna.Study) -> None:
    parent = os.getppid()
    leave(study, pid=parent, started=leases._started(parent), until=time.time() - 1000)
    assert retire_dead(study, now=time.time() + 1000) == ()


def test_what_this_process_left_behind_is_retired_when_its_lease_ends(study: optuna.Study) -> None:
    now = time.time()
    leave(study, until=now + 5)
    assert retire_dead(study, now=now) == ()
    assert retire_dead(study, now=now + 6) == (0,)


def test_a_worker_of_another_machine_keeps_its_trial_until_its_lease_ends(study: optuna.Study) -> None:
    now = time.time()
    leave(study, host="elsewhere", pid=ended_process(), until=now + 5)
    assert retire_dead(study, now=now) == ()
    assert retire_dead(study, now=now + 6) == (0,)


@pytest.mark.parametrize("system", ["without-processes", "without-starts"])
def test_where_a_process_cannot_be_told_its_lease_decides(
    study: optuna.Study, system: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    leave(study, until=now + 5)
    if system == "without-processes":
        monkeypatch.setattr(leases, "_SIGNAL_0_ASKS", False)
    else:
        monkeypatch.setattr(leases, "_state", lambda pid: None)
    assert retire_dead(study, now=now) == ()
    assert retire_dead(study, now=now + 6) == (0,)


def test_a_running_trial_without_a_lease_is_retired_some_time_after_its_start(study: optuna.Study) -> None:
    study.ask()
    assert retire_dead(study, now=time.time() + UNLEASED_S - 5) == ()
    assert retire_dead(study, now=time.time() + UNLEASED_S + 1) == (0,)


@pytest.mark.parametrize("value", ["text", {"host": "here"}, {"until": None, "host": "", "pid": 1}, None])
def test_a_lease_that_cannot_be_understood_is_none(study: optuna.Study, value: Any) -> None:
    trial = study.ask()
    study._storage.set_trial_system_attr(trial._trial_id, LEASE, value)
    assert retire_dead(study) == ()
    assert retire_dead(study, now=time.time() + LEASE_S + 1) == (0,)


def test_waiting_and_finished_trials_are_left_alone(study: optuna.Study) -> None:
    study.enqueue_trial({"x": 1})
    study.enqueue_trial({"x": 2})
    study.tell(study.ask(), 1.0)
    long_ago = datetime.now() - timedelta(days=1)
    study.add_trial(create_trial(state=TrialState.PRUNED, system_attrs={LEASE: {}}))
    assert retire_dead(study, now=time.time() + 10 * LEASE_S) == ()
    assert [trial.state.name for trial in study.get_trials()] == ["COMPLETE", "WAITING", "PRUNED"]
    study.ask()
    assert retire_dead(study, now=long_ago.timestamp()) == ()


def test_a_trial_that_its_worker_finishes_meanwhile_is_not_retired(study: optuna.Study) -> None:
    leave(study, pid=ended_process())
    storage, set_attr = study._storage, study._storage.set_trial_system_attr

    def finishing(trial_id: int, key: str, value: Any) -> None:
        set_attr(trial_id, key, value)
        storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [0.5])

    storage.set_trial_system_attr = finishing  # type: ignore[method-assign]
    assert retire_dead(study) == ()
    assert not is_retired(study.get_trials()[0])
    assert study.best_value == 0.5


# Real processes.


def evaluate_for_ever(where: str, pipe: Connection) -> None:
    study = optuna.load_study(storage=open_storage(where), study_name="search")
    trial = study.ask()
    with held(study._storage, trial._trial_id):
        pipe.send(trial.number)
        time.sleep(60)


def retire_together(where: str, pipe: Connection) -> None:
    study = optuna.load_study(storage=open_storage(where), study_name="search")
    pipe.send("ready")
    pipe.recv()
    pipe.send(retire_dead(study))


def started(target: Callable[[str, Connection], None], where: str) -> tuple[Any, Connection]:
    here, there = SPAWN.Pipe()
    process = SPAWN.Process(target=target, args=(where, there))
    process.start()
    there.close()
    return process, here


def test_the_trial_of_a_worker_that_is_killed_is_retired_at_once_and_others_go_on(tmp_path: Path) -> None:
    where = str(tmp_path / "search.log")
    study = optuna.create_study(storage=open_storage(where), study_name="search")
    workers = [started(evaluate_for_ever, where) for _ in range(2)]
    try:
        killed = workers[0][1].recv()
        assert {killed, workers[1][1].recv()} == {0, 1}
        assert retire_dead(study) == ()
        # Nobody has waited for the process yet: to the system it is there still.
        os.kill(workers[0][0].pid, signal.SIGKILL)
        until = time.monotonic() + 5
        while not (retired := retire_dead(study)) and time.monotonic() < until:
            time.sleep(0.01)
        assert retired == (killed,)
        workers[0][0].join()
        assert retire_dead(study) == ()
        states = {trial.number: trial.state for trial in study.get_trials()}
        assert states == {killed: TrialState.FAIL, 1 - killed: TrialState.RUNNING}
    finally:
        for process, pipe in workers:
            process.kill()
            process.join()
            pipe.close()


def test_processes_that_retire_at_once_share_the_trials_out(tmp_path: Path) -> None:
    where = str(tmp_path / "search.log")
    storage: BaseStorage = open_storage(where)
    study = optuna.create_study(storage=storage, study_name="search")
    pid = ended_process()
    for _ in range(10):
        leave(study, pid=pid)
    workers = [started(retire_together, where) for _ in range(2)]
    for _, pipe in workers:
        assert pipe.recv() == "ready"
    for _, pipe in workers:
        pipe.send("go")
    retired = [number for _, pipe in workers for number in pipe.recv()]
    for process, pipe in workers:
        process.join()
        pipe.close()
    assert sorted(retired) == list(range(10))
    assert all(map(is_retired, study.get_trials()))
