"""One worker of a search: ask for an assignment, evaluate it, tell the study, until enough are measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from sgq.bits.leases import held, is_retired, retire_dead
from sgq.bits.limits import Limits
from sgq.bits.proposals import MemoryOf
from sgq.bits.space import Assignment, Codes, Space
from sgq.bits.trials import (
    ACCURACY,
    BUDGET,
    CHANGED,
    COPY,
    ERROR,
    MEMORY,
    MOST_DEATHS,
    OVER_MEMORY,
    REASON,
    SECONDS,
    TRAINING,
    Evaluation,
    Trial,
    codes_of,
    is_accuracy,
    is_live,
    is_measured,
    parameters_of,
    records_of,
    suggest,
    taken_codes,
)

Evaluate = Callable[[Assignment], float | Evaluation]

HOPELESS_AFTER = 40
"""A search stops when so many trials, the widest assignment among them, are all outside the limits.

It goes on where the widest one is over the memory limit: between the two there may be something."""
COPIES_IN_A_ROW = 20
"""A sampler that proposes what is measured so often is given an unseen assignment instead."""
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
    copies = 0
    while not stopping():
        _retire(study, job)
        trials = study.get_trials(deepcopy=False)
        done = sum(map(is_measured, trials))
        on_progress(done)
        if is_over(job, trials, done):
            return
        running = sum(trial.state is TrialState.RUNNING for trial in trials)
        if done + running >= min(job.trials, job.space.size):
            time.sleep(WAIT_S)  # what runs elsewhere may still be given back
            continue
        if copies >= COPIES_IN_A_ROW and not any(trial.state is TrialState.WAITING for trial in trials):
            unseen = _unseen(job, trials, generator)
            if unseen is None and not running:
                return
            if unseen is None:
                time.sleep(WAIT_S)
                continue
            study.enqueue_trial(parameters_of(job.space, unseen))
        copies = 0 if _one_trial(study, job) else copies + 1


def first_of(job: Work) -> Codes:
    """Return what is measured first: the widest, or the narrowest where nothing holds the memory limit."""
    return job.space.narrowest if _is_too_small(job) else job.space.widest


def is_over_memory(job: Work, codes: Codes) -> bool:
    """Whether an assignment is over the memory limit."""
    return job.limits.memory is not None and float(job.memory(np.array([codes]))[0]) > job.limits.memory


def _is_too_small(job: Work) -> bool:
    """Whether even the narrowest assignment is over the memory limit."""
    return is_over_memory(job, job.space.narrowest)


def _retire(study: optuna.Study, job: Work) -> None:
    """Give back the trials of dead workers; the first assignment, which others may need, is queued again."""
    dead = retire_dead(study)
    if not dead:
        return
    first = first_of(job)
    retired = [trial for trial in study.get_trials(deepcopy=False) if is_retired(trial)]
    deaths = [trial.number for trial in retired if codes_of(job.space, trial) == first]
    if set(dead) & set(deaths) and len(deaths) < MOST_DEATHS:
        study.enqueue_trial(parameters_of(job.space, first))


def is_over(job: Work, trials: Sequence[FrozenTrial], done: int) -> bool:
    """Whether a search has nothing left to do: enough trials, all assignments, or no hope for the limits."""
    if done >= min(job.trials, job.space.size) or (done and _is_too_small(job)):
        return True
    if done < HOPELESS_AFTER and not _reference_failed(job, trials):
        return False
    records = records_of(job.space, trials)
    if job.limits == Limits():
        return all(record.accuracy is None for record in records)
    whole = [record for record in records if record.state == "finished"]
    reference = reference_of(job.space, records)
    if reference is None and job.limits.accuracy_drop is not None:
        return _reference_failed(job, trials)
    if whole and is_over_memory(job, job.space.widest):
        return False  # it is not accuracy alone that rules out more bits
    return not any(
        job.limits.hold(accuracy=record.sure, memory=record.memory, reference=reference) for record in whole
    )


def reference_of(space: Space, records: Sequence[Trial]) -> float | None:
    """Return the accuracy of the widest assignment; None while it is not measured."""
    widest = space.assignment(space.widest)
    return next((record.accuracy for record in records if record.assignment == widest), None)


def _reference_failed(job: Work, trials: Sequence[FrozenTrial]) -> bool:
    """Whether the drop is limited, but the assignment that it is counted from failed."""
    return job.limits.accuracy_drop is not None and any(
        trial.state is TrialState.FAIL
        and is_measured(trial)
        and codes_of(job.space, trial) == job.space.widest
        for trial in trials
    )


def _one_trial(study: optuna.Study, job: Work) -> bool:
    """Ask, evaluate and tell once; return False where the assignment is measured already, or over a limit."""
    trial = study.ask()
    storage, number = study._storage, trial._trial_id
    try:
        with held(storage, number):
            suggest(trial, job.space)
            known = _with_rivals(study, job, trial.number)
            own = next(other for other in known if other.number == trial.number)
            codes = codes_of(job.space, own)
            assert codes is not None
            twin = _twin(job.space, known, codes, trial.number)
            if twin is not None:
                _tell_copy(study, trial, twin)
                return False
            memory = float(job.memory(np.array([codes]))[0])
            trial.set_user_attr(MEMORY, memory)
            if job.limits.memory is not None and memory > job.limits.memory and codes != _needed(job):
                trial.set_user_attr(COPY, OVER_MEMORY)
                study.tell(trial, state=TrialState.FAIL)
                return False
            if _place(known, trial.number) > job.trials:
                trial.set_user_attr(COPY, "enough trials")
                study.tell(trial, state=TrialState.FAIL)
                return False
            _evaluate(study, job, trial, codes, known)
            return True
    except UpdateFinishedTrialError:
        return False  # retired meanwhile, by another machine that took this worker for dead
    except BaseException:
        # Not finished, or a later search in this process would wait for it. Already finished: it stays so.
        with suppress(Exception):
            trial.set_user_attr(COPY, "interrupted")
            study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
        raise


def _needed(job: Work) -> Codes | None:
    """Return the assignment that is measured although it is over the memory limit."""
    if _is_too_small(job):
        return job.space.narrowest
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


def _evaluate(
    study: optuna.Study, job: Work, trial: optuna.Trial, codes: Codes, known: Sequence[FrozenTrial]
) -> None:
    memory = trial.user_attrs[MEMORY]
    began = time.perf_counter()
    reason, found = "", Evaluation(float("nan"))
    try:
        value = job.evaluate(job.space.assignment(codes))
        found = value if isinstance(value, Evaluation) else Evaluation(value)
        if not is_accuracy(found.accuracy):
            reason = f"expected an accuracy from 0 to 1 (got {found.accuracy!r})"
        elif not is_accuracy(found.budget):
            reason = f"expected a budget from 0 to 1 (got {found.budget!r})"
        elif not is_accuracy(found.error):
            reason = f"expected a standard error from 0 to 1 (got {found.error!r})"
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
        if found.error:
            trial.set_user_attr(ACCURACY, float(found.accuracy))
            trial.set_user_attr(ERROR, float(found.error))
        if found.changed:
            trial.set_user_attr(CHANGED, found.changed)
        if found.training is not None:
            trial.set_user_attr(TRAINING, found.training)
        sure = float(found.accuracy) - float(found.error)
        least = job.limits.least_accuracy(_reference_for(job, codes, found, known))
        if least is not None:
            trial.set_constraint("accuracy", least - sure)
        study.tell(trial, (sure, memory))
    except UpdateFinishedTrialError:
        pass  # retired meanwhile


def _reference_for(job: Work, codes: Codes, found: Evaluation, known: Sequence[FrozenTrial]) -> float | None:
    """Return the accuracy that a drop counts from; None where no drop is limited, or it is not known yet."""
    if job.limits.accuracy_drop is None:
        return None
    return (
        found.accuracy if codes == job.space.widest else reference_of(job.space, records_of(job.space, known))
    )


def _twin(space: Space, trials: Sequence[FrozenTrial], codes: Codes, number: int) -> FrozenTrial | None:
    """Return an earlier trial with the same codes: measured, or running or queued before this one."""
    for other in trials:
        if other.number == number or codes_of(space, other) != codes:
            continue
        if is_measured(other) or (is_live(other) and other.number < number):
            return other
    return None


def _tell_copy(study: optuna.Study, trial: optuna.Trial, twin: FrozenTrial) -> None:
    """Give the sampler the known result again, where there is one, without counting it."""
    trial.set_user_attr(COPY, twin.number)
    if twin.state is TrialState.COMPLETE:
        for name in (BUDGET, ACCURACY, ERROR, CHANGED, TRAINING):
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


def _unseen(job: Work, trials: Sequence[FrozenTrial], generator: np.random.Generator) -> Codes | None:
    """Return a random assignment inside the memory limit that is not taken; None where none can be found."""
    taken = taken_codes(job.space, trials)
    listed = job.space.size <= LISTED
    for _ in range(1 if listed else DRAWS):
        pool = np.array(list(job.space.every())) if listed else _drawn(job.space, taken, generator)
        if job.limits.memory is not None:
            pool = pool[job.memory(pool) <= job.limits.memory]
        free = [codes for codes in map(tuple, pool.tolist()) if codes not in taken]
        if free:
            return free[int(generator.integers(len(free)))]
    return None


def _drawn(space: Space, taken: Collection[Codes], generator: np.random.Generator) -> np.ndarray:
    """Return random assignments of every mean width, and neighbours of those that are taken."""
    counts = np.array(space.counts)
    shares = np.broadcast_to(generator.random((DRAWN, 1)), (DRAWN, len(counts)))
    mixed = generator.binomial(counts - 1, shares)
    known = np.array(sorted({space.narrowest, *taken}))
    near = known[generator.integers(len(known), size=DRAWN)]
    axis = generator.integers(len(counts), size=DRAWN)
    near[np.arange(DRAWN), axis] = generator.integers(counts[axis])
    return np.concatenate((mixed, near))
