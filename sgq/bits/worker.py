"""One worker of a search: ask for an assignment, evaluate it, tell the study, until enough are measured."""

from __future__ import annotations

import operator
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from functools import cached_property

import numpy as np
import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from sgq.bits.ends import Ends
from sgq.bits.leases import held, is_retired
from sgq.bits.ledger import Ledger
from sgq.bits.limits import Limits
from sgq.bits.proposals import MemoryOf
from sgq.bits.space import Assignment, Codes, Space
from sgq.bits.trials import (
    ACCURACY,
    BUDGET,
    CHANGED,
    COPY,
    ERROR,
    FLIPPED,
    MEMORY,
    OVER_MEMORY,
    REASON,
    SECONDS,
    TRAINING,
    Evaluation,
    Trial,
    codes_of,
    fault_of,
    is_live,
    is_measured,
    parameters_of,
    retire,
    suggest,
)

Evaluate = Callable[[Assignment], float | Evaluation]

HOPELESS_AFTER = 40
"""After so many trials outside the limits a search may be hopeless; see `is_hopeless`."""
COPIES_IN_A_ROW = 20
"""A sampler that proposes what is measured so often is given an unseen assignment instead."""
OVER_MEMORY_IN_A_ROW = 3
"""One that proposes so often what is over the memory limit may not know of it, and is given one sooner."""
WAIT_S = 0.2
RIVAL_WAIT_S = 0.02
LISTED = 4096
"""In a space of no more assignments the unseen ones are listed; in a larger one they are drawn."""
DRAWN, DRAWS = 1000, 10


@dataclass(frozen=True)
class Work:
    """What all workers of a search share."""

    space: Space
    evaluate: Evaluate
    memory: MemoryOf
    limits: Limits
    trials: int

    @cached_property
    def ends(self) -> Ends:
        """The ends of the space."""
        return Ends.of(self.space, self.memory)


def work(
    study: optuna.Study,
    job: Work,
    *,
    stopping: Callable[[], bool] = lambda: False,
    on_progress: Callable[[int], None] = lambda done: None,
    seed: int = 0,
) -> None:
    """Evaluate assignments until `job.trials` are measured, none is left, none can hold the limits, or
    `stopping`.

    An evaluation that raises or returns no accuracy fails its trial, with the reason, and the search goes on.
    KeyboardInterrupt ends the work; the trial that it struck is given back. `on_progress` is told how many
    are measured.
    """
    generator = np.random.default_rng((seed, 1))
    ledger = Ledger(job.space)
    misses, too_large = 0, 0
    while not stopping():
        _retire(study, job)
        trials = study.get_trials(deepcopy=False)
        ledger.read(trials)
        records = ledger.records
        done = len(records)
        on_progress(done)
        if is_over(job, records):
            return
        running = sum(trial.state is TrialState.RUNNING for trial in trials)
        if done + running >= min(job.trials, job.space.size):
            time.sleep(WAIT_S)  # what runs elsewhere may still be given back
            continue
        stuck = misses >= COPIES_IN_A_ROW
        waiting = any(trial.state is TrialState.WAITING for trial in trials)
        if (stuck or too_large >= OVER_MEMORY_IN_A_ROW) and not waiting:
            unseen = _unseen(job, ledger.taken, generator)
            if unseen is not None:
                study.enqueue_trial(parameters_of(job.space, unseen))
            elif stuck and not running:
                return
            elif stuck:
                time.sleep(WAIT_S)
                continue
            too_large = 0
        way = _one_trial(study, job, ledger)
        misses = 0 if way is Way.MEASURED else misses + 1
        too_large = 0 if way is Way.MEASURED else too_large + (way is Way.TOO_LARGE)


class Way(Enum):
    """What became of a trial: over the memory limit, or without need of an evaluation for another reason."""

    MEASURED = auto()
    TOO_LARGE = auto()
    NOT_NEEDED = auto()


def first_of(job: Work) -> Codes:
    """Return what is measured first: the widest, or the smallest where nothing holds the memory limit."""
    return job.ends.smallest if _is_too_small(job) else job.space.widest


def is_over_memory(job: Work, codes: Codes) -> bool:
    """Whether an assignment is over the memory limit."""
    return job.limits.memory is not None and float(job.memory(np.array([codes]))[0]) > job.limits.memory


def _is_too_small(job: Work) -> bool:
    """Whether even the smallest assignment is over the memory limit."""
    limit = job.limits.memory
    return limit is not None and job.ends.certain and job.ends.least_bytes > limit


def _retire(study: optuna.Study, job: Work) -> None:
    """Give back the trials of dead workers; the first assignment, which others may need, is queued again."""
    dead = retire(study)
    if not dead:
        return
    first = first_of(job)
    retired = [trial for trial in study.get_trials(deepcopy=False) if is_retired(trial)]
    if any(trial.number in dead and codes_of(job.space, trial) == first for trial in retired):
        study.enqueue_trial(parameters_of(job.space, first))


def is_over(job: Work, records: Sequence[Trial]) -> bool:
    """Whether a search has nothing left to do: enough trials, all assignments, or no hope for the limits."""
    if len(records) >= min(job.trials, job.space.size) or (records and _is_too_small(job)):
        return True
    return _reference_failed(job, records) or is_hopeless(job, records)


def is_hopeless(job: Work, records: Sequence[Trial]) -> bool:
    """Whether many trials are all outside the limits, the widest assignment among them, or all failed.

    Where the widest one, with any of its texts, has no accuracy, or is over the memory limit, something else
    may still hold them.
    """
    if len(records) < HOPELESS_AFTER:
        return False
    if all(record.accuracy is None for record in records):
        return True
    if job.limits == Limits() or is_over_memory(job, job.space.widest):
        return False
    reference = reference_of(job.space, records)
    if any(
        record.state == "finished"
        and job.limits.hold(accuracy=record.sure, memory=record.memory, reference=reference)
        for record in records
    ):
        return False
    known = {job.space.codes(record.assignment) for record in records if record.accuracy is not None}
    return all(codes in known for codes in job.space.beside_texts(job.space.widest))


def reference_of(space: Space, records: Sequence[Trial]) -> float | None:
    """Return the accuracy of the widest assignment; None while it is not measured."""
    widest = space.assignment(space.widest)
    return next((record.accuracy for record in records if record.assignment == widest), None)


def _reference_failed(job: Work, records: Sequence[Trial]) -> bool:
    """Whether the drop is limited, but the assignment that it is counted from failed."""
    if job.limits.accuracy_drop is None:
        return False
    widest = job.space.assignment(job.space.widest)
    return any(record.state == "failed" and record.assignment == widest for record in records)


def _one_trial(study: optuna.Study, job: Work, ledger: Ledger) -> Way:
    """Ask, evaluate and tell once, unless the assignment is measured already or over a limit."""
    trial = study.ask()
    storage, number = study._storage, trial._trial_id
    try:
        with held(storage, number):
            suggest(trial, job.space)
            known = _with_rivals(study, job, trial.number)
            own = next(other for other in known if other.number == trial.number)
            codes = codes_of(job.space, own)
            assert codes is not None
            ledger.read(known)
            twin = ledger.twin(codes, trial.number)
            if twin is not None:
                _tell_copy(study, trial, twin)
                return Way.NOT_NEEDED
            memory = float(job.memory(np.array([codes]))[0])
            trial.set_user_attr(MEMORY, memory)
            if job.limits.memory is not None and memory > job.limits.memory and codes != _needed(job):
                trial.set_user_attr(COPY, OVER_MEMORY)
                study.tell(trial, state=TrialState.FAIL)
                return Way.TOO_LARGE
            if _place(known, trial.number) > job.trials:
                trial.set_user_attr(COPY, "enough trials")
                study.tell(trial, state=TrialState.FAIL)
                return Way.NOT_NEEDED
            _evaluate(study, job, trial, codes, ledger)
            return Way.MEASURED
    except UpdateFinishedTrialError:
        return Way.NOT_NEEDED  # retired meanwhile, by another machine that took this worker for dead
    except BaseException:
        # Not finished, or a later search in this process would wait for it. Already finished: it stays so.
        with suppress(Exception):
            trial.set_user_attr(COPY, "interrupted")
            study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
        raise


def _needed(job: Work) -> Codes | None:
    """Return the assignment that is measured although it is over the memory limit."""
    if _is_too_small(job):
        return job.ends.smallest
    return job.space.widest if job.limits.accuracy_drop is not None else None


def _with_rivals(study: optuna.Study, job: Work, number: int) -> list[FrozenTrial]:
    """Return all trials, once those that were asked for before this one have their assignments.

    Of two workers that draw the same assignment at once the earlier one keeps it: the later one must see it.
    """
    while True:
        known = study.get_trials(deepcopy=False)
        earlier = (other for other in known if other.number < number and other.state is TrialState.RUNNING)
        if all(codes_of(job.space, other) is not None for other in earlier):
            return known
        _retire(study, job)
        time.sleep(RIVAL_WAIT_S)


def _evaluate(study: optuna.Study, job: Work, trial: optuna.Trial, codes: Codes, ledger: Ledger) -> None:
    memory = trial.user_attrs[MEMORY]
    began = time.perf_counter()
    reason, found = "", Evaluation(float("nan"))
    try:
        value = job.evaluate(job.space.assignment(codes))
        found = value if isinstance(value, Evaluation) else Evaluation(value)
        reason = fault_of(found)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
    try:
        trial.set_user_attr(SECONDS, round(time.perf_counter() - began, 3))
        if reason:
            trial.set_user_attr(REASON, reason)
            study.tell(trial, state=TrialState.FAIL)
            return
        if found.budget < 1.0:
            trial.set_user_attr(BUDGET, float(found.budget))
        margin = float(found.error if found.margin is None else found.margin)
        if found.error or margin:
            trial.set_user_attr(ACCURACY, float(found.accuracy))
            trial.set_user_attr(ERROR, float(found.error))
        if found.changed:
            trial.set_user_attr(CHANGED, found.changed)
        if found.training is not None:
            trial.set_user_attr(TRAINING, operator.index(found.training))
        if found.flipped is not None:
            trial.set_user_attr(FLIPPED, float(found.flipped))
        sure = float(found.accuracy) - margin
        least = job.limits.least_accuracy(_reference_for(job, codes, found, ledger))
        if least is not None:
            trial.set_constraint("accuracy", least - sure)
        study.tell(trial, (sure, memory))
    except UpdateFinishedTrialError:
        pass  # retired meanwhile


def _reference_for(job: Work, codes: Codes, found: Evaluation, ledger: Ledger) -> float | None:
    """Return the accuracy that a drop counts from; None where no drop is limited, or it is not known yet."""
    if job.limits.accuracy_drop is None:
        return None
    return found.accuracy if codes == job.space.widest else reference_of(job.space, ledger.records)


def _tell_copy(study: optuna.Study, trial: optuna.Trial, twin: FrozenTrial) -> None:
    """Give the sampler the known result again, where there is one, without counting it."""
    trial.set_user_attr(COPY, twin.number)
    if twin.state is TrialState.COMPLETE:
        for name in (BUDGET, ACCURACY, ERROR, CHANGED, TRAINING, FLIPPED):
            if name in twin.user_attrs:
                trial.set_user_attr(name, twin.user_attrs[name])
        for name, value in twin.constraints.items():
            trial.set_constraint(name, value)
        study.tell(trial, twin.values)
    else:
        study.tell(trial, state=TrialState.FAIL)


def _place(trials: Sequence[FrozenTrial], number: int) -> int:
    """Return the how-manieth of the trials that count this one is: two workers may have seen one left."""
    return 1 + sum(
        other.number < number and (is_measured(other) or (is_live(other) and COPY not in other.user_attrs))
        for other in trials
    )


def _unseen(job: Work, taken: Collection[Codes], generator: np.random.Generator) -> Codes | None:
    """Return a random assignment inside the memory limit that is not taken; None where none can be found."""
    listed = job.space.size <= LISTED
    for _ in range(1 if listed else DRAWS):
        pool = np.array(list(job.space.every())) if listed else _drawn(job, taken, generator)
        if job.limits.memory is not None:
            pool = pool[job.memory(pool) <= job.limits.memory]
        free = [codes for codes in map(tuple, pool.tolist()) if codes not in taken]
        if free:
            return free[int(generator.integers(len(free)))]
    return None


def _drawn(job: Work, taken: Collection[Codes], generator: np.random.Generator) -> np.ndarray:
    """Return random assignments of every mean width, and neighbours of those that are taken."""
    counts = np.array(job.space.counts)
    shares = np.broadcast_to(generator.random((DRAWN, 1)), (DRAWN, len(counts)))
    mixed = generator.binomial(counts - 1, shares)
    known = np.array(sorted({job.ends.smallest, *taken}))
    near = known[generator.integers(len(known), size=DRAWN)]
    axis = generator.integers(len(counts), size=DRAWN)
    near[np.arange(DRAWN), axis] = generator.integers(counts[axis])
    return np.concatenate((mixed, near))
