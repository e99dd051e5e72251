"""Where the labels of a few points go so that each is read as its own point's and covers nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import cos, hypot, pi, sin

DIRECTIONS = 24
REACH = (12.0, 22.0, 34.0, 48.0, 64.0, 82.0, 104.0, 130.0)
NEAR = 20.0
LINE_STEP = 6.0


@dataclass(frozen=True)
class Box:
    """A rectangle: its centre and its size, in pixels."""

    x: float
    y: float
    width: float
    height: float

    def overlap(self, other: Box) -> float:
        """Return the area that both cover."""
        across = min(self.width, other.width, (self.width + other.width) / 2 - abs(self.x - other.x))
        along = min(self.height, other.height, (self.height + other.height) / 2 - abs(self.y - other.y))
        return max(0.0, across) * max(0.0, along)

    def outside(self, bounds: Box) -> float:
        """Return the area that lies outside `bounds`."""
        return self.width * self.height - self.overlap(bounds)

    def nearest(self, x: float, y: float) -> tuple[float, float]:
        """Return the point of the box that is nearest to (x, y)."""
        half_width, half_height = self.width / 2, self.height / 2
        return (
            min(max(x, self.x - half_width), self.x + half_width),
            min(max(y, self.y - half_height), self.y + half_height),
        )

    def distance(self, x: float, y: float) -> float:
        """Return how far (x, y) is from the box, 0 inside it."""
        near_x, near_y = self.nearest(x, y)
        return hypot(near_x - x, near_y - y)


def place_labels(
    marks: Sequence[Box],
    sizes: Sequence[tuple[float, float]],
    *,
    bounds: Box,
    obstacles: Sequence[Box] = (),
) -> list[Box]:
    """Return one box a label, near the centre of its mark.

    `marks` are the drawn points with their error bars, `sizes` the labels' (width, height), in pixels, and
    `obstacles` are what has no label itself. Labels are placed one after the other. The first concern is
    what a label covers: marks, other labels, obstacles, anything out of bounds. The second is how it reads:
    leaders that cross something, another mark that is nearer than its own, distance.
    """
    placed: list[Box] = []
    lines: list[Box] = []
    for mark, size in zip(marks, sizes, strict=True):
        reached = Box(mark.x, mark.y, 2 * (REACH[-1] + size[0]), 2 * (REACH[-1] + size[1]))
        near = [obstacle for obstacle in obstacles if obstacle.overlap(reached)]
        label = min(_candidates(mark, size), key=partial(_cost, mark, marks, placed, lines, near, bounds))
        placed.append(label)
        lines += _leader_dots(mark, label)
    return placed


def leader(mark: Box, label: Box) -> tuple[float, float] | None:
    """Return where on the label a line from the mark should end; None when it is near enough."""
    return None if label.distance(mark.x, mark.y) <= NEAR else label.nearest(mark.x, mark.y)


def _cost(
    mark: Box,
    marks: Sequence[Box],
    placed: Sequence[Box],
    lines: Sequence[Box],
    obstacles: Sequence[Box],
    bounds: Box,
    label: Box,
) -> tuple[float, float, float]:
    """Return what the label covers, how badly it reads, and how far left it is: smaller is better."""
    others = [other for other in marks if other is not mark]
    covered = sum(label.overlap(other) for other in (*marks, *placed, *obstacles)) + label.outside(bounds)
    crossing = sum(label.overlap(dot) for dot in lines)
    crossing += sum(dot.overlap(other) for dot in _leader_dots(mark, label) for other in (*placed, *others))
    own = label.distance(mark.x, mark.y)
    rival = min((label.distance(other.x, other.y) for other in others), default=own + LINE_STEP)
    misread = max(0.0, own + LINE_STEP - rival)
    # Rounded, so that the last bit of a float does not outweigh what is read.
    return round(covered, 3), round(10 * crossing + 6 * misread + own, 3), mark.x - label.x


def _candidates(mark: Box, size: tuple[float, float]) -> Iterator[Box]:
    width, height = size
    for reach in REACH:
        for step in range(DIRECTIONS):
            angle = 2 * pi * step / DIRECTIONS
            # The label's edge, not its centre, is `reach` away from the mark.
            x = mark.x + cos(angle) * (reach + width / 2)
            y = mark.y + sin(angle) * (reach + height / 2)
            yield Box(x, y, width, height)


def _leader_dots(mark: Box, label: Box) -> Iterator[Box]:
    """Yield small boxes along the leader, so that a line can be held against areas."""
    end = leader(mark, label)
    if end is None:
        return
    steps = int(hypot(end[0] - mark.x, end[1] - mark.y) / LINE_STEP)
    for step in range(1, steps):
        part = step / steps
        yield Box(mark.x + part * (end[0] - mark.x), mark.y + part * (end[1] - mark.y), 2.0, 2.0)
