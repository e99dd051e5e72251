"""SGQuant's own loop: at random first, then what a tree predicts to hold the limit, smallest first."""

from __future__ import annotations

import numpy as np
import pytest
from optuna.trial import TrialState

from sgq.bits import Limits
from sgq.bits.regression_tree import ROUND, TOLERANCE, RegressionTreeSampler
from sgq.bits.trials import REASON
from tests.bits.tables import SPACE, accuracy, add, memory_of, new_study, proposed


def sampler_with(seed: int = 0, **limits: float) -> RegressionTreeSampler:
    return RegressionTreeSampler(SPACE, memory_of, limits=Limits(**limits), seed=seed)


def test_the_first_round_is_random_and_follows_from_the_seed() -> None:
    def found(seed: int) -> list[tuple[int, ...]]:
        study, sampler = new_study(), sampler_with(seed)
        drawn = []
        for _ in range(10):
            drawn.append(proposed(study, sampler))
            add(study, drawn[-1])
        return drawn

    assert found(1) == found(1) != found(2)
    assert len(set(found(1))) == 10


@pytest.mark.parametrize("limits", [{"accuracy": 0.87}, {"accuracy_drop": 0.03}])
def test_a_later_round_takes_the_smallest_that_are_predicted_inside_the_limit(
    limits: dict[str, float],
) -> None:
    study, sampler = new_study(), sampler_with(**limits)
    # The widest half, the widest one among them, so that the tree knows what the limit costs.
    for codes in list(SPACE.every())[-ROUND:]:
        add(study, codes)
    picks = []
    for _ in range(8):
        picks.append(proposed(study, sampler))
        add(study, picks[-1])
    assert len(set(picks)) == 8
    packed_bytes = memory_of(np.array(picks))
    assert (np.diff(packed_bytes) >= 0).all()
    assert not set(picks) & set(list(SPACE.every())[-ROUND:])


def test_without_a_limit_the_best_accuracy_so_far_is_the_bound() -> None:
    study, sampler = new_study(), sampler_with()
    for codes in SPACE.every():
        if accuracy(SPACE.assignment(codes)) < 0.9 - TOLERANCE or codes == SPACE.widest:
            add(study, codes)
    # One measured assignment alone has the best accuracy: few are predicted to have it too.
    picked = proposed(study, sampler)
    assert accuracy(SPACE.assignment(picked)) >= 0.9 - TOLERANCE


def test_where_all_of_a_round_is_measured_something_is_drawn() -> None:
    study, sampler = new_study(), sampler_with(accuracy=0.9)
    for codes in SPACE.every():
        add(study, codes)
    drawn = {proposed(study, sampler) for _ in range(20)}
    assert len(drawn) > 10
    assert drawn <= set(SPACE.every())


def test_what_runs_or_failed_with_a_reason_is_left_out_of_a_round() -> None:
    study, sampler = new_study(), sampler_with()
    first = proposed(new_study(), sampler_with())
    add(study, first, TrialState.RUNNING)
    assert proposed(study, sampler) != first
    second = proposed(study, sampler)
    add(study, second, TrialState.FAIL, **{REASON: "out of memory", "memory": 1.0})
    assert proposed(study, sampler) not in {first, second}


def test_failures_alone_do_not_end_a_round() -> None:
    study, sampler = new_study(), sampler_with(accuracy=0.8)
    seen = set()
    for _ in range(ROUND + 5):
        codes = proposed(study, sampler)
        assert codes not in seen
        seen.add(codes)
        add(study, codes, TrialState.FAIL, **{REASON: "broken", "memory": 1.0})
