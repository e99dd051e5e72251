"""Trials that are inside a limit by luck are found out: the smallest that surely holds it in repeats wins."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from sgq.bits import Limits, SearchResult, Trial
from sgq.bits.candidates import believed_inside
from sgq.bits.confirmation import (
    CANDIDATES,
    MOST_SMALLER,
    REPEATS,
    ROUNDS,
    Confirmation,
    confirm,
    order_of,
)
from sgq.bits.deferred import DeferredAccuracy
from sgq.bits.refinement import Known, Refiner
from tests.bits.beliefs import LIMIT, Believe, lucky, measured_before, only, searched, widths
from tests.bits.tables import SPACE, TOP, accuracy, memory
from tests.bits.trainings import LEAST, LUCKY, deferred, of, repeats, short, uses

HALF = REPEATS // 2


def confirmed(
    result: SearchResult,
    evaluation: DeferredAccuracy,
    *,
    least: float = LIMIT,
    storage: Path | None = None,
    smaller: int = MOST_SMALLER,
) -> tuple[Confirmation | None, tuple[Confirmation, ...]]:
    found = confirm(result, evaluation, least_accuracy=least, storage=storage, study="bits", smaller=smaller)
    assert not found.interrupted
    return found.chosen, found.measured


# What is surely inside.


def test_what_must_hold_is_the_mean_less_its_standard_error() -> None:
    item = Confirmation(Trial(0, {}, 1.0, 0.9), (0.80, 0.82, 0.84, 0.86, 0.88))
    # Squares of the deviations: (16 + 4 + 0 + 4 + 16) / 4 = 10, in points; its root over that of 5 is 1.414.
    assert item.accuracy == pytest.approx(0.84)
    assert item.least_accuracy == pytest.approx(0.84 - 0.01 * math.sqrt(2), abs=1e-6)
    assert Confirmation(item.trial, (0.7,) * 5).least_accuracy == pytest.approx(0.7)


def test_the_error_over_nodes_counts_beside_that_of_the_repeats() -> None:
    item = Confirmation(Trial(0, {}, 1.0, 0.9), (0.80, 0.82, 0.84, 0.86, 0.88), error=0.04)
    assert item.least_accuracy == pytest.approx(0.84 - math.hypot(0.01 * math.sqrt(2), 0.04), abs=1e-6)


def test_fewer_repeats_than_planned_are_taken_for_as_many_of_the_same_mean() -> None:
    item = Confirmation(Trial(0, {}, 1.0, 0.9), (0.80, 0.82, 0.84, 0.86, 0.88))
    assert item.least_after(5) == item.least_accuracy
    assert item.least_after(20) == pytest.approx(0.84 - 0.01 * math.sqrt(2) / 2, abs=1e-6)


@pytest.mark.parametrize(("least", "holds"), [(0.8905, True), (0.8906, False)])
def test_a_trial_holds_a_limit_by_one_standard_error(
    tmp_path: Path, believe: Believe, least: float, holds: bool
) -> None:
    believe(only({LEAST: 0.01}))
    noisy = deferred(tmp_path / "log", luck={LEAST: (0.0, *(-0.04, -0.02, 0.0, 0.02, 0.04) * 2)})
    chosen, measured = confirmed(searched(least=least), noisy, least=least)
    [item] = measured
    assert sorted(item.accuracies)[::2] == pytest.approx((0.86, 0.88, 0.9, 0.92, 0.94))
    # The deviation is 0.02981, and over ten repeats 0.00943.
    assert item.least_accuracy == pytest.approx(0.9 - 0.0094281, abs=1e-6)
    assert chosen == (item if holds else None)


def test_a_limit_that_only_rounding_misses_is_held(tmp_path: Path, believe: Believe) -> None:
    believe(only({LEAST: 0.01}))
    result = searched()
    assert confirmed(result, deferred(tmp_path / "a"), least=TOP + 1e-12)[0] is not None
    assert confirmed(result, deferred(tmp_path / "b"), least=TOP + 1e-6)[0] is None


# Rounds of repeats.


def test_the_lucky_trial_is_found_out_and_the_smallest_that_holds_again_wins(tmp_path: Path) -> None:
    chosen, measured = confirmed(searched(lucky), deferred(tmp_path / "log"))
    assert chosen is not None
    assert short(chosen.trial.assignment) == LEAST
    assert chosen.accuracies == pytest.approx((TOP,) * REPEATS)
    assert chosen in measured
    assert measured[0].trial.accuracy == pytest.approx(0.91)
    assert measured[0].accuracies == pytest.approx((0.88,) * HALF)


@pytest.mark.parametrize(("first", "times"), [(-0.014, REPEATS), (-0.015, REPEATS), (-0.016, HALF)])
def test_what_is_below_the_limit_after_half_of_its_repeats_has_no_more(
    tmp_path: Path, believe: Believe, first: float, times: int
) -> None:
    believe(only({LEAST: 0.01}))
    half = order_of(of(*LEAST), REPEATS)[:HALF]
    luck = (0.0, *(first if repeat in half else 0.05 for repeat in range(1, REPEATS + 1)))
    _, measured = confirmed(searched(), deferred(tmp_path / "log", luck={LEAST: luck}), smaller=0)
    assert widths(measured) == [LEAST]
    assert len(measured[0].accuracies) == times
    assert measured[0].accuracies[:HALF] == pytest.approx((TOP + first,) * HALF)


def test_every_candidate_of_a_round_has_as_many_repeats_on_each_training(
    tmp_path: Path, believe: Believe
) -> None:
    believe(only({LUCKY: 0.01, LEAST: 0.02}))
    others = ({"name": "second", "better": -0.05}, {"name": "third", "better": 0.04})
    log = tmp_path / "log"
    chosen, measured = confirmed(searched(), deferred(log, *others))
    turns = {place + 1: (("first", "second", "third")[place % 3], place + 1) for place in range(12)}
    wanted = [(*turn, LEAST) for turn in turns.values()]
    wanted += [(*turns[repeat], LUCKY) for repeat in order_of(of(*LUCKY), 12)[:6]]
    assert sorted(repeats(log)) == sorted(wanted)
    # An accuracy counts from the float model of its training.
    assert [item.accuracies for item in measured] == [
        pytest.approx((0.88,) * 6),
        pytest.approx((TOP,) * 12),
    ]
    assert chosen == measured[1]


def test_candidates_begin_with_different_repeats() -> None:
    orders = [order_of(SPACE.assignment(codes), 10) for codes in product(range(3), repeat=4)]
    assert all(sorted(order) == list(range(1, 11)) for order in orders)
    firsts = Counter(order[0] for order in orders)
    assert set(firsts) == set(range(1, 11))
    assert max(firsts.values()) < len(orders) / 4


def test_what_half_of_the_repeats_refuted_is_known_to_be_of_their_trainings(
    tmp_path: Path, believe: Believe, monkeypatch: pytest.MonkeyPatch
) -> None:
    believe(only({LUCKY: 0.01}))
    known: list[Known] = []
    monkeypatch.setattr(
        Refiner, "smaller", lambda refiner, knows, holding, **named: known.append(knows) or ()
    )
    others = [{"name": str(number)} for number in range(1, 10)]
    chosen, [item] = confirmed(searched(), deferred(tmp_path / "log", *others))
    assert chosen is None
    half = order_of(of(*LUCKY), 10)[:5]
    assert sorted(item.trainings) == sorted(repeat - 1 for repeat in half)
    row = [SPACE.assignment(codes) for codes in known[0].codes.tolist()].index(of(*LUCKY))
    assert known[0].above[row] == pytest.approx(item.least_after(10) - LIMIT)
    measured = {short(trial.assignment): trial.accuracy for trial in searched().trials}
    for codes, above in zip(known[0].codes.tolist(), known[0].above, strict=True):
        own = short(SPACE.assignment(codes))
        if own != LUCKY:
            assert above == pytest.approx(measured[own] - LIMIT)
    shares = known[0].trainings[row]
    assert shares.sum() == pytest.approx(1.0)
    assert sorted(shares[list(item.trainings)]) == pytest.approx([0.2] * 5)


def test_rounds_go_on_until_one_surely_holds(tmp_path: Path, believe: Believe) -> None:
    believe(lambda assignment: memory(assignment) / 1000 + accuracy(assignment) / 1e6)
    result = searched(least=0.825)
    ranked = believed_inside(result, 0.825)
    places = [place for place, trial in enumerate(ranked) if accuracy(trial.assignment) >= 0.825]
    rounds = places[0] // CANDIDATES + 1
    assert 1 < rounds < ROUNDS
    log = tmp_path / "log"
    chosen, measured = confirmed(result, deferred(log), least=0.825, smaller=0)
    assert chosen is not None
    assert chosen.trial == ranked[places[0]]
    assert [item.trial for item in measured] == ranked[: rounds * CANDIDATES]
    holding = sum(accuracy(item.trial.assignment) >= 0.825 for item in measured)
    assert len(repeats(log)) == rounds * CANDIDATES * HALF + holding * HALF


def test_after_all_rounds_none_holds(tmp_path: Path, believe: Believe) -> None:
    believe(lambda assignment: memory(assignment) / 1000)
    result = searched()
    assert len(believed_inside(result, LIMIT)) > CANDIDATES
    lower = deferred(tmp_path / "log", better=-0.01, elsewhere=(0.0, -0.3))
    chosen, measured = confirmed(result, lower)
    assert chosen is None
    assert len(measured) == min(ROUNDS * CANDIDATES, len(believed_inside(result, LIMIT)))


def test_where_trials_run_out_what_is_expected_below_the_widest_is_measured(
    tmp_path: Path, believe: Believe
) -> None:
    # Of what was measured only LUCKY is believed inside, which its repeats refute.
    believe(lambda assignment: 0.01 if short(assignment) == LUCKY else accuracy(assignment) - LIMIT)
    chosen, measured = confirmed(measured_before(LUCKY), deferred(tmp_path / "log"), smaller=0)
    assert widths(measured)[0] == LUCKY
    assert chosen is not None
    assert accuracy(chosen.trial.assignment) >= LIMIT
    assert len(measured) <= 1 + CANDIDATES
    within = 51  # LEAST has 52
    result = replace(measured_before(LUCKY), limits=Limits(accuracy=LIMIT, memory=within))
    none, tried = confirmed(result, deferred(tmp_path / "other"), smaller=0)
    assert none is None
    assert all(item.trial.memory <= within for item in tried)


def test_rounds_end_where_there_are_no_more_candidates(tmp_path: Path, believe: Believe) -> None:
    believe(only({(2, 2, 8, 4): 0.01, LUCKY: 0.02}))
    chosen, measured = confirmed(searched(), deferred(tmp_path / "log"))
    assert chosen is None
    assert widths(measured) == [(2, 2, 8, 4), LUCKY]


def test_what_cannot_be_measured_again_is_not_confirmed_but_others_are(
    tmp_path: Path, believe: Believe
) -> None:
    believe(only({LEAST: 0.01, (8, 4, 8, 4): 0.02}))
    evaluation = deferred(tmp_path / "log", broken=LEAST)
    found = confirm(searched(), evaluation, least_accuracy=LIMIT, storage=None, study="bits")
    assert found.chosen is not None
    assert widths(found.measured) == widths([found.chosen]) == [(8, 4, 8, 4)]
    (left_out,) = found.left_out
    assert short(left_out.trial.assignment) == LEAST
    assert left_out.reason == "RuntimeError: broken"


def test_one_that_cannot_be_measured_again_does_not_end_the_rounds(tmp_path: Path, believe: Believe) -> None:
    believe(lambda assignment: memory(assignment) / 1000)
    log = tmp_path / "log"
    result = searched()
    ranked = believed_inside(result, LIMIT)
    assert widths(ranked)[0] == (2, 2, 2, 2)
    _, measured = confirmed(result, deferred(log, broken=(2, 2, 2, 2)), smaller=0)
    assert [item.trial for item in measured] == ranked[1 : len(measured) + 1]
    assert len(measured) > CANDIDATES


# Below what holds.


def test_what_the_search_never_measured_is_found_below_what_holds(tmp_path: Path, believe: Believe) -> None:
    believe(lambda assignment: accuracy(assignment) - LIMIT)
    result = measured_before((4, 8, 8, 4))
    log = tmp_path / "log"
    chosen, measured = confirmed(result, deferred(log))
    assert chosen is not None
    assert short(chosen.trial.assignment) == LEAST
    assert widths(measured)[0] == (4, 8, 8, 4)
    known = {trial.number for trial in result.trials}
    added = [item for item in measured if item.trial.number not in known]
    assert min(item.trial.number for item in added) == 1 + max(known)
    for item in added:
        assert item.trial.accuracy == pytest.approx(item.accuracy)
        assert item.trial.sure == pytest.approx(item.least_accuracy)
        assert item.trial.memory == memory(item.trial.assignment)
        assert item.trial.state == "finished"
    assert len(repeats(log)) == len(measured) * REPEATS


def test_what_does_not_hold_in_repeats_is_not_chosen_below_what_does(
    tmp_path: Path, believe: Believe
) -> None:
    believe(lambda assignment: memory(assignment) / 1000)
    chosen, measured = confirmed(measured_before(), deferred(tmp_path / "log"))
    assert chosen is not None
    holding = [item.trial.memory for item in measured if accuracy(item.trial.assignment) >= LIMIT]
    assert chosen.trial.memory == min(holding)
    # All are believed inside, so that the smallest one left is tried in each round, and it alone.
    assert len(measured) == 1 + MOST_SMALLER
    assert len({short(item.trial.assignment) for item in measured}) == len(measured)


@pytest.mark.parametrize("smaller", [0, 1, 4])
def test_no_more_are_tried_below_than_asked_for(tmp_path: Path, believe: Believe, smaller: int) -> None:
    believe(lambda assignment: memory(assignment) / 1000)
    _, measured = confirmed(measured_before(), deferred(tmp_path / "log"), smaller=smaller)
    assert len(measured) == 1 + smaller


def test_what_broke_below_is_not_tried_again(tmp_path: Path, believe: Believe) -> None:
    believe(lambda assignment: accuracy(assignment) - LIMIT)
    log = tmp_path / "log"
    chosen, measured = confirmed(measured_before((4, 8, 8, 4)), deferred(log, broken=LEAST))
    assert chosen is not None
    assert LEAST not in widths(measured)
    order = order_of(of(*LEAST), REPEATS)
    tried = order[:HALF] if 2 in order[:HALF] else order
    assert sorted(use for use in repeats(log) if use[2] == LEAST) == [
        ("first", repeat, LEAST) for repeat in sorted(tried)
    ]


# Stopped, and gone on with.


def test_ctrl_c_ends_the_repeats_with_what_was_measured_and_nothing_finished_is_repeated_later(
    tmp_path: Path, believe: Believe
) -> None:
    believe(only({LUCKY: 0.01, LEAST: 0.02}))
    result, log, storage = searched(lucky), tmp_path / "log", tmp_path / "study.log"
    broken_off = confirm(
        result, deferred(log, interrupt=4), least_accuracy=LIMIT, storage=storage, study="bits"
    )
    assert broken_off.interrupted
    assert broken_off.chosen is None
    assert broken_off.measured == ()  # half of the repeats are five
    assert len(uses(log)) == 4
    chosen, measured = confirmed(result, deferred(log), storage=storage)
    assert chosen is not None
    assert short(chosen.trial.assignment) == LEAST
    assert len(uses(log)) == len(set(uses(log))) == REPEATS + HALF
    assert confirmed(result, deferred(log), storage=storage) == (chosen, measured)
    assert len(uses(log)) == REPEATS + HALF


def test_other_candidates_are_other_repeats_with_the_seeds_that_each_has(
    tmp_path: Path, believe: Believe
) -> None:
    result, log, storage = searched(lucky), tmp_path / "log", tmp_path / "study.log"
    evaluation = deferred(log, {"name": "second"})
    believe(only({LEAST: 0.02}))
    confirmed(result, evaluation, storage=storage)
    first = set(repeats(log))
    believe(only({LUCKY: 0.01, LEAST: 0.02}))
    chosen, measured = confirmed(result, evaluation, storage=storage)
    assert widths(measured) == [LUCKY, LEAST]
    assert chosen == measured[1]
    # What is measured by plan and seed is remembered so, and is not trained for again.
    assert {use for use in repeats(log) if use[2] == LEAST} == first
    assert len(set(repeats(log))) == len(first) + HALF
