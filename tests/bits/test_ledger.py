"""A worker's ledger of a study says what its trials say, and reads each finished one once."""

from __future__ import annotations

from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState

from sgq.bits import Space
from sgq.bits.ledger import Ledger
from sgq.bits.space import Codes
from sgq.bits.trials import (
    COPY,
    MEMORY,
    OVER_MEMORY,
    REASON,
    codes_of,
    parameters_of,
    records_of,
    taken_codes,
)
from tests.bits.tables import SPACE, add, new_study

EVERY = list(SPACE.every())


def test_it_has_the_records_and_the_taken_assignments_of_all_trials() -> None:
    study, ledger = new_study(), Ledger(SPACE)
    add(study, EVERY[0])
    add(study, EVERY[1], TrialState.RUNNING)
    add(study, EVERY[2], TrialState.FAIL, **{REASON: "broken", MEMORY: 1.0})
    add(study, EVERY[3], TrialState.FAIL, **{COPY: "interrupted"})
    add(study, EVERY[4], TrialState.FAIL, **{COPY: OVER_MEMORY})
    add(study, EVERY[0], **{COPY: 0})
    study.enqueue_trial(parameters_of(SPACE, EVERY[6]))
    for _ in range(2):
        trials = study.get_trials()
        ledger.read(trials)
        assert ledger.records == records_of(SPACE, trials)
        assert ledger.taken == taken_codes(SPACE, trials) == {EVERY[place] for place in (0, 1, 2, 4, 6)}


def test_a_trial_that_ran_is_taken_up_when_it_ends() -> None:
    study, ledger = new_study(), Ledger(SPACE)
    add(study, EVERY[1], TrialState.RUNNING)
    add(study, EVERY[0])
    ledger.read(study.get_trials())
    assert [record.number for record in ledger.records] == [1]
    study._storage.set_trial_state_values(0, TrialState.COMPLETE, [0.5, 20.0])
    ledger.read(study.get_trials())
    assert [record.number for record in ledger.records] == [0, 1]


def test_a_twin_is_measured_or_begun_before() -> None:
    study, ledger = new_study(), Ledger(SPACE)
    add(study, EVERY[0])
    add(study, EVERY[1], TrialState.RUNNING)
    add(study, EVERY[1], TrialState.RUNNING)
    add(study, EVERY[2], TrialState.FAIL, **{COPY: "interrupted"})
    ledger.read(study.get_trials())

    def twin(codes: Codes, number: int) -> int | None:
        found = ledger.twin(codes, number)
        return None if found is None else found.number

    assert [twin(EVERY[0], 9), twin(EVERY[1], 2), twin(EVERY[1], 1), twin(EVERY[2], 9)] == [0, 1, None, None]


def test_a_finished_trial_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def counting(space: Space, trial: FrozenTrial) -> Any:
        read.append(trial.number)
        return codes_of(space, trial)

    monkeypatch.setattr("sgq.bits.ledger.codes_of", counting)
    study, ledger = new_study(), Ledger(SPACE)
    for number in range(20):
        add(study, EVERY[number])
        ledger.read(study.get_trials())
        assert ledger.twin(EVERY[0], number + 1) is not None
    assert read == list(range(20))
