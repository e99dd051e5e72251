"""All assignments, narrowest first, each once."""

from __future__ import annotations

from optuna.trial import TrialState

from sgq.bits.exhaustive import ExhaustiveSampler
from sgq.bits.trials import COPY, OVER_MEMORY, REASON
from tests.bits.tables import SPACE, add, new_study, proposed

EVERY = list(SPACE.every())


def test_all_assignments_come_in_order_and_then_the_first_again() -> None:
    study, sampler = new_study(), ExhaustiveSampler(SPACE)
    for codes in EVERY:
        assert proposed(study, sampler) == codes
        add(study, codes)
    assert proposed(study, sampler) == SPACE.narrowest


def test_what_was_measured_runs_failed_or_is_too_large_is_passed_over() -> None:
    study = new_study()
    add(study, EVERY[0])
    add(study, EVERY[1], TrialState.RUNNING)
    add(study, EVERY[2], TrialState.FAIL, **{REASON: "broken", "memory": 1.0})
    add(study, EVERY[3], TrialState.FAIL, **{COPY: OVER_MEMORY})
    add(study, EVERY[4], TrialState.FAIL, **{COPY: "interrupted"})
    add(study, EVERY[5])
    assert proposed(study, ExhaustiveSampler(SPACE)) == EVERY[4]
