"""Trials of Optuna and the records that are made of them: which count, which are taken, what they say."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from sgq.bits import Space
from sgq.bits.leases import UNLEASED_S
from sgq.bits.trials import (
    ACCURACY,
    BUDGET,
    COPY,
    DIED_TWICE,
    ERROR,
    MEMORY,
    MOST_DEATHS,
    OVER_MEMORY,
    REASON,
    SECONDS,
    Trial,
    codes_of,
    distributions,
    is_accuracy,
    is_live,
    is_measured,
    parameters_of,
    record_of,
    records_of,
    retire,
    suggest,
    taken_codes,
)
from tests.bits.tables import SPACE, accuracy, add, memory, new_study

MIXED = Space.of({"method": ("lsq", "affine"), "weight": (2, 4, 8)})
CODES = (0, 1, 2, 1)


def only(state: TrialState = TrialState.COMPLETE, **user_attrs: object) -> FrozenTrial:
    study = new_study()
    add(study, CODES, state, **user_attrs)
    (trial,) = study.get_trials()
    return trial


def test_bits_are_suggested_as_codes_and_methods_by_their_names() -> None:
    assert distributions(MIXED) == {
        "method": CategoricalDistribution(("lsq", "affine")),
        "weight": IntDistribution(0, 2),
    }
    study = new_study()
    study.enqueue_trial(parameters_of(MIXED, (1, 2)))
    trial = study.ask()
    suggest(trial, MIXED)
    assert trial.params == {"method": "affine", "weight": 2}


@pytest.mark.parametrize("codes", list(MIXED.every()))
def test_codes_survive_the_way_through_a_trial(codes: tuple[int, ...]) -> None:
    study = new_study()
    study.enqueue_trial(parameters_of(MIXED, np.array(codes)))
    assert codes_of(MIXED, study.get_trials()[0]) == codes  # queued
    trial = study.ask()
    suggest(trial, MIXED)
    assert codes_of(MIXED, study.get_trials()[0]) == codes  # running


def test_a_trial_that_lacks_an_axis_has_no_codes() -> None:
    study = new_study()
    trial = study.ask()
    trial.suggest_int("weight", 0, 2)
    assert codes_of(MIXED, study.get_trials()[0]) is None
    assert record_of(MIXED, study.get_trials()[0]) is None


def test_a_finished_trial_is_recorded_as_it_was_measured() -> None:
    assignment = SPACE.assignment(CODES)
    assert record_of(SPACE, only(**{SECONDS: 1.5})) == Trial(
        number=0,
        assignment=assignment,
        memory=memory(assignment),
        accuracy=accuracy(assignment),
        state="finished",
        seconds=1.5,
    )


def test_a_trial_of_less_budget_was_stopped() -> None:
    found = record_of(SPACE, only(**{BUDGET: 0.25}))
    assert found is not None
    assert (found.state, found.budget, found.accuracy) == (
        "stopped",
        0.25,
        accuracy(SPACE.assignment(CODES)),
    )


def test_a_trial_whose_worker_died_before_it_told_is_no_measured_one() -> None:
    attributes = {REASON: DIED_TWICE, MEMORY: 17.0, ACCURACY: 0.8, ERROR: 0.01}
    found = record_of(SPACE, only(TrialState.FAIL, **attributes))
    assert found is not None
    assert (found.state, found.accuracy, found.margin, found.sure) == ("failed", None, None, None)


def test_a_failed_trial_keeps_its_reason_and_its_bytes() -> None:
    found = record_of(SPACE, only(TrialState.FAIL, **{REASON: "OSError: no space", MEMORY: 17.0}))
    assert found is not None
    assert (found.state, found.reason, found.memory, found.accuracy) == (
        "failed",
        "OSError: no space",
        17.0,
        None,
    )


@pytest.mark.parametrize(
    ("state", "attributes", "live", "measured", "taken"),
    [
        (TrialState.COMPLETE, {}, False, True, True),
        (TrialState.COMPLETE, {COPY: 3}, False, False, False),
        (TrialState.FAIL, {REASON: "broken", MEMORY: 1.0}, False, True, True),
        (TrialState.FAIL, {}, False, False, False),
        (TrialState.FAIL, {COPY: "interrupted"}, False, False, False),
        (TrialState.FAIL, {COPY: OVER_MEMORY}, False, False, True),
        (TrialState.RUNNING, {}, True, False, True),
        (TrialState.WAITING, {}, True, False, True),
    ],
)
def test_which_trials_count_and_which_assignments_are_taken(
    state: TrialState, attributes: dict[str, object], live: bool, measured: bool, taken: bool
) -> None:
    trial = only(state, **attributes)
    assert is_live(trial) is live
    assert is_measured(trial) is measured
    assert (record_of(SPACE, trial) is not None) is measured
    assert taken_codes(SPACE, [trial]) == ({CODES} if taken else set())


def test_what_dead_workers_left_is_free_until_it_killed_too_many_and_then_failed() -> None:
    study = new_study()
    add(study, (0, 0, 0, 0), TrialState.RUNNING, **{MEMORY: 20.0})
    later = time.time() + 2 * UNLEASED_S
    assert retire(study, now=later) == (0,)
    for deaths in range(1, MOST_DEATHS + 1):
        add(study, CODES, TrialState.RUNNING, **{MEMORY: 17.0})
        assert retire(study, now=later) == (deaths,)
        trials = study.get_trials()
        assert taken_codes(SPACE, trials) == ({CODES} if deaths == MOST_DEATHS else set())
    (record,) = records_of(SPACE, trials)
    assert (record.number, record.state, record.reason) == (MOST_DEATHS, "failed", DIED_TWICE)
    assert record.memory == 17.0


def test_a_worker_that_died_before_it_evaluated_was_not_killed_by_the_assignment() -> None:
    study = new_study()
    for number in range(MOST_DEATHS + 1):
        add(study, CODES, TrialState.RUNNING)
        assert retire(study, now=time.time() + 2 * UNLEASED_S) == (number,)
    assert not any(map(is_measured, study.get_trials()))
    assert taken_codes(SPACE, study.get_trials()) == set()


def test_records_are_of_counted_trials_and_in_the_order_of_their_numbers() -> None:
    study = new_study()
    add(study, (0, 0, 0, 0))
    add(study, (0, 0, 0, 0), **{COPY: 0})
    add(study, (0, 0, 0, 1), TrialState.RUNNING)
    add(study, (0, 0, 0, 2), TrialState.FAIL, **{REASON: "broken", MEMORY: 1.0})
    add(study, (0, 0, 1, 0))
    assert [record.number for record in records_of(SPACE, reversed(study.get_trials()))] == [0, 3, 4]


@pytest.mark.parametrize("value", [0, 1, 0.5, np.float32(0.5), np.float64(1.0), np.int64(0)])
def test_a_number_from_0_to_1_is_an_accuracy(value: object) -> None:
    assert is_accuracy(value)


@pytest.mark.parametrize(
    "value", [-0.001, 1.001, 88, math.nan, math.inf, True, None, "0.5", [0.5], np.array([0.5]), 0.5 + 0j]
)
def test_anything_else_is_none(value: object) -> None:
    assert not is_accuracy(value)
