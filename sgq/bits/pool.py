"""Several workers on one study: processes spawned on this machine, watched and ended by their parent."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from pathlib import Path

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from sgq.bits.leases import Lease
from sgq.bits.memory import memory_of_codes
from sgq.bits.samplers import make_sampler
from sgq.bits.space import Assignment
from sgq.bits.storage import open_storage, opened
from sgq.bits.studies import QuietOptuna, Terms, load_study
from sgq.bits.trials import COPY, is_measured, retire
from sgq.bits.worker import Evaluate, Work, work
from sgq.errors import SearchError

POLL_S = 0.25
PATIENCE_S = 5.0


def run_workers(
    storage: str | Path,
    study: str,
    terms: Terms,
    memory: Callable[[Assignment], float],
    evaluate: Evaluate,
    *,
    trials: int,
    workers: int,
    on_progress: Callable[[int], None] = lambda done: None,
) -> bool:
    """Spawn workers on a stored study and wait for them; return whether Ctrl-C ended them.

    Workers are spawned and not forked: a process forked after a parallel kernel of numba dies. A worker that
    dies takes nothing with it: its trial is given back, and the others go on; the death of all is an
    interruption too. Raises SearchError when all workers ended, some of them with an error.
    """
    context = multiprocessing.get_context("spawn")
    arguments = (storage, study, terms, memory, evaluate, trials)
    processes: list[BaseProcess] = [
        context.Process(target=_worker, args=(*arguments, worker, os.getpid()), daemon=True)
        for worker in range(workers)
    ]
    with opened(storage) as kept:
        watched = load_study(kept, study)
        try:
            with _interrupts_held_back():
                for process in processes:
                    process.start()
            while any(process.is_alive() for process in processes):
                time.sleep(POLL_S)
                on_progress(sum(map(is_measured, watched.get_trials(deepcopy=False))))
        except KeyboardInterrupt:
            return True
        finally:
            started = [process for process in processes if process.pid is not None]
            ended = {process.pid for process in started if process.is_alive()}
            for process in started:
                process.terminate()
            for process in started:
                process.join(PATIENCE_S)
                if process.is_alive():
                    process.kill()
                    process.join()
            _give_back(watched, ended)
            retire(watched)
    ends = {process.exitcode for process in processes}
    if 0 not in ends and FAILED in ends:
        raise SearchError("all workers ended with an error; it is on stderr")
    return 0 not in ends


FAILED = 1


def _give_back(study: optuna.Study, processes: Collection[int | None]) -> None:
    """Set the running trials of processes that were ended here to FAIL; their assignments are free again."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        lease = Lease.of(trial)
        if lease is not None and lease.pid in processes and lease.is_dead(time.time()):
            with suppress(UpdateFinishedTrialError):
                study._storage.set_trial_user_attr(trial._trial_id, COPY, "interrupted")
                study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)


def check_picklable(memory: Callable[[Assignment], float], evaluate: Evaluate) -> None:
    """Raise SearchError where memory or evaluate cannot be sent to a worker."""
    try:
        pickle.dumps((evaluate, memory))
    except Exception as error:
        raise SearchError(
            f"evaluate and memory go to worker processes, so they must be picklable ({error}): define them "
            "at the top of an importable module, or take workers=1"
        ) from error


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Start processes in this block that hear nothing of Ctrl-C, which a terminal sends to all of them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # the first process starts it, and that would end the block
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _worker(
    storage: str | Path,
    name: str,
    terms: Terms,
    memory: Callable[[Assignment], float],
    evaluate: Evaluate,
    trials: int,
    worker: int,
    parent: int,
) -> None:
    """Work on the study until it is over or the parent is gone. Ctrl-C is the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with QuietOptuna():
        of_codes = memory_of_codes(terms.space, memory)
        study = load_study(open_storage(storage), name)
        done = len(study.get_trials(deepcopy=False))
        study.sampler = make_sampler(
            terms.sampler,
            terms.space,
            of_codes,
            limits=terms.limits,
            seed=terms.seed,
            done=done,
            worker=worker,
        )
        job = Work(terms.space, evaluate, of_codes, terms.limits, trials)
        work(study, job, stopping=lambda: os.getppid() != parent, seed=terms.seed + worker)
