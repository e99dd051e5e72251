"""Sensitivities one axis at a time, then the best sum of savings: checked against a count of all sums."""

from __future__ import annotations

import numpy as np
import pytest
from optuna.trial import TrialState

from sgq.bits import Limits, integer_programme
from sgq.bits.integer_programme import IntegerProgrammeSampler, _coarse_to_fine, _one_axis_each
from sgq.bits.space import Codes, Space
from sgq.bits.trials import REASON
from tests.bits.tables import BEST, SPACE, TOP, accuracy, add, memory, memory_of, new_study, proposed

ALONE = list(_one_axis_each(SPACE))


def sampler_with(**limits: float) -> IntegerProgrammeSampler:
    return IntegerProgrammeSampler(SPACE, memory_of, limits=Limits(**limits))


def solutions(count: int, **limits: float) -> list[Codes]:
    """Return what is proposed after all axes were measured alone."""
    study, sampler = new_study(), sampler_with(**limits)
    for codes in ALONE:
        add(study, codes)
    found = []
    for _ in range(count):
        found.append(proposed(study, sampler))
        add(study, found[-1])
    return found


def smallest_with_drop(drop: float) -> float:
    """Return the least bytes of all assignments whose accuracy, which adds up here, drops by at most so
    much."""
    inside = [a for a in map(SPACE.assignment, SPACE.every()) if TOP - accuracy(a) <= drop + 1e-9]
    return min(map(memory, inside))


def test_every_axis_is_measured_alone_beside_the_widest() -> None:
    assert ALONE[0] == SPACE.widest
    assert len(ALONE) == len(set(ALONE)) == 1 + 4 * 2
    assert all(sum(code != 2 for code in codes) == 1 for codes in ALONE[1:])
    mixed = Space.of({"method": ("lsq", "affine"), "weight": (2, 4), "fixed": (8,)})
    assert list(_one_axis_each(mixed)) == [(0, 1, 0), (1, 1, 0), (0, 0, 0)]


def test_the_single_axes_come_first_and_in_order() -> None:
    study, sampler = new_study(), sampler_with(accuracy=0.8)
    for codes in ALONE:
        assert proposed(study, sampler) == codes
        add(study, codes)
    assert proposed(study, sampler) not in ALONE


def test_the_first_solution_is_the_smallest_assignment_inside_the_limit() -> None:
    assert solutions(1, accuracy_drop=0.0)[0] == SPACE.codes(BEST)


@pytest.mark.parametrize("drop", [0.02, 0.03, 0.05, 0.1])
def test_a_solution_saves_as_much_as_the_best_of_all_sums(drop: float) -> None:
    for limits in ({"accuracy_drop": drop + 1e-6}, {"accuracy": TOP - drop - 1e-6}):
        codes = solutions(1, **limits)[0]
        assert memory(SPACE.assignment(codes)) == smallest_with_drop(drop)


def test_no_solution_is_proposed_twice() -> None:
    found = solutions(12, accuracy_drop=0.05)
    assert len(set(found)) == 12
    assert not set(found) & set(ALONE)


def test_without_a_limit_on_accuracy_drops_are_swept_from_coarse_to_fine() -> None:
    # The first drop is 20 points, which all axes together do not reach here: everything may be narrow.
    assert solutions(1)[0] == SPACE.narrowest
    assert _coarse_to_fine(8) == [8, 4, 2, 6, 1, 3, 5, 7]
    assert sorted(_coarse_to_fine(400)) == list(range(1, 401))


def test_a_choice_that_failed_alone_is_taken_for_useless() -> None:
    study, sampler = new_study(), sampler_with(accuracy_drop=0.05)
    broken = (1, 2, 2, 2)
    for codes in ALONE:
        if codes == broken:
            add(study, codes, TrialState.FAIL, **{REASON: "four bits are broken", "memory": 1.0})
        else:
            add(study, codes)
    for _ in range(5):
        codes = proposed(study, sampler)
        assert codes[0] != 1
        add(study, codes)


def test_solutions_are_found_anew_once_another_worker_has_measured_an_axis() -> None:
    study, sampler = new_study(), sampler_with(accuracy_drop=0.0)
    for codes in ALONE:
        if codes != (1, 2, 2, 2):
            add(study, codes)
    add(study, (1, 2, 2, 2), TrialState.RUNNING)
    # While it is unknown whether 4 bits do for the weights, they are taken for useless.
    first = proposed(study, sampler)
    assert first == (2, *SPACE.codes(BEST)[1:])
    add(study, first)
    running = next(trial for trial in study.get_trials() if trial.state is TrialState.RUNNING)
    assignment = SPACE.assignment((1, 2, 2, 2))
    study._storage.set_trial_state_values(
        running._trial_id, TrialState.COMPLETE, (accuracy(assignment), memory(assignment))
    )
    assert proposed(study, sampler) == SPACE.codes(BEST)


def test_a_space_that_was_measured_whole_still_gets_an_assignment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integer_programme, "SWEEP", 20)
    study, sampler = new_study(), sampler_with(accuracy_drop=0.0)
    for codes in SPACE.every():
        add(study, codes)
    codes = proposed(study, sampler)
    assert np.all(np.array(codes) < SPACE.counts)
