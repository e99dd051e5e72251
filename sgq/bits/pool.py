"""Several workers on one study after another: processes that their parent spawns, watches and ends."""

from __future__ import annotations

import io
import multiprocessing
import os
import pickle
import signal
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Self

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from sgq.bits.leases import Lease
from sgq.bits.memory import memory_of_codes
from sgq.bits.samplers import make_sampler
from sgq.bits.space import Assignment
from sgq.bits.storage import opened
from sgq.bits.studies import QuietOptuna, Terms, load_study
from sgq.bits.trials import COPY, is_measured, retire
from sgq.bits.worker import Evaluate, Work, work
from sgq.errors import SearchError

POLL_S = 0.25
PATIENCE_S = 5.0
ORPHANED_S = 1.0
"""How often one that waits for an order looks whether its parent is still there."""
FAILED = 1


@dataclass(frozen=True)
class Order:
    """What a worker is to do: measure up to so many trials of a stored study."""

    storage: str | Path
    study: str
    terms: Terms
    memory: Callable[[Assignment], float]
    evaluate: Evaluate
    trials: int

    def carry_out(self, worker: int, *, stopping: Callable[[], bool]) -> None:
        """Work on the study until it is over, or `stopping`."""
        terms, of_codes = self.terms, memory_of_codes(self.terms.space, self.memory)
        with opened(self.storage) as storage:
            study = load_study(storage, self.study)
            study.sampler = make_sampler(
                terms.sampler,
                terms.space,
                of_codes,
                limits=terms.limits,
                seed=terms.seed,
                done=len(study.get_trials(deepcopy=False)),
                worker=worker,
            )
            job = Work(terms.space, self.evaluate, of_codes, terms.limits, self.trials)
            work(study, job, stopping=stopping, seed=terms.seed + worker)


class Workers:
    """So many processes that work on one study after another.

    They are spawned and not forked: a process forked after a parallel kernel of numba dies. An evaluation
    that refers to what is `shared` finds there the process's own copy, which is kept from study to study with
    all that it has built. Processes start with a study, where there are none, and end with the block, or at
    Ctrl-C.
    """

    def __init__(self, count: int, *, shared: object = None) -> None:
        self.count = count
        self._shared = shared
        self._processes: dict[int, _Process] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._end()

    def check_picklable(self, memory: Callable[[Assignment], float], evaluate: Evaluate) -> None:
        """Raise SearchError where memory or evaluate cannot be sent to a process."""
        try:
            _dumped((memory, evaluate), self._shared)
            pickle.dumps(self._shared)
        except Exception as error:
            raise SearchError(
                f"evaluate and memory go to worker processes, so they must be picklable ({error}): define "
                "them at the top of an importable module, or take workers=1"
            ) from error

    def carry_out(self, order: Order, on_progress: Callable[[int], None] = lambda done: None) -> bool:
        """Have all of them carry out an order, and wait for them; return whether Ctrl-C ended it.

        A worker that dies takes nothing with it: its trial is given back, the others go on, and the next
        order has another one in its place. The death of all is an interruption too. Raises SearchError when
        all workers ended, some of them with an error.
        """
        content = _dumped(order, self._shared)
        with opened(order.storage) as kept:
            watched = load_study(kept, order.study)
            ended: set[int | None] = set()
            try:
                self._start()
                for process in self._processes.values():
                    process.send(content)
                while working := [one for one in self._processes.values() if one.is_busy]:
                    wait([process.orders for process in working], POLL_S)
                    on_progress(sum(map(is_measured, watched.get_trials(deepcopy=False))))
                    for process in working:
                        process.look()
            except BaseException as error:
                ended = self._end()
                if isinstance(error, KeyboardInterrupt):
                    return True
                raise
            finally:
                _give_back(watched, ended)
                retire(watched)
        if not all(process.is_gone for process in self._processes.values()):
            return False
        if FAILED in {process.end() for process in self._processes.values()}:
            raise SearchError("all workers ended with an error; it is on stderr")
        return True

    def _start(self) -> None:
        """Start the processes that there are not, or no longer."""
        for process in self._processes.values():
            process.look()
        with _interrupts_held_back():
            for number in range(self.count):
                if number in self._processes and not self._processes[number].is_gone:
                    continue
                if number in self._processes:
                    self._processes.pop(number).end()
                self._processes[number] = _Process(number, self._shared)

    def _end(self) -> set[int | None]:
        """End all processes at once; return the numbers of those that were alive."""
        if not self._processes:
            return set()
        with _interrupts_held_back():
            alive = {process.pid for process in self._processes.values() if not process.is_gone}
            for process in self._processes.values():
                process.terminate()
            for process in self._processes.values():
                process.end()
            self._processes.clear()
        return alive


class _Process:
    """One process, and the way to it: orders go there, and back comes that one is carried out."""

    def __init__(self, number: int, shared: object) -> None:
        context = multiprocessing.get_context("spawn")
        self.orders, theirs = context.Pipe()
        self.is_gone = False
        self._has_order = False
        self._process: BaseProcess = context.Process(
            target=_work_off, args=(theirs, shared, number, os.getpid()), daemon=True
        )
        self._process.start()
        theirs.close()  # or its end would not be told here

    @property
    def pid(self) -> int | None:
        return self._process.pid

    @property
    def is_busy(self) -> bool:
        """Whether it has an order that it may yet carry out."""
        return self._has_order and not self.is_gone

    def send(self, order: bytes) -> None:
        """Send an order; to one that is dead already, in vain."""
        self._has_order = True
        try:
            self.orders.send_bytes(order)
        except OSError:
            self.is_gone = True

    def look(self) -> None:
        """Take notice of what it has told since, and of its death.

        The pipe alone does not tell that: what it has started may still hold it.
        """
        gone = self._process.exitcode is not None
        try:
            while self.orders.poll():
                self.orders.recv()
                self._has_order = False
        except (EOFError, OSError):
            gone = True
        self.is_gone = self.is_gone or gone

    def terminate(self) -> None:
        self._process.terminate()

    def end(self) -> int | None:
        """Wait for its end, which it was asked for, or force it; return the exit code."""
        self.orders.close()
        self._process.join(PATIENCE_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        return self._process.exitcode


def _work_off(orders: Connection, shared: object, number: int, parent: int) -> None:
    """Carry out orders until there are no more, or the parent is gone. Ctrl-C is the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def stopping() -> bool:
        return os.getppid() != parent

    with QuietOptuna():
        while (content := _next(orders, stopping)) is not None:
            order = _loaded(content, shared)
            order.carry_out(number, stopping=stopping)
            with suppress(OSError):
                orders.send(None)


def _next(orders: Connection, stopping: Callable[[], bool]) -> bytes | None:
    with suppress(EOFError, OSError):
        while not orders.poll(ORPHANED_S):
            if stopping():
                return None
        return orders.recv_bytes()
    return None


class _Pickler(pickle.Pickler):
    """Writes no copy of what is shared, but that it is that."""

    def __init__(self, stream: io.BytesIO, shared: object) -> None:
        super().__init__(stream)
        self._shared = shared

    def persistent_id(self, what: object) -> str | None:
        return "shared" if what is self._shared and what is not None else None


class _Unpickler(pickle.Unpickler):
    """Puts this process's own in the place of what is shared."""

    def __init__(self, stream: io.BytesIO, shared: object) -> None:
        super().__init__(stream)
        self._shared = shared

    def persistent_load(self, name: str) -> object:
        return self._shared


def _dumped(what: object, shared: object) -> bytes:
    stream = io.BytesIO()
    _Pickler(stream, shared).dump(what)
    return stream.getvalue()


def _loaded(content: bytes, shared: object) -> Order:
    order = _Unpickler(io.BytesIO(content), shared).load()
    assert isinstance(order, Order)
    return order


def _give_back(study: optuna.Study, processes: Collection[int | None]) -> None:
    """Set the running trials of processes that were ended here to FAIL; their assignments are free again."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        lease = Lease.of(trial)
        if lease is not None and lease.pid in processes and lease.is_dead(time.time()):
            with suppress(UpdateFinishedTrialError):
                study._storage.set_trial_user_attr(trial._trial_id, COPY, "interrupted")
                study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Hold Ctrl-C back until the end of this block; processes that are started in it hear nothing of it.

    A terminal sends it to all of them.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # the first process starts it, and that would end the block
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
