"""The search itself: a study, its workers, and what came out of it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from math import ceil, floor
from pathlib import Path

import numpy as np
import optuna
from optuna.storages import BaseStorage

from sgq.bits.ends import Ends
from sgq.bits.front import Frame, front_of, hypervolume
from sgq.bits.limits import ROUNDING, Limits
from sgq.bits.memory import SpaceWithMemory, memory_of_codes, sampled_bytes
from sgq.bits.pool import Order, Workers
from sgq.bits.proposals import MemoryOf
from sgq.bits.samplers import SAMPLERS, check_sampler, make_sampler
from sgq.bits.space import Assignment, Choice, Space
from sgq.bits.storage import opened
from sgq.bits.studies import QuietOptuna, Terms, join_study, load_study
from sgq.bits.trials import Trial, parameters_of, records_of, retire, taken_codes
from sgq.bits.worker import Evaluate, Work, first_of, is_hopeless, is_over_memory, reference_of, work
from sgq.errors import SearchError

STUDY = "bits"


@dataclass(frozen=True)
class SearchResult:
    """What a search measured, and what it found.

    `trials` are all evaluated assignments, failed ones too; `front` those of full budget that no other beats
    in both accuracy and memory, by rising memory. `best` is the trial of least memory inside the limits, or
    of the greatest accuracy where accuracy is not limited; where nothing holds them (`feasible` False) it is
    the nearest, and `remark` names the tightest limit that something holds. `reference` is the accuracy of
    the widest assignment. `interrupted`: Ctrl-C ended the search, or all its workers were killed.
    """

    space: Space
    trials: tuple[Trial, ...]
    front: tuple[Trial, ...]
    best: Trial | None
    feasible: bool
    limits: Limits
    reference: float | None
    remark: str = ""
    interrupted: bool = False

    def holds(self, trial: Trial) -> bool:
        """Return whether a trial had its full budget and is inside the limits."""
        return trial.state == "finished" and self.limits.hold(
            accuracy=trial.sure, memory=trial.memory, reference=self.reference
        )


def search(
    space: Space | SpaceWithMemory | Mapping[str, Sequence[Choice]],
    evaluate: Evaluate,
    memory: Callable[[Assignment], float] | None = None,
    trials: int = 200,
    sampler: str = "abs",
    limit: Mapping[str, float] | None = None,
    storage: str | Path | None = None,
    seed: int = 0,
    *,
    workers: int | Workers = 1,
    study: str = STUDY,
    resume: bool | None = False,
    objective: Mapping[str, str] | None = None,
    on_progress: Callable[[int], None] = lambda done: None,
) -> SearchResult:
    """Search the assignment of least memory inside a limit of accuracy, in a few hundred evaluations.

    `space` maps an axis to its choices (`{"convs.0:message[0]": (2, 4, 8)}`) or is a planned space, whose
    packed bytes are the default of `memory`. `evaluate(assignment)` returns an accuracy, 0 to 1, or an
    `Evaluation`; one that raises, or returns something else, fails its trial only. `limit` is {"accuracy":
    0.8}, {"accuracy_drop": 0.004} (below the widest assignment) or {"memory": bytes}, or a mixture. `storage`
    is a journal's path or a URL (see `sgq.bits.storage`); None keeps the study in memory. With `resume` a
    stored study goes on, and `trials` counts what it has; None goes on where there is one.

    With several `workers`, processes are spawned: `evaluate` and `memory` must be picklable, and the caller's
    module importable. `sgq.bits.pool.Workers` are processes that other searches have as well. Ctrl-C ends the
    search with what was measured by then. Raises SearchError for an empty space, an unknown sampler or limit,
    or a storage with another study.

    >>> import sgq
    >>> space = {"weight": (2, 4, 8), "message": (2, 4, 8)}
    >>> bits = lambda assignment: assignment["weight"] + 3 * assignment["message"]
    >>> accuracy = lambda assignment: 0.9 - 0.1 * (assignment["message"] < 4)
    >>> result = sgq.bits.search(space, accuracy, bits, trials=9, limit={"accuracy": 0.85})
    >>> result.best.assignment
    {'weight': 2, 'message': 4}
    """
    choices = space.space if isinstance(space, SpaceWithMemory) else space
    plain = choices if isinstance(choices, Space) else Space.of(choices)
    of_one = space.memory if memory is None and isinstance(space, SpaceWithMemory) else memory
    if of_one is None:
        raise SearchError(
            "expected memory, a function from an assignment to its bytes: only a planned space has its own"
        )
    limits = Limits.of(limit)
    check_sampler(sampler)
    job = Work(plain, evaluate, memory_of_codes(plain, of_one), limits, trials)
    over_memory = is_over_memory(job, plain.widest)
    count = workers.count if isinstance(workers, Workers) else workers
    _check(plain, sampler, trials=trials, workers=count, over_memory=over_memory)
    weighed = sampled_bytes(plain, job.memory)
    terms = Terms(plain, sampler, limits, seed, dict(objective or {}), weighed)
    with QuietOptuna():
        if count == 1:
            with opened(storage) as kept:
                interrupted = _alone(kept, study, terms, job, resume=resume, on_progress=on_progress)
                return _result(load_study(kept, study), job, interrupted=interrupted)
        with (
            nullcontext(workers)
            if isinstance(workers, Workers)
            else Workers(count, shared=evaluate) as processes,
            tempfile.TemporaryDirectory(prefix="sgq-bits-") as folder,
        ):
            processes.check_picklable(of_one, evaluate)
            where = Path(folder) / "study.log" if storage is None else storage
            with opened(where) as kept:
                _prepare(kept, study, terms, job, resume=resume)
                order = Order(where, study, terms, of_one, evaluate, trials)
                interrupted = processes.carry_out(order, on_progress)
                return _result(load_study(kept, study), job, interrupted=interrupted)


def _check(space: Space, sampler: str, *, trials: int, workers: int, over_memory: bool) -> None:
    if trials < 1 or workers < 1:
        raise SearchError(f"expected at least one trial and one worker (got {trials} and {workers})")
    if sampler == "milp" and over_memory:
        raise SearchError(
            "the milp sampler measures each axis beside the widest choices, which are over the memory limit: "
            f"take one of {', '.join(name for name in SAMPLERS if name != sampler)}"
        )
    if sampler == "exhaustive" and trials < space.size:
        raise SearchError(
            f"the exhaustive sampler needs a trial for each of {space.size} assignments (got {trials}): "
            f"give more trials, or take one of {', '.join(name for name in SAMPLERS if name != sampler)}"
        )


def _prepare(
    storage: BaseStorage, name: str, terms: Terms, job: Work, *, resume: bool | None
) -> optuna.Study:
    """Make or join the study; one begins with the widest assignment, or with the only one worth a try."""
    first = first_of(job)
    study = join_study(storage, name, terms, resume=resume)
    retire(study)
    # Again on resuming, where the first one was interrupted or its worker died.
    if first not in taken_codes(job.space, study.get_trials(deepcopy=False)):
        study.enqueue_trial(parameters_of(job.space, first))
    return study


def _alone(
    storage: BaseStorage,
    name: str,
    terms: Terms,
    job: Work,
    *,
    resume: bool | None,
    on_progress: Callable[[int], None],
) -> bool:
    """Do all the work in this process; return whether Ctrl-C ended it."""
    study = _prepare(storage, name, terms, job, resume=resume)
    done = len(study.get_trials(deepcopy=False))
    study.sampler = make_sampler(
        terms.sampler, terms.space, job.memory, limits=terms.limits, seed=terms.seed, done=done
    )
    try:
        work(study, job, on_progress=on_progress, seed=terms.seed)
    except KeyboardInterrupt:
        return True
    return False


def _result(study: optuna.Study, job: Work, *, interrupted: bool) -> SearchResult:
    records = records_of(job.space, study.get_trials(deepcopy=False))
    whole = _whole(records)
    reference = reference_of(job.space, records)
    inside = [
        record
        for record in whole
        if job.limits.hold(accuracy=record.sure, memory=record.memory, reference=reference)
    ]
    nearest = _nearest(job.limits, records)
    return SearchResult(
        space=job.space,
        trials=records,
        front=_front(whole),
        best=best_of(inside, job.limits) if inside else _best_outside(job.limits, nearest),
        feasible=bool(inside),
        limits=job.limits,
        reference=reference,
        remark="" if inside else _remark(job, nearest, records, reference),
        interrupted=interrupted,
    )


def with_trials(result: SearchResult, added: Sequence[Trial]) -> SearchResult:
    """Return a result with trials that were measured after the search: among its trials, and on its front."""
    trials = (*result.trials, *added)
    return replace(result, trials=trials, front=_front(_whole(trials)))


def _whole(trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials that had their full budget."""
    return [trial for trial in trials if trial.state == "finished" and trial.accuracy is not None]


def _front(whole: Sequence[Trial]) -> tuple[Trial, ...]:
    memory = np.array([trial.memory for trial in whole])
    accuracy = np.array([trial.accuracy for trial in whole], dtype=float)
    return tuple(whole[index] for index in front_of(memory, accuracy))


def best_of(trials: Sequence[Trial], limits: Limits) -> Trial | None:
    """Return the trial of least memory where accuracy is limited, else the most accurate one; ties by the
    other."""
    if not trials:
        return None
    if limits.of_accuracy:
        return min(trials, key=lambda trial: (trial.memory, -(trial.sure or 0.0)))
    return min(trials, key=lambda trial: (-(trial.sure or 0.0), trial.memory))


def _nearest(limits: Limits, records: Sequence[Trial]) -> list[Trial]:
    """Return what comes nearest where nothing holds the limits: inside that of memory where anything is.

    Where all of those were given up early they are better than none.
    """
    known = [record for record in records if record.accuracy is not None]
    fitting = [record for record in known if _fits(limits, record)] or known
    return _whole(fitting) or fitting


def _best_outside(limits: Limits, nearest: Sequence[Trial]) -> Trial | None:
    """Return the most accurate of the nearest trials, or the smallest where none fits into memory."""
    fits = any(_fits(limits, trial) for trial in nearest)
    return best_of(nearest, Limits() if fits else Limits(accuracy=0.0))


def _fits(limits: Limits, trial: Trial) -> bool:
    return limits.memory is None or trial.memory <= limits.memory


def _remark(job: Work, nearest: Sequence[Trial], records: Sequence[Trial], reference: float | None) -> str:
    """Say why nothing holds the limits, and what the tightest ones are that something measured holds."""
    if not nearest:
        reasons = "; ".join(dict.fromkeys(record.reason for record in records if record.reason))
        return f"none of {len(records)} evaluations gave an accuracy" + (f": {reasons}" if reasons else "")
    limits = job.limits
    if limits.memory is not None and job.ends.certain and job.ends.least_bytes > limits.memory:
        return (
            f"the narrowest assignment needs {job.ends.least_bytes:.0f} bytes, over the limit of "
            f"{limits.memory:.0f}"
        )
    best = max(trial.sure or 0.0 for trial in nearest)
    if limits.accuracy_drop is not None and reference is None:
        widest = job.space.assignment(job.space.widest)
        reason = next((record.reason for record in records if record.assignment == widest), "")
        return (
            "accuracy_drop counts from the widest assignment, which has no accuracy: "
            f"{reason or 'it was not measured'}"
        )
    # Rounded to what the best one holds.
    tightest = f"accuracy >= {floor((best + ROUNDING) * 10_000) / 10_000:g}"
    if limits.accuracy_drop is not None and reference is not None:
        drop = max(0.0, reference - best - ROUNDING)
        tightest = f"accuracy_drop <= {ceil(drop * 10_000) / 10_000:g}"
    early = "" if any(trial.state == "finished" for trial in nearest) else " All were given up early."
    stopped = " It stops here: more bits do not help." if is_hopeless(job, records) else ""
    return (
        f"none of {len(records)} assignments holds {limits}; "
        f"the tightest limit that one holds is {tightest}.{early}{stopped}"
    )


def hypervolumes(result: SearchResult, memory: MemoryOf) -> tuple[tuple[int, float], ...]:
    """Return (evaluations, hypervolume) after each trial, in the frame of 10 points below the best reference.

    The frame reaches from the smallest to the largest assignment of the space.
    """
    ends = Ends.of(result.space, memory)
    top = (
        result.reference
        if result.reference is not None
        else max((t.accuracy or 0.0 for t in result.front), default=1.0)
    )
    frame = Frame.below(top, ends.least_bytes, ends.most_bytes)
    bytes_of: list[float] = []
    accuracy: list[float] = []
    curve = []
    for count, trial in enumerate(result.trials, start=1):
        if trial.state == "finished" and trial.accuracy is not None:
            bytes_of.append(trial.memory)
            accuracy.append(trial.accuracy)
        curve.append((count, hypervolume(np.array(bytes_of), np.array(accuracy), frame)))
    return tuple(curve)
