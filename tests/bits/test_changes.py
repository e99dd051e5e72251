"""Standard errors of drops, by hand and against what they estimate."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sgq.bits.changes import Changes, independent_error, joint_error, two_way_error
from sgq.errors import SearchError


def test_the_error_of_one_run_by_hand() -> None:
    changes = Changes(100, wrong=(1, 2, 3, 4, 5), right=(7, 8, 9))
    assert changes.drop == pytest.approx(0.02)
    assert changes.error == pytest.approx(math.sqrt(8 - 4 / 100) / 100)
    assert joint_error([changes]) == pytest.approx(changes.error)
    assert Changes(100).error == 0.0


def test_repeats_on_the_same_nodes_do_not_make_the_error_vanish() -> None:
    changes = Changes(100, wrong=(1, 2, 3, 4))
    assert joint_error([changes] * 10) == pytest.approx(changes.error)


def test_runs_on_other_nodes_halve_it_four_at_a_time() -> None:
    runs = [
        Changes(100, wrong=(10 * run, 10 * run + 1), right=(10 * run + 2, 10 * run + 3)) for run in range(4)
    ]
    assert joint_error(runs) == pytest.approx(runs[0].error / 2)


def test_a_node_that_goes_both_ways_cancels() -> None:
    assert joint_error([Changes(10, wrong=(3,)), Changes(10, right=(3,))]) == 0.0


def test_the_joint_error_is_the_spread_of_means_over_samples_of_nodes() -> None:
    generator = np.random.default_rng(0)
    means, errors = [], []
    for _ in range(400):
        # Each node has its own chance to change, which all runs share.
        chance = generator.beta(0.3, 6.0, size=500)
        runs = []
        for _ in range(5):
            changed = generator.random(500) < chance
            up = generator.random(500) < 0.4
            wrong, right = np.flatnonzero(changed & ~up), np.flatnonzero(changed & up)
            runs.append(Changes(500, tuple(wrong.tolist()), tuple(right.tolist())))
        means.append(np.mean([run.drop for run in runs]))
        errors.append(joint_error(runs))
    assert np.mean(errors) == pytest.approx(np.std(means), rel=0.1)


def test_what_is_in_both_errors_counts_once() -> None:
    assert two_way_error(0.3, 0.4, 0.0) == pytest.approx(0.5)
    assert two_way_error(0.3, 0.4, 0.3) == pytest.approx(0.4)
    assert two_way_error(0.4, 0.4, 0.2) == pytest.approx(math.sqrt(0.28))
    # By chance the part in common comes out as more than the smaller of both.
    assert two_way_error(0.1, 0.4, 0.3) == 0.4
    assert two_way_error(0.5, 0.1, 0.4) == 0.5


def test_runs_that_change_nodes_by_themselves_have_nothing_but_the_part_in_common() -> None:
    runs = [Changes(100, wrong=(10 * run, 10 * run + 1), right=(10 * run + 2,)) for run in range(4)]
    assert independent_error(runs) == pytest.approx(joint_error(runs), rel=0.01)
    assert independent_error(runs[:1]) == runs[0].error


def test_the_two_way_error_is_the_spread_of_means_over_samples_of_runs_and_nodes() -> None:
    chance = np.random.default_rng(6)
    nodes, runs, drops, errors, doubled = 250, 8, [], [], []
    for _ in range(300):
        of_node, of_run = chance.uniform(0.0, 0.1, nodes), chance.uniform(-0.04, 0.04, runs)
        found = []
        for run in range(runs):
            drawn = chance.random(nodes)
            wrong = np.flatnonzero(drawn < of_node + 0.02 + of_run[run])
            right = np.flatnonzero(drawn > 1.0 - 0.04)
            found.append(Changes(nodes, tuple(wrong.tolist()), tuple(right.tolist())))
        own = np.array([changes.drop for changes in found])
        over_runs = float(own.std(ddof=1)) / math.sqrt(runs)
        drops.append(own.mean())
        errors.append(two_way_error(over_runs, joint_error(found), independent_error(found)))
        doubled.append(math.hypot(over_runs, joint_error(found)))
    assert np.mean(errors) == pytest.approx(np.std(drops), rel=0.12)
    assert np.mean(doubled) > 1.1 * np.mean(errors)


def test_changes_since_another_run_are_those_between_both_models() -> None:
    rights = np.random.default_rng(3).random((3, 200)) < 0.7
    first, second, third = rights

    def between(before: np.ndarray, after: np.ndarray) -> Changes:
        wrong, right = np.flatnonzero(before & ~after), np.flatnonzero(after & ~before)
        return Changes(200, tuple(wrong.tolist()), tuple(right.tolist()))

    assert between(first, third).since(between(first, second)) == between(second, third)
    assert between(first, second).since(Changes(200)) == between(first, second)
    assert between(first, second).since(between(first, second)) == Changes(200)


def test_the_share_of_flipped_rows_is_of_all_that_were_seen() -> None:
    run = Changes(5, wrong=(1,), seen=20, flipped=(1, 4, 7, 9))
    other = Changes(5, seen=20, flipped=(4, 9, 11))
    assert run.flipped_share == 0.2
    assert run.since(other).flipped == (1, 7, 11)
    assert run.since(other).flipped_share == 0.15
    assert run.since(run).flipped_share == 0.0
    assert run.since(Changes(5)).flipped_share is None


@pytest.mark.parametrize(
    "changes",
    [
        Changes(5),
        Changes(9, (1, 2)),
        Changes(7, (), (6,)),
        Changes(8, (0,), (1, 7)),
        Changes(8, (0,), (1, 7), seen=20, flipped=(0, 1, 7, 19)),
    ],
)
def test_text_is_read_back(changes: Changes) -> None:
    assert Changes.parse(str(changes)) == changes


@pytest.mark.parametrize("text", ["", "5", "5;1", "5;1;2", "x;1;2;3;", "5;a;;3;", "5;1;2;3;4;5"])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(SearchError, match="expected changed rows as rows;wrong;right"):
        Changes.parse(text)
