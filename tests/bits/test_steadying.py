"""Accuracies without their luck: what changed classes tell, and what they do not."""

from __future__ import annotations

import numpy as np
import pytest

from sgq.bits import Evaluation, search
from sgq.bits.candidates import believed_inside
from sgq.bits.space import Assignment
from sgq.bits.steadying import FEWEST, steadied
from tests.bits.tables import CHOICES, TOP, accuracy, memory

ROWS = 500


def measured(
    cost: float, *, differing: float = 0.0, count: int = 200, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return what assignments are worth, and what was measured: accuracies, errors, shares of changes.

    A share costs on average so much of itself, and of each assignment by so much more or less.
    """
    chance = np.random.default_rng(seed)
    share = chance.uniform(0.0, 0.06, count)
    share[0] = 0.0
    worth = TOP - share * (cost + chance.normal(0.0, differing, count))
    error = np.sqrt(share / ROWS)
    return worth, worth + chance.normal(0.0, 1.0, count) * error, error, share


def test_what_changes_cost_on_average_is_surer_than_one_measurement() -> None:
    worth, accuracies, errors, share = measured(0.15)
    found = steadied(accuracies, errors, share)
    before, after = (np.sqrt(np.mean((values - worth) ** 2)) for values in (accuracies, found))
    assert after < before / 3
    assert np.corrcoef(found, share)[0, 1] < -0.9


def test_assignments_that_differ_much_keep_their_own() -> None:
    worth, accuracies, errors, share = measured(0.15, differing=1.0)
    found = steadied(accuracies, errors, share)
    before, after = (np.sqrt(np.mean((values - worth) ** 2)) for values in (accuracies, found))
    assert after < before
    assert np.corrcoef(found - worth, accuracies - worth)[0, 1] > 0.5
    assert np.abs(found - accuracies).mean() < errors.mean()


@pytest.mark.parametrize("differing", [0.1, 0.2, 0.4])
def test_assignments_keep_as_much_of_their_own_as_they_differ(differing: float) -> None:
    kept, wanted = [], []
    for seed in range(40):
        _, accuracies, errors, share = measured(0.15, differing=differing, seed=seed)
        moved = steadied(accuracies + 0.01 * (share == share.max()), errors, share)
        still = steadied(accuracies, errors, share)
        kept.append((moved - still)[share.argmax()] / 0.01)
        ours = (differing * share.max()) ** 2
        wanted.append(ours / (ours + share.max() / ROWS))
    assert np.mean(kept) == pytest.approx(np.mean(wanted), abs=0.1)


def test_without_changes_nothing_is_lost() -> None:
    _, accuracies, errors, share = measured(0.15)
    accuracies[1:] += 0.01  # by luck that all others have in common
    assert steadied(accuracies, errors, share)[0] == pytest.approx(TOP, abs=0.0015)


def test_what_lost_little_by_luck_weighs_no_more_than_what_lost_much() -> None:
    # Six of ten rows that change their class become wrong or right, and a drop's error is counted from those.
    off = []
    for seed in range(40):
        chance = np.random.default_rng(seed)
        share = chance.uniform(0.0, 0.06, 200)
        wrong, right = (chance.poisson(part * share * ROWS) for part in (0.45, 0.15))
        accuracies, errors = TOP - (wrong - right) / ROWS, np.sqrt(wrong + right) / ROWS
        off.append(np.mean(steadied(accuracies, errors, share) - (TOP - 0.3 * share)))
    assert abs(np.mean(off)) < 3e-4  # of a mean drop of 90e-4


def test_changes_never_gain_on_average() -> None:
    _, accuracies, errors, share = measured(-0.3)
    order = np.argsort(share)
    average = steadied(accuracies, np.full_like(errors, 10.0), share)[order]  # nothing of their own is left
    assert (np.diff(average) <= 1e-6).all()


def test_what_is_not_known_and_what_is_too_little_to_learn_from_stays() -> None:
    _, accuracies, errors, share = measured(0.15, count=FEWEST + 5)
    share[3:8] = np.nan
    found = steadied(accuracies, errors, share)
    assert found[3:8] == pytest.approx(accuracies[3:8], abs=0.0)
    assert not np.allclose(found, accuracies)
    share[8] = np.nan
    assert steadied(accuracies, errors, share) is accuracies
    assert steadied(np.zeros(0), np.zeros(0), np.zeros(0)).shape == (0,)


def test_where_nothing_ever_changes_nothing_is_learned() -> None:
    accuracies = np.full(FEWEST, TOP)
    found = steadied(accuracies, np.zeros(FEWEST), np.zeros(FEWEST))
    assert found == pytest.approx(accuracies)


def test_what_changes_tell_leads_a_search_through_the_noise() -> None:
    # A drop is a tenth of the changes, and is measured with five times as much noise as the limit allows.
    def search_with(*, told: bool, seed: int) -> float:
        chance = np.random.default_rng(seed)

        def evaluate(assignment: Assignment) -> Evaluation:
            share = 1.0 - accuracy(assignment) / TOP
            error = 0.02 if share else 0.0
            noisy = TOP - 0.1 * share + chance.normal(0.0, error)
            return Evaluation(noisy, error=error, margin=0.0, flipped=share if told else None)

        result = search(CHOICES, evaluate, memory, 60, seed=seed, limit={"accuracy": TOP - 0.004})
        believed = believed_inside(result, TOP - 0.004)
        return float(np.mean([abs(0.1 * (1.0 - accuracy(one.assignment) / TOP)) > 0.004 for one in believed]))

    wrong = [[search_with(told=told, seed=seed) for seed in range(4)] for told in (False, True)]
    assert np.mean(wrong[1]) < 0.5 * np.mean(wrong[0])
