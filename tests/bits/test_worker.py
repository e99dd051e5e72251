"""One worker: what it counts, what it gives back, when it stops, and how two of them share a study."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import optuna
import pytest
from optuna.samplers import BaseSampler, RandomSampler
from optuna.testing.pytest_samplers import FixedSampler
from optuna.trial import TrialState

from sgq.bits import Evaluation, Limits, Space
from sgq.bits.space import Assignment, Codes
from sgq.bits.studies import QuietOptuna
from sgq.bits.trials import (
    COPY,
    MEMORY,
    OVER_MEMORY,
    REASON,
    distributions,
    is_measured,
    parameters_of,
    records_of,
)
from sgq.bits.worker import (
    COPIES_IN_A_ROW,
    HOPELESS_AFTER,
    LISTED,
    OVER_MEMORY_IN_A_ROW,
    Evaluate,
    Work,
    first_of,
    is_over,
    reference_of,
    work,
)
from tests.bits.tables import BEST, SPACE, TOP, accuracy, add, memory, memory_of, new_study

EVERY = list(SPACE.every())


def job_of(evaluate: Evaluate = accuracy, trials: int = 5, **limits: float) -> Work:
    return Work(SPACE, evaluate, memory_of, Limits(**limits), trials)


def stuck(codes: Codes, space: Space = SPACE) -> BaseSampler:
    """Return a sampler that proposes one assignment for ever."""
    return FixedSampler(distributions(space), parameters_of(space, codes), None)


def worked(job: Work, *, queue: tuple[Codes, ...] = (), sampler: BaseSampler | None = None) -> optuna.Study:
    study = new_study(sampler or RandomSampler(seed=0))
    for codes in queue:
        study.enqueue_trial(parameters_of(SPACE, codes))
    with QuietOptuna():
        work(study, job)
    return study


def ways(study: optuna.Study) -> list[tuple[str, Any]]:
    """Return how each trial ended: its state, and why it does not count."""
    return [(trial.state.name, trial.user_attrs.get(COPY)) for trial in study.get_trials()]


# What an evaluation may give.


def test_trials_are_measured_until_there_are_enough_and_progress_is_told() -> None:
    study, told = new_study(RandomSampler(seed=0)), []
    work(study, job_of(trials=4), on_progress=told.append)
    assert told == sorted(told)
    assert (told[0], told[-1]) == (0, 4)
    records = records_of(SPACE, study.get_trials())
    assert [record.accuracy for record in records] == [accuracy(record.assignment) for record in records]
    assert len(records) == 4


@pytest.mark.parametrize("value", [0, 1.0, np.float32(0.5), np.float64(0.25), Evaluation(0.5)])
def test_any_number_from_0_to_1_is_taken(value: Any) -> None:
    (record,) = records_of(SPACE, worked(job_of(lambda _: value, 1)).get_trials())
    wanted = value.accuracy if isinstance(value, Evaluation) else float(value)
    assert (record.state, record.accuracy) == ("finished", wanted)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (math.nan, "expected an accuracy from 0 to 1 (got nan)"),
        (math.inf, "expected an accuracy from 0 to 1 (got inf)"),
        (88.2, "expected an accuracy from 0 to 1 (got 88.2)"),
        (-0.1, "expected an accuracy from 0 to 1 (got -0.1)"),
        (None, "expected an accuracy from 0 to 1 (got None)"),
        (True, "expected an accuracy from 0 to 1 (got True)"),
        ("0.5", "expected an accuracy from 0 to 1 (got '0.5')"),
        (Evaluation(0.5, 1.5), "expected a budget from 0 to 1 (got 1.5)"),
        (Evaluation(0.5, 1.0, math.nan), "expected a standard error from 0 to 1 (got nan)"),
        (Evaluation(math.nan, 0.5), "expected an accuracy from 0 to 1 (got nan)"),
        (Evaluation(0.5, changed=cast(Any, b"x")), "expected changed rows as a text (got b'x')"),
        (Evaluation(0.5, training=-5), "expected the number of a training from 0 to 999 (got -5)"),
        (Evaluation(0.5, training=2**31), f"expected the number of a training from 0 to 999 (got {2**31})"),
        (
            Evaluation(0.5, training=cast(Any, 1.0)),
            "expected the number of a training from 0 to 999 (got 1.0)",
        ),
    ],
)
def test_anything_else_fails_its_trial_with_the_reason(value: Any, reason: str) -> None:
    def evaluate(assignment: Assignment) -> Any:
        return value if assignment["weight"] == 8 else accuracy(assignment)

    study = worked(job_of(evaluate, 2), queue=((2, 0, 0, 0), (0, 0, 0, 0)))
    failed, finished = records_of(SPACE, study.get_trials())
    assert (failed.state, failed.accuracy, failed.reason) == ("failed", None, reason)
    assert failed.memory == memory(failed.assignment)
    assert finished.state == "finished"


@pytest.mark.parametrize("training", [None, 0, 3, np.int64(3)])
def test_the_training_may_be_any_integer_from_0(training: Any) -> None:
    (record,) = records_of(
        SPACE, worked(job_of(lambda _: Evaluation(0.5, training=training), 1)).get_trials()
    )
    assert (record.state, record.training) == ("finished", training)
    assert not isinstance(record.training, np.integer)  # a journal keeps Python's own integers alone


def test_an_evaluation_of_less_budget_counts_as_stopped() -> None:
    (record,) = records_of(SPACE, worked(job_of(lambda _: Evaluation(0.1, 0.05), 1)).get_trials())
    assert (record.state, record.budget, record.accuracy) == ("stopped", 0.05, 0.1)


def test_what_ctrl_c_struck_is_given_back_and_measured_later() -> None:
    seen: list[Codes] = []

    def interrupted_once(assignment: Assignment) -> float:
        seen.append(SPACE.codes(assignment))
        if len(seen) == 2:
            raise KeyboardInterrupt
        return accuracy(assignment)

    study = new_study(RandomSampler(seed=0))
    for codes in EVERY[:2]:
        study.enqueue_trial(parameters_of(SPACE, codes))
    with pytest.raises(KeyboardInterrupt):
        work(study, job_of(interrupted_once, 2))
    assert ways(study) == [("COMPLETE", None), ("FAIL", "interrupted")]
    study.enqueue_trial(parameters_of(SPACE, EVERY[1]))
    work(study, job_of(interrupted_once, 2))
    assert seen == [EVERY[0], EVERY[1], EVERY[1]]
    assert sum(map(is_measured, study.get_trials())) == 2


def test_a_trial_that_was_retired_while_it_was_measured_does_not_count_and_ends_nothing() -> None:
    study = new_study(RandomSampler(seed=0))
    seen: list[Assignment] = []

    def evaluate(assignment: Assignment) -> float:
        seen.append(assignment)
        if len(seen) == 1:
            trial = study.get_trials()[-1]
            study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
        return accuracy(assignment)

    work(study, job_of(evaluate, 3))
    assert len(seen) == 4
    assert sum(map(is_measured, study.get_trials())) == 3


def test_a_worker_that_is_asked_to_stop_stops_before_the_next_trial() -> None:
    study, measured = new_study(RandomSampler(seed=0)), []

    def evaluate(assignment: Assignment) -> float:
        measured.append(assignment)
        return accuracy(assignment)

    work(study, job_of(evaluate, 10), stopping=lambda: len(measured) == 3)
    assert len(measured) == 3


# What does not count.


def test_an_assignment_that_is_proposed_again_gets_the_known_result_and_does_not_count() -> None:
    study = worked(job_of(trials=2), queue=(EVERY[0], EVERY[0], EVERY[1]))
    assert ways(study) == [("COMPLETE", None), ("COMPLETE", 0), ("COMPLETE", None)]
    first, again, _ = study.get_trials()
    assert first.values == again.values


def test_a_failed_assignment_that_is_proposed_again_fails_again_without_counting() -> None:
    study = worked(job_of(lambda _: math.nan, 2), queue=(EVERY[0], EVERY[0], EVERY[1]))
    assert ways(study) == [("FAIL", None), ("FAIL", 0), ("FAIL", None)]
    assert REASON not in study.get_trials()[1].user_attrs


def test_what_is_over_the_memory_limit_is_not_evaluated() -> None:
    evaluated: list[Assignment] = []

    def evaluate(assignment: Assignment) -> float:
        evaluated.append(assignment)
        return accuracy(assignment)

    study = worked(job_of(evaluate, 1, memory=20.0), queue=(EVERY[1], EVERY[0]))
    assert ways(study) == [("FAIL", OVER_MEMORY), ("COMPLETE", None)]
    assert evaluated == [SPACE.assignment(SPACE.narrowest)]


def test_the_widest_is_measured_where_the_drop_counts_from_it_also_over_the_memory_limit() -> None:
    study = worked(job_of(trials=2, memory=60.0, accuracy_drop=0.1), queue=(SPACE.widest, EVERY[-2]))
    assert ways(study)[:2] == [("COMPLETE", None), ("FAIL", OVER_MEMORY)]


def test_a_sampler_that_repeats_itself_is_given_unseen_assignments() -> None:
    study = worked(job_of(trials=4), sampler=stuck(EVERY[5]))
    records = records_of(SPACE, study.get_trials())
    assert len({SPACE.codes(record.assignment) for record in records}) == len(records) == 4
    copies = sum(trial.user_attrs.get(COPY) == 0 for trial in study.get_trials())
    assert copies == 3 * COPIES_IN_A_ROW


def test_in_a_large_space_unseen_assignments_are_drawn_inside_the_memory_limit() -> None:
    space = Space.of({f"layer {number}": (1, 2, 4, 8, 16) for number in range(8)})
    assert space.size > LISTED

    def bits(codes: np.ndarray) -> np.ndarray:
        return (2.0**codes).sum(axis=1)

    study = new_study(stuck(space.narrowest, space))
    with QuietOptuna():
        work(study, Work(space, lambda _: 0.5, bits, Limits(memory=12.0), 6))
    records = records_of(space, study.get_trials())
    assert len({space.codes(record.assignment) for record in records}) == 6
    assert all(record.memory <= 12.0 for record in records)


def test_a_sampler_that_does_not_know_the_memory_limit_leaves_few_trials_behind() -> None:
    space = Space.of({f"layer {number}": (1, 2, 4, 8, 16) for number in range(8)})

    def bits(codes: np.ndarray) -> np.ndarray:
        return (2.0**codes).sum(axis=1)

    study = new_study(RandomSampler(seed=0))
    with QuietOptuna():
        work(study, Work(space, lambda _: 0.5, bits, Limits(memory=20.0), 30))
    assert len(records_of(space, study.get_trials())) == 30
    assert len(study.get_trials()) <= 30 * (OVER_MEMORY_IN_A_ROW + 1)


def test_where_nothing_is_left_inside_the_memory_limit_the_work_ends() -> None:
    study = worked(job_of(trials=50, memory=24.0))
    inside = [codes for codes in EVERY if memory(SPACE.assignment(codes)) <= 24.0]
    assert 1 < len(inside) < 10
    assert sum(map(is_measured, study.get_trials())) == len(inside)


# When it is over.


@pytest.mark.parametrize(
    ("limit", "first"), [(None, SPACE.widest), (20.0, SPACE.widest), (19.0, SPACE.narrowest)]
)
def test_the_widest_comes_first_unless_nothing_holds_the_memory_limit(
    limit: float | None, first: Codes
) -> None:
    job = Work(SPACE, accuracy, memory_of, Limits(memory=limit), 50)
    assert first_of(job) == first


def test_where_nothing_holds_the_memory_limit_one_trial_is_enough() -> None:
    study = worked(job_of(trials=50, memory=19.0), queue=(SPACE.narrowest,))
    assert ways(study) == [("COMPLETE", None)]


def test_a_limit_that_nothing_holds_ends_the_work_after_some_trials() -> None:
    study = worked(job_of(trials=81, accuracy=0.95), queue=(SPACE.widest,))
    assert sum(map(is_measured, study.get_trials())) == HOPELESS_AFTER


def test_a_limit_that_a_late_assignment_holds_is_not_given_up() -> None:
    # The narrowest 40 are measured first; the smallest one inside both limits comes after them.
    job = job_of(trials=81, accuracy=TOP - 0.005, memory=79.0)
    best = SPACE.codes(BEST)
    assert EVERY.index(best) >= HOPELESS_AFTER
    study = worked(job, queue=tuple(EVERY))
    assert best in {SPACE.codes(record.assignment) for record in records_of(SPACE, study.get_trials())}


def test_a_drop_from_a_widest_assignment_that_failed_cannot_be_held() -> None:
    def evaluate(assignment: Assignment) -> float:
        raise MemoryError("too wide")

    study = worked(job_of(evaluate, 50, accuracy_drop=0.1), queue=(SPACE.widest,))
    assert [trial.user_attrs[REASON] for trial in study.get_trials()] == ["MemoryError: too wide"]


def test_work_that_is_over_is_told_from_the_trials_alone() -> None:
    study = new_study()
    add(study, SPACE.widest)
    add(study, EVERY[0], TrialState.FAIL, **{REASON: "broken", MEMORY: 1.0})
    records = records_of(SPACE, study.get_trials())
    assert is_over(job_of(trials=2), records)
    assert not is_over(job_of(trials=3), records)
    assert reference_of(SPACE, records) == TOP
    assert reference_of(SPACE, records[1:]) is None


# Two of them.


def together(study: optuna.Study, job: Work, samplers: tuple[BaseSampler, ...]) -> None:
    """Work on one study in a thread for each sampler."""

    def begin(sampler: BaseSampler) -> None:
        try:
            work(optuna.load_study(study_name=study.study_name, storage=study._storage, sampler=sampler), job)
        except BaseException as error:
            errors.append(error)

    errors: list[BaseException] = []
    threads = [threading.Thread(target=begin, args=(sampler,)) for sampler in samplers]
    with QuietOptuna():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert errors == []


@pytest.mark.parametrize(
    "sampler", [lambda: RandomSampler(seed=3), lambda: stuck(EVERY[7])], ids=["equal", "stuck"]
)
def test_workers_that_draw_the_same_measure_nothing_twice_and_not_too_much(
    sampler: Callable[[], BaseSampler],
) -> None:
    study, evaluated, lock = new_study(), [], threading.Lock()

    def evaluate(assignment: Assignment) -> float:
        with lock:
            evaluated.append(SPACE.codes(assignment))
        return accuracy(assignment)

    together(study, job_of(evaluate, 12), (sampler(), sampler(), sampler()))
    assert len(evaluated) == len(set(evaluated)) == 12
    assert sum(map(is_measured, study.get_trials())) == 12


def test_a_worker_waits_for_what_runs_elsewhere_and_takes_it_up_when_it_is_given_back() -> None:
    study = new_study(RandomSampler(seed=0))
    elsewhere = study.ask()  # without assignment yet, as if another worker were about to draw it
    finished = threading.Event()
    worker = threading.Thread(target=lambda: (work(study, job_of(trials=2)), finished.set()))
    worker.start()
    assert not finished.wait(0.3)
    study.tell(elsewhere, state=TrialState.FAIL)
    worker.join()
    assert sum(map(is_measured, study.get_trials())) == 2
