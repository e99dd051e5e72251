"""The front and the hypervolume, against the definitions counted out point by point."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgq.bits.front import Frame, front_of, hypervolume

SIDE = 20
GRID = Frame(narrowest_bytes=0.0, widest_bytes=float(SIDE), worst=0.0, best=float(SIDE))
"""A frame of SIDE by SIDE cells; accuracies are no shares here, so that all numbers are whole."""

points = st.lists(st.tuples(st.integers(-3, SIDE + 3), st.integers(-3, SIDE + 3)), max_size=12)


def arrays(rows: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Return memory and accuracy of points."""
    table = np.array(rows, dtype=float).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def beaten(point: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether another point has at most the memory and at least the accuracy, and is not the same."""
    return other[0] <= point[0] and other[1] >= point[1] and other != point


@settings(max_examples=200, deadline=None)
@given(points)
def test_the_front_is_what_nothing_beats_in_both(rows: list[tuple[int, int]]) -> None:
    front = front_of(*arrays(rows)).tolist()
    unbeaten = {row for row in rows if not any(beaten(row, other) for other in rows)}
    assert {rows[index] for index in front} == unbeaten
    assert len(front) == len(unbeaten)
    assert front == [rows.index(rows[index]) for index in front]  # of equal points the first
    assert all(
        rows[left][0] < rows[right][0] and rows[left][1] < rows[right][1] for left, right in pairwise(front)
    )


@settings(max_examples=200, deadline=None)
@given(points)
def test_the_hypervolume_is_the_share_of_cells_that_some_point_dominates(rows: list[tuple[int, int]]) -> None:
    cells = sum(
        any(memory <= column and accuracy >= row + 1 for memory, accuracy in rows)
        for column in range(SIDE)
        for row in range(SIDE)
    )
    assert hypervolume(*arrays(rows), GRID) == pytest.approx(cells / SIDE**2, abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(points, st.tuples(st.integers(-3, SIDE + 3), st.integers(-3, SIDE + 3)))
def test_another_point_never_makes_the_hypervolume_smaller(
    rows: list[tuple[int, int]], more: tuple[int, int]
) -> None:
    before, after = hypervolume(*arrays(rows), GRID), hypervolume(*arrays([*rows, more]), GRID)
    assert 0.0 <= before <= after + 1e-12
    assert after <= 1.0
    if any(beaten(more, row) or row == more for row in rows):
        assert after == pytest.approx(before)


def test_nothing_measured_has_no_front_and_no_hypervolume() -> None:
    nothing = np.zeros(0)
    assert front_of(nothing, nothing).tolist() == []
    assert hypervolume(nothing, nothing, GRID) == 0.0


def test_two_points_by_hand() -> None:
    # From 100 to 200 bytes and from 80 to 90 %: half the width at 50 %, the other half at all of the height.
    frame = Frame.below(0.9, 100.0, 200.0)
    assert (frame.worst, frame.best) == (pytest.approx(0.8), 0.9)
    memory, accuracy = np.array([150.0, 100.0, 160.0]), np.array([0.9, 0.85, 0.89])
    assert front_of(memory, accuracy).tolist() == [1, 0]
    assert hypervolume(memory, accuracy, frame) == pytest.approx(0.5 * 0.5 + 0.5 * 1.0)


def test_what_is_outside_the_frame_counts_up_to_its_edge() -> None:
    assert hypervolume(np.array([-5.0]), np.array([99.0]), GRID) == 1.0
    assert hypervolume(np.array([SIDE + 1.0]), np.array([99.0]), GRID) == 0.0
    assert hypervolume(np.array([0.0]), np.array([-1.0]), GRID) == 0.0


def test_a_frame_without_width_does_not_divide_by_it() -> None:
    frame = Frame.below(0.9, 100.0, 100.0)
    assert hypervolume(np.array([100.0]), np.array([0.85]), frame) == pytest.approx(0.5)
    assert hypervolume(np.array([101.0]), np.array([0.85]), frame) == 0.0
