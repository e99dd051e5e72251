"""Accuracies without their luck: what changed classes tell, and what they do not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sgq.bits import Evaluation, search
from sgq.bits.candidates import believed_inside
from sgq.bits.changes import Changes, joint_error
from sgq.bits.space import Assignment
from sgq.bits.steadying import FEWEST, CostOfChanges, Expectation, Experience, sure_values
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
    known = np.isfinite(share)
    assert CostOfChanges.learned(accuracies[known], errors[known], share[known]) is None
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


@pytest.mark.parametrize("spread", [0.1, 0.2, 0.4])
def test_how_much_assignments_differ_is_learned(spread: float) -> None:
    found = []
    for seed in range(40):
        cost = CostOfChanges.learned(*measured(0.15, differing=spread, seed=seed)[1:])
        assert cost is not None
        found.append(cost.spread)
    assert np.median(found) == pytest.approx(spread, rel=0.25)


def test_without_changes_the_average_is_what_was_measured_without_any() -> None:
    _, accuracies, errors, share = measured(0.15)
    accuracies[1:] += 0.01  # of all others by the luck that they have in common
    cost = CostOfChanges.learned(accuracies, errors, share)
    assert cost is not None
    assert cost.average(np.zeros(1))[0] == pytest.approx(TOP, abs=0.0015)


def test_the_average_is_the_sum_of_all_measurements_by_their_weights() -> None:
    _, accuracies, errors, share = measured(0.15)
    cost = CostOfChanges.learned(accuracies, errors, share)
    assert cost is not None
    shares = np.array([0.01, 0.02, 0.06])
    expected, weights = cost.average(shares)
    assert expected == pytest.approx(weights @ accuracies)
    assert expected == pytest.approx(np.mean([cost.average(shares[[place]])[0] for place in range(3)]))
    assert cost.differing(shares) == pytest.approx(cost.spread * 0.03)


# What is expected, and what is measured.


def test_what_is_expected_and_what_is_measured_weigh_by_how_sure_they_are() -> None:
    expected = Expectation(0.794, variance=0.003**2)
    mean, error = expected.with_measured(0.8, 0.004)
    assert mean == pytest.approx(0.794 + 9 / 25 * 0.006)
    assert error == pytest.approx(0.6 * 0.004)
    assert expected.with_measured(0.8, 0.0) == (pytest.approx(0.8), 0.0)
    assert Expectation(0.794, variance=0.0).with_measured(0.8, 0.0) == (pytest.approx(0.8), 0.0)
    unsure, alone = expected.with_measured(0.8, 10.0)
    assert unsure == pytest.approx(0.794, abs=1e-6)
    assert alone == pytest.approx(0.003, abs=1e-6)


def test_what_both_have_in_common_is_not_found_out_by_either() -> None:
    # Correlated by a half: of squares 9 and 16 and a covariance of 6 the best mean has (9 16 - 6 6) / 13.
    mean, error = Expectation(0.794, variance=9e-6, shared=6e-6).with_measured(0.8, 0.004)
    assert mean == pytest.approx(0.794 + 3 / 13 * 0.006)
    assert error == pytest.approx(0.001 * math.sqrt(108 / 13))
    # All that the expectation is off by is in what was measured as well, which adds nothing.
    assert Expectation(0.794, variance=9e-6, shared=12e-6).with_measured(0.8, 0.004) == (
        0.794,
        pytest.approx(0.003),
    )


class Rows:
    """Validation rows that change, in an order that runs have in common by so much; most go wrong."""

    def __init__(self, seed: int, common: float = 1.0) -> None:
        self.chance = np.random.default_rng(seed)
        self.threshold, self.up = self.chance.random(ROWS), self.chance.random(ROWS) < 0.4
        self.common = common

    def run(self, level: float, more: float = 0.0) -> Changes:
        """Return a run of which such a share changes, and so many more of these go wrong than on average."""
        own = self.chance.random(ROWS) >= self.common
        changed = np.where(own, self.chance.random(ROWS), self.threshold) < level
        up = np.where(own, self.chance.random(ROWS) < 0.4, self.up)
        turned = self.chance.random(ROWS) < abs(more)
        up = np.where(turned, more < 0, up)
        wrong, right = np.flatnonzero(changed & ~up), np.flatnonzero(changed & up)
        return Changes(ROWS, tuple(wrong.tolist()), tuple(right.tolist()))

    def experience(self, differing: float = 0.0) -> Experience:
        shares = np.concatenate(([0.0], self.chance.uniform(0.0, 0.1, 119)))
        runs = [self.run(share, differing * self.chance.normal()) for share in shares]
        found = Experience.of(np.array([TOP - run.drop for run in runs]), shares, runs)
        assert found is not None
        return found


def test_errors_that_seem_opposite_are_taken_for_independent() -> None:
    shares = np.linspace(0.0, 0.05, FEWEST)
    runs = [Changes(ROWS, wrong=tuple(range(round(200 * share)))) for share in shares]
    experience = Experience.of(np.array([TOP - run.drop for run in runs]), shares, runs)
    assert experience is not None
    assert experience.expects([0.05], [Changes(ROWS, right=(0, 1, 2))]).shared == 0.0
    assert experience.expects([0.05], [Changes(ROWS, wrong=(0, 1, 2))]).shared > 0.0


def test_measurements_on_the_same_rows_are_not_taken_to_be_surer_than_these_rows() -> None:
    off, told, alike = [], [], []
    for seed in range(80):
        rows = Rows(seed)
        experience, again = rows.experience(), rows.run(0.05)
        expected = experience.expects([0.05], [again])
        off.append(expected.accuracy - (TOP - 0.2 * 0.05))
        told.append(math.sqrt(expected.variance - experience.cost.differing(np.array([0.05])) ** 2))
        alike.append(expected.shared / math.sqrt(expected.variance) / again.error)
    assert np.mean(off) == pytest.approx(0.0, abs=1.5e-3)
    assert 0.75 < np.mean(told) / np.std(off) < 1.3
    assert np.mean(alike) > 0.5


def test_steadied_means_are_nearer_to_what_assignments_are_worth_and_tell_how_near() -> None:
    off, told, before = [], [], []
    for seed in range(80):
        rows = Rows(seed, common=0.4)
        experience = rows.experience()
        again = [rows.run(0.05) for _ in range(3)]
        measured = TOP - float(np.mean([run.drop for run in again]))
        mean, error = experience.expects([0.05] * 3, again).with_measured(measured, joint_error(again))
        off.append(mean - (TOP - 0.01))
        before.append(measured - (TOP - 0.01))
        told.append(error)
    assert np.std(off) < 0.8 * np.std(before)
    assert 0.75 < np.mean(told) / np.std(off) < 1.4


@pytest.mark.parametrize("differing", [0.15, 0.3])
def test_how_much_assignments_differ_is_not_hidden_by_the_luck_that_they_share(differing: float) -> None:
    # A tenth of the changes that is turned costs 0.08 more of them, or 0.12 less.
    found = [Rows(seed, common=0.6).experience(differing).cost.spread for seed in range(30)]
    wanted = np.sqrt(np.mean(np.square(found)))
    assert wanted == pytest.approx(differing, rel=0.3)


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
