"""Leases on running trials, so that those of dead workers are noticed whatever the storage is.

A worker renews the lease of its trial while it evaluates. On the worker's own machine its process is looked
up, so that its death is noticed at once; on others, whose clocks are taken to agree, when the lease runs out.
Another process of this machine that is alive but late keeps its trial. The asking process itself does not: it
may be what an earlier search in it left behind, when the storage could not be told.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

LEASE_S = 60.0
"""How many seconds a lease holds when it is not renewed."""
UNLEASED_S = 10.0
"""How many seconds after its start a trial may have no lease; its worker takes one right after asking."""

LEASE = "sgq:lease"
RETIRED = "sgq:retired"
WORKER_DIED = "its worker died"

_RENEWALS = 3
_LAST_WAIT_S = 1.0
# Whether signal 0 only asks for a process; on Windows it is Ctrl-C.
_SIGNAL_0_ASKS = os.name == "posix"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Lease:
    """Who evaluates a trial, and until when that is taken for granted.

    `host` is a machine and a namespace of its process ids, `started` when the process was started in the
    kernel's clock ticks (None where that is not known), `until` seconds since 1970.
    """

    host: str
    pid: int
    started: int | None
    until: float

    @classmethod
    def of_this_process(cls, seconds: float) -> Lease:
        """Return a lease of the calling process for that many seconds from now on."""
        pid = os.getpid()
        return cls(_this_host(), pid, _started(pid), time.time() + seconds)

    @classmethod
    def of(cls, trial: FrozenTrial) -> Lease | None:
        """Return the lease of a trial, or None when it has none that can be understood."""
        match trial.system_attrs.get(LEASE):
            case {"host": str(host), "pid": int(pid), "started": int() | None as started, "until": until}:
                return cls(host, pid, started, float(until)) if isinstance(until, int | float) else None
        return None

    def is_dead(self, now: float) -> bool:
        """Whether the worker is certainly gone, or can no longer be told and has not renewed in time."""
        gone = _is_gone(self.pid, self.started) if self.host == _this_host() else None
        if gone is None or self.pid == os.getpid():
            return gone or self.until < now
        return gone


@contextmanager
def held(storage: BaseStorage, trial_id: int, *, seconds: float = LEASE_S) -> Iterator[None]:
    """Hold the lease of a running trial: enter right after asking for the trial, leave before telling.

    A renewal that fails is tried again a third of `seconds` later and never ends the evaluation. Whatever
    ends it, the caller tells the trial's state: as long as this process lives, no other one will.
    """
    _write(storage, trial_id, seconds)
    done = threading.Event()
    name = f"lease of trial {trial_id}"
    renewer = threading.Thread(target=_renew, args=(storage, trial_id, seconds, done), name=name, daemon=True)
    try:
        renewer.start()
        yield
    finally:
        done.set()
        # A storage that does not answer may keep the thread; the evaluation does not wait for that.
        if renewer.is_alive():
            renewer.join(_LAST_WAIT_S)


def retire_dead(
    study: optuna.Study,
    *,
    now: float | None = None,
    given_up: Callable[[FrozenTrial], str] = lambda trial: "",
) -> tuple[int, ...]:
    """Return the numbers of the running trials whose workers are gone, after setting them to FAIL.

    A trial without a lease is retired UNLEASED_S after its start. `now` is in seconds since 1970. A trial for
    which `given_up` has a reason fails for it, as if its evaluation had raised, and is not retired. Any
    number of processes may do so at once: each trial is in the answer of one of them.
    """
    now = time.time() if now is None else now
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return tuple(
        trial.number for trial in running if _is_dead(trial, now) and _end(study, trial, given_up(trial))
    )


def is_retired(trial: FrozenTrial) -> bool:
    """Whether `retire_dead` has set the trial to FAIL."""
    # A worker that was only late can have finished a trial that was just being retired.
    return trial.state == TrialState.FAIL and trial.system_attrs.get(RETIRED) is True


def _is_dead(trial: FrozenTrial, now: float) -> bool:
    lease = Lease.of(trial)
    if lease is not None:
        return lease.is_dead(now)
    # Optuna gives naive times of this machine's zone.
    return trial.datetime_start is not None and trial.datetime_start.timestamp() + UNLEASED_S < now


def _end(study: optuna.Study, trial: FrozenTrial, given_up: str) -> bool:
    storage, trial_id = study._storage, trial._trial_id
    try:
        storage.set_trial_user_attr(trial_id, "reason", given_up or WORKER_DIED)
        if not given_up:
            storage.set_trial_system_attr(trial_id, RETIRED, True)
        storage.set_trial_state_values(trial_id, TrialState.FAIL)
    except UpdateFinishedTrialError:
        return False
    return True


def _renew(storage: BaseStorage, trial_id: int, seconds: float, done: threading.Event) -> None:
    while not done.wait(seconds / _RENEWALS):
        try:
            _write(storage, trial_id, seconds)
        except UpdateFinishedTrialError:
            return
        except Exception as error:
            _log.warning("the lease of trial %d was not renewed: %s", trial_id, error)


def _write(storage: BaseStorage, trial_id: int, seconds: float) -> None:
    storage.set_trial_system_attr(trial_id, LEASE, asdict(Lease.of_this_process(seconds)))


def _this_host() -> str:
    """Name this machine and its namespace of process ids; equal ids elsewhere are other processes."""
    boot, namespace = "", ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    with suppress(OSError):
        namespace = str(os.stat("/proc/self/ns/pid").st_ino)
    return f"{socket.gethostname()}/{boot}/{namespace}"


def _is_gone(pid: int, started: int | None) -> bool | None:
    """Whether that process of this machine is gone; None where that cannot be told."""
    if not _SIGNAL_0_ASKS:
        return None
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        pass
    state = _state(pid)
    if state is None or started is None:
        return None
    return state.is_dead or state.started != started


@dataclass(frozen=True)
class _ProcessState:
    """What the kernel tells of a process: whether it has ended but was not waited for, and its start."""

    is_dead: bool
    started: int


def _started(pid: int) -> int | None:
    state = _state(pid)
    return None if state is None else state.started


def _state(pid: int) -> _ProcessState | None:
    try:
        fields: list[Any] = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return _ProcessState(fields[0] in (b"Z", b"X"), int(fields[19]))
    except (OSError, IndexError, ValueError):
        return None
