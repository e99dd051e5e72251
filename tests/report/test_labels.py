from __future__ import annotations

from itertools import combinations

import pytest

from sgq.report.labels import Box, leader, place_labels

BOUNDS = Box(400.0, 250.0, 800.0, 500.0)


def mark(x: float, y: float) -> Box:
    return Box(x, y, 14.0, 14.0)


def test_overlap_is_the_area_that_two_boxes_share() -> None:
    assert Box(0, 0, 4, 4).overlap(Box(3, 3, 4, 4)) == 1.0
    assert Box(0, 0, 4, 4).overlap(Box(9, 0, 4, 4)) == 0.0
    assert Box(0, 0, 10, 10).overlap(Box(1, 1, 2, 2)) == 4.0, "a box inside another is covered wholly"


def test_a_lone_label_sits_right_beside_its_point() -> None:
    (label,) = place_labels([mark(400, 250)], [(60.0, 14.0)], bounds=BOUNDS)
    assert label.x > 400
    assert label.distance(400, 250) < 20
    assert leader(mark(400, 250), label) is None


def test_a_label_goes_where_it_covers_no_obstacle() -> None:
    right_side = Box(600, 250, 390, 500)
    (label,) = place_labels([mark(400, 250)], [(60.0, 14.0)], bounds=BOUNDS, obstacles=[right_side])
    assert label.overlap(right_side) == 0.0
    assert label.distance(400, 250) < 20


@pytest.mark.parametrize("gap", [0.0, 12.0, 40.0])
def test_ten_labels_of_crowded_points_cover_neither_each_other_nor_a_point(gap: float) -> None:
    marks = [mark(300 + gap * place, 250 + (place % 3) * 15) for place in range(10)]
    labels = place_labels(marks, [(120.0, 14.0)] * 10, bounds=BOUNDS)
    for one, other in combinations(labels, 2):
        assert one.overlap(other) == 0.0
    for label in labels:
        assert all(label.overlap(other) == 0.0 for other in marks)
        assert label.outside(BOUNDS) == pytest.approx(0.0)


def test_a_label_at_the_edge_stays_inside() -> None:
    (label,) = place_labels([mark(795, 495)], [(100.0, 14.0)], bounds=BOUNDS)
    assert label.outside(BOUNDS) == pytest.approx(0.0)


def test_a_label_that_is_far_from_its_point_gets_a_line_to_its_edge() -> None:
    assert leader(mark(0, 0), Box(50, 0, 20, 10)) == (40.0, 0.0)
