"""Standard errors of drops, by hand and against what they estimate."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sgq.bits.changes import Changes, joint_error
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


@pytest.mark.parametrize(
    "changes", [Changes(5), Changes(9, (1, 2)), Changes(7, (), (6,)), Changes(8, (0,), (1, 7))]
)
def test_text_is_read_back(changes: Changes) -> None:
    assert Changes.parse(str(changes)) == changes


@pytest.mark.parametrize("text", ["", "5", "5;1", "x;1;2", "5;a;", "5;1;2;3"])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(SearchError, match="expected changed rows as rows;wrong;right"):
        Changes.parse(text)
