"""Accuracies without their luck: what changed classes tell, and what they do not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sgq.bits import Evaluation, search
from sgq.bits.candidates import believed_inside
from sgq.bits.space import Assignment
from sgq.bits.steadying import FEWEST, LEAST_ERROR, CostOfChanges, sure_values
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


def steadied(accuracies: np.ndarray, errors: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Return accuracies, steadied, of trials that were not stopped and have no margin."""
    return sure_values(accuracies, np.zeros_like(errors), errors, share, np.ones_like(share, dtype=bool))


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
    assert steadied(accuracies, errors, share) == pytest.approx(accuracies, abs=0.0)
    assert CostOfChanges.learned(accuracies, errors, share) is None
    assert steadied(np.zeros(0), np.zeros(0), np.zeros(0)).shape == (0,)


def test_where_nothing_ever_changes_nothing_is_learned() -> None:
    accuracies = np.full(FEWEST, TOP)
    found = steadied(accuracies, np.zeros(FEWEST), np.zeros(FEWEST))
    assert found == pytest.approx(accuracies)
    assert CostOfChanges.learned(accuracies, np.zeros(FEWEST), np.zeros(FEWEST)) is None


def test_stopped_trials_are_neither_learned_from_nor_steadied() -> None:
    _, accuracies, errors, share = measured(0.15)
    whole = np.arange(len(share)) % 4 > 0
    accuracies[~whole] = 0.2
    margins = np.full_like(errors, 0.001)
    found = sure_values(accuracies, margins, errors, share, whole)
    assert found[~whole] == pytest.approx(0.199)
    alone = steadied(accuracies[whole], errors[whole], share[whole])
    assert found[whole] == pytest.approx(alone - 0.001)


def test_the_mean_of_repeats_is_drawn_to_what_their_changes_cost_by_how_sure_both_are() -> None:
    cost = CostOfChanges(np.array([0.8, 0.2, 0.0, 0.0]), np.zeros((4, 4)), spread=0.1, variance_a_share=1.0)
    flipped = np.array([0.02, 0.04])
    # 0.794 is expected; assignments differ from it by 0.003, the mean's error is 0.004.
    mean, error = cost.steadied_mean(0.8, 0.004, flipped)
    assert mean == pytest.approx(0.794 + 9 / 25 * 0.006)
    assert error == pytest.approx(0.6 * 0.004)
    assert cost.steadied_mean(0.8, 1.0, flipped) == (
        pytest.approx(0.794, abs=1e-6),
        pytest.approx(0.003, abs=1e-6),
    )
    sure, least = cost.steadied_mean(0.8, 0.0, flipped)
    assert sure == pytest.approx(0.794 + 9 / 10 * 0.006)
    assert least == pytest.approx(LEAST_ERROR * np.sqrt(0.9))


def test_how_sure_an_average_is_counts_beside_how_much_assignments_differ() -> None:
    covariance = np.zeros((4, 4))
    covariance[0, 0], covariance[1, 1] = 0.0015**2, 0.1**2
    unsure = CostOfChanges(np.array([0.8, 0.2, 0.0, 0.0]), covariance, spread=0.0, variance_a_share=1.0)
    # At a share of 0.02 the average has an error of 0.0025.
    _, error = unsure.steadied_mean(0.8, 1.0, np.array([0.02]))
    assert error == pytest.approx(0.0025, rel=1e-4)


def test_an_average_is_as_sure_as_the_measurements_that_it_is_learned_from() -> None:
    share, off, told = np.array([0.03]), [], []
    for seed in range(60):
        _, accuracies, errors, shares = measured(0.15, seed=seed)
        cost = CostOfChanges.learned(accuracies, errors, shares)
        assert cost is not None
        off.append(cost.steadied_mean(0.5, 1e6, share)[0] - (TOP - 0.15 * 0.03))
        told.append(math.sqrt(cost.steadied_mean(0.5, 1e6, share)[1] ** 2 - (cost.spread * 0.03) ** 2))
    assert np.mean(off) == pytest.approx(0.0, abs=3e-4)
    assert 0.7 < np.std(off) / np.mean(told) < 1.4


def test_means_are_surer_by_what_changes_cost() -> None:
    # What is worth less than it seems is found out by the many rows that it changes.
    worth, accuracies, errors, share = measured(0.15, differing=0.03)
    cost = CostOfChanges.learned(accuracies, errors, share)
    assert cost is not None
    chance = np.random.default_rng(1)
    means = worth + chance.normal(0.0, 1.0, len(worth)) * errors / 2
    found = [cost.steadied_mean(*each) for each in zip(means, errors / 2, share[:, None], strict=True)]
    off = np.array([mean for mean, _ in found]) - worth
    told = np.array([error for _, error in found])
    assert np.sqrt(np.mean(off**2)) < 0.7 * np.sqrt(np.mean((means - worth) ** 2))
    assert 0.6 < np.mean(np.abs(off) < told) < 0.95


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
