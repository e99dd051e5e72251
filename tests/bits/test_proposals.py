"""What is proposed next: never twice, inside the memory limit, and for what it is expected to be worth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from sgq.bits import Space
from sgq.bits.front import Frame, hypervolume
from sgq.bits.proposals import (
    ROUND_SHARE,
    SQUASH,
    History,
    Proposer,
    Scored,
    expected_above,
    expected_improvement,
    expected_saving,
    row_keys,
    squashed,
)
from sgq.bits.space import Codes
from tests.bits.tables import BEST, SPACE, accuracy, memory_of

EVERY = list(SPACE.every())
LARGE = Space.of({f"layer {number}": (1, 2, 4, 8, 16) for number in range(12)})


def history_of(codes: Sequence[Codes], *, pending: Sequence[Codes] = (), axes: int = 4) -> History:
    """Return the table's accuracies of assignments, all with their full budget."""
    return History(
        codes=np.array(codes, dtype=np.int64).reshape(-1, axes),
        accuracy=np.array([accuracy(SPACE.assignment(row)) for row in codes]),
        complete=np.ones(len(codes), dtype=bool),
        pending=np.array(pending, dtype=np.int64).reshape(-1, axes),
    )


def bits_of(codes: np.ndarray) -> np.ndarray:
    """Return the sum of all bits: a memory for `LARGE`."""
    return (2.0**codes).sum(axis=1)


def large_history(count: int) -> History:
    codes = LARGE.sample(np.random.default_rng(0), count)
    found = 0.9 - 0.02 * (codes == 0).sum(axis=1)
    return History(codes, found, np.ones(count, dtype=bool), np.zeros((0, 12), dtype=np.int64))


# Where a search begins.


def test_a_search_begins_with_the_widest_and_then_one_width_everywhere() -> None:
    proposer = Proposer(SPACE, memory_of)
    done: list[Codes] = []
    for _ in range(3):
        done += proposer.propose(history_of(done))
    assert done == [SPACE.widest, SPACE.uniform(4), SPACE.uniform(2)]


def test_the_start_has_narrow_mixtures_and_wide_ones() -> None:
    proposer = Proposer(LARGE, bits_of)
    codes = np.array(proposer._start)
    assert len(codes) >= len(LARGE.axes)
    assert codes.mean(axis=1).min() < 1.0
    assert codes.mean(axis=1).max() > 3.0


def test_another_seed_begins_with_other_mixtures() -> None:
    assert Proposer(LARGE, bits_of, seed=1)._start != Proposer(LARGE, bits_of, seed=2)._start
    assert Proposer(LARGE, bits_of, seed=1)._start == Proposer(LARGE, bits_of, seed=1)._start


def test_what_others_are_measuring_is_not_begun_again() -> None:
    proposer = Proposer(SPACE, memory_of)
    assert proposer.propose(history_of([], pending=[SPACE.widest])) == [SPACE.uniform(4)]


# What is never proposed.


@pytest.mark.parametrize("limit", [None, 0.85])
def test_nothing_is_proposed_twice_until_nothing_is_left(limit: float | None) -> None:
    proposer = Proposer(SPACE, memory_of, accuracy_limit=limit)
    done: list[Codes] = []
    for _ in range(81):
        picks = proposer.propose(history_of(done))
        assert len(picks) == 1
        done += picks
    assert set(done) == set(EVERY)
    assert proposer.propose(history_of(done)) == []


@settings(max_examples=25, deadline=None)
@given(
    st.permutations(range(81)), st.integers(0, 70), st.integers(0, 5), st.integers(0, 5), st.integers(0, 99)
)
def test_what_is_known_running_or_excluded_is_never_proposed(
    order: list[int], known: int, running: int, excluded: int, seed: int
) -> None:
    codes = [EVERY[number] for number in order]
    measured, codes = codes[:known], codes[known:]
    pending, codes = codes[:running], codes[running:]
    left_out, free = codes[:excluded], codes[excluded:]
    proposer = Proposer(SPACE, memory_of, seed=seed)
    picks = proposer.propose(history_of(measured, pending=pending), excluded=set(left_out))
    assert len(picks) == 1
    assert set(picks) <= set(free)


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(81)), st.integers(0, 81), st.integers(15, 85))
def test_a_memory_limit_holds_for_everything_proposed(order: list[int], known: int, limit: int) -> None:
    measured = [EVERY[number] for number in order[:known]]
    proposer = Proposer(SPACE, memory_of, memory_limit=float(limit))
    picks = proposer.propose(history_of(measured))
    assert (memory_of(np.array(picks).reshape(-1, 4)) <= limit).all()
    inside = {codes for codes in EVERY if memory_of(np.array([codes]))[0] <= limit}
    assert bool(picks) == bool(inside - set(measured))


def test_a_proposal_follows_from_history_and_seed_alone() -> None:
    history = large_history(60)
    begun = {codes for seed in (3, 4) for codes in Proposer(LARGE, bits_of, seed=seed)._start}
    first, second, other = (
        Proposer(LARGE, bits_of, accuracy_limit=0.85, seed=seed).propose(history, excluded=begun)
        for seed in (3, 3, 4)
    )
    assert first == second
    assert len(first) == 1
    assert first != other


def test_where_all_that_was_tried_failed_something_else_is_tried() -> None:
    proposer = Proposer(SPACE, memory_of)
    failed: set[Codes] = set()
    for _ in range(40):
        (pick,) = proposer.propose(history_of([]), excluded=failed)
        assert pick not in failed
        failed.add(pick)
    assert proposer.propose(history_of([]), excluded=set(EVERY)) == []


def test_many_measurements_give_several_different_proposals_a_round() -> None:
    history = large_history(3 * ROUND_SHARE)
    proposer = Proposer(LARGE, bits_of, accuracy_limit=0.85)
    started = set(proposer._start)
    picks = proposer.propose(history, excluded=started)
    assert len(picks) == 3
    assert len(set(picks)) == 3
    assert not set(picks) & {tuple(row) for row in history.codes.tolist()}


# What is worth most.


def test_the_smallest_assignment_inside_the_limit_is_found_before_it_was_measured() -> None:
    best = SPACE.codes(BEST)
    order = np.random.default_rng(0).permutation(81)
    measured = [EVERY[number] for number in order if EVERY[number] != best][:41]
    picks = Proposer(SPACE, memory_of, accuracy_limit=0.895).propose(
        history_of(measured), excluded=set(Proposer(SPACE, memory_of)._start) - {best}
    )
    assert picks == [best]


@settings(max_examples=40, deadline=None)
@given(st.floats(-2, 2), st.floats(0.01, 2), st.floats(-2, 2))
def test_the_expectation_above_a_level_is_the_integral(mean: float, spread: float, level: float) -> None:
    found = expected_above(np.array([mean]), np.array([spread]), level)[0]
    integral = quad(
        lambda y: (y - level) * norm.pdf(y, mean, spread),
        level,
        max(level, mean) + 12 * spread,
        points=[mean],
    )[0]
    assert found == pytest.approx(integral, abs=1e-6)


def test_the_expected_improvement_is_the_mean_of_improvements_that_were_drawn() -> None:
    frame = Frame(0.0, 100.0, worst=0.8, best=0.9)
    memory, found = np.array([20.0, 60.0, 80.0]), np.array([0.82, 0.88, 0.85])
    pool = Scored(
        codes=np.zeros((4, 1), dtype=np.int64),
        packed_bytes=np.array([10.0, 40.0, 60.0, 95.0]),
        mean=np.array([0.80, 0.87, 0.89, 0.91]),
        spread=np.array([0.02, 0.01, 0.03, 0.001]),
    )
    before = hypervolume(memory, found, frame)
    chance = np.random.default_rng(0)
    drawn = [
        np.mean(
            [
                hypervolume(np.append(memory, own), np.append(found, value), frame) - before
                for value in chance.normal(mean, spread, 3000)
            ]
        )
        for own, mean, spread in zip(pool.packed_bytes, pool.mean, pool.spread, strict=True)
    ]
    np.testing.assert_allclose(expected_improvement(memory, found, pool, frame), drawn, atol=0.003)


def test_the_expected_improvement_of_a_first_point_is_its_rectangle() -> None:
    pool = Scored(np.zeros((1, 1), dtype=np.int64), np.array([25.0]), np.array([0.85]), np.array([1e-9]))
    nothing = np.zeros(0)
    frame = Frame(0.0, 100.0, worst=0.8, best=0.9)
    assert expected_improvement(nothing, nothing, pool, frame)[0] == pytest.approx(0.75 * 0.5)


def test_the_expected_saving_is_bytes_times_the_chance_to_hold_the_limit() -> None:
    pool = Scored(
        codes=np.zeros((3, 1), dtype=np.int64),
        packed_bytes=np.array([30.0, 50.0, 70.0]),
        mean=np.array([0.8, 0.82, 0.9]),
        spread=np.array([0.01, 0.02, 0.01]),
    )
    # The best one inside has 60 bytes: 30 saved at 50 %, 10 at 84 % (one sigma), and none.
    memory, found = np.array([60.0, 20.0, 90.0]), np.array([0.81, 0.7, 0.9])
    saving = expected_saving(memory, found, pool, 0.8, 100.0)
    np.testing.assert_allclose(saving, [15.0, 10.0 * norm.cdf(1.0), 0.0])
    # Nothing is inside: what is saved counts from the widest.
    np.testing.assert_allclose(expected_saving(memory, found - 0.2, pool, 0.8, 100.0)[0], 35.0)


def test_candidates_without_one_are_the_others_in_order() -> None:
    pool = Scored(np.array([[0], [1], [2]]), np.arange(3.0), np.arange(3.0), np.arange(3.0))
    left = pool.without(1)
    assert left.codes.tolist() == [[0], [2]]
    assert left.packed_bytes.tolist() == left.mean.tolist() == left.spread.tolist() == [0.0, 2.0]


def test_small_drops_count_as_they_are_and_collapses_by_their_logarithm() -> None:
    drops = np.array([0.02, 0.0, -0.001, -SQUASH, -0.8])
    found = squashed(drops)
    assert found[:2].tolist() == [0.02, 0.0]
    assert found[2] == pytest.approx(-0.001, rel=0.01)
    assert found[3] == pytest.approx(-SQUASH * np.log(2))
    assert found[4] > -0.25
    assert (np.diff(squashed(np.linspace(-1, 1, 50))) > 0).all()
    assert squashed(np.array([-0.01]), scale=0.01)[0] == pytest.approx(-0.01 * np.log(2))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(0, 63), min_size=5, max_size=5), min_size=1, max_size=50))
def test_rows_have_equal_hashes_where_they_are_equal_and_only_there(rows: list[list[int]]) -> None:
    keys = row_keys(np.array(rows)).tolist()
    for row, key in zip(rows, keys, strict=True):
        assert [other == row for other in rows] == [other == key for other in keys]


def test_under_a_memory_limit_the_smallest_is_a_start_whatever_its_texts_are() -> None:
    space = Space.of({"method": ("big", "small"), **{f"layer {n}": (1, 2, 4, 8, 16) for n in range(8)}})

    def size(codes: np.ndarray) -> np.ndarray:
        return 100.0 * (codes[:, 0] == 0) + (2.0 ** codes[:, 1:]).sum(axis=1)

    none = np.zeros((0, 9), dtype=np.int64)
    history = History(none, np.zeros(0), np.zeros(0, dtype=bool), none)
    assert Proposer(space, size, memory_limit=8.0).propose(history) == [(1, *(0,) * 8)]
