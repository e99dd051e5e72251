"""The picture of a study: validation accuracy against packed bytes, one point a trial.

The front is a step line that is read to the right: with so much memory, the best accuracy that fits.
References and the best trial are labelled. What lies far below those is named or counted, not drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

from sgq.report import figure as shared
from sgq.report.columns import byte_text, percent_text
from sgq.report.figure import INK, STYLES, Labelled
from sgq.report.labels import Box
from sgq.report.study_rows import ReferenceRow, StudyReport, TrialRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DEPTH = 10.0
"""How many points of accuracy are shown under the highest reference or the best trial."""

TRIAL, FRONT, BEST = "#7d8590", "#1f9d55", "#e5534b"
"""Colours that are readable on white and on near-black."""

CELL = 6.0
"""Points within one square of so many pixels are one obstacle for labels: a thousand would take seconds."""

THICK = 3.0

Point: TypeAlias = tuple[float, float]
Placed: TypeAlias = TrialRow | ReferenceRow


def study_png(study: StudyReport) -> bytes:
    """Return the picture as a PNG of 900 x 560 pixels on white."""
    return shared.png(partial(_draw, study))


def study_svg(study: StudyReport) -> str:
    """Return the picture as one `<svg>` element to be put into HTML; see `sgq.report.figure.svg`."""
    description = f"Validation accuracy against packed bytes of {len(study.trials)} trials"
    return shared.svg(partial(_draw, study), name="study", description=description)


@dataclass(frozen=True)
class _View:
    """What of a study is drawn, accuracies in percent, and in words what is too low (`below`)."""

    trials: tuple[TrialRow, ...]
    references: tuple[ReferenceRow, ...]
    best: ReferenceRow | None
    limit: float | None
    most_bytes: float | None
    front: tuple[Point, ...]
    below: str

    @property
    def points(self) -> list[Point]:
        rows: list[Placed] = [*self.trials, *self.references]
        return [_point(row) for row in rows]


def _view(study: StudyReport) -> _View:
    trials = [trial for trial in study.trials if trial.state != "failed" and _has_place(trial)]
    references = [row for row in study.references if _has_place(row)]
    best = study.best_row
    best = best if best is not None and _has_place(best) else None
    marked: list[Placed] = [*references, *([] if best is None else [best])]
    floor = max((_percent(row) for row in marked or trials), default=0.0) - DEPTH
    if best is not None:
        # The picture is about the best trial: it stays in sight where a reference is far above it.
        floor = min(floor, _percent(best) - 1.0)
    limit = None if study.limit_accuracy is None else 100 * study.limit_accuracy
    seen = tuple(trial for trial in trials if _percent(trial) >= floor)
    front = [_point(trial) for trial in study.front if _has_place(trial)]
    reached = accumulate((accuracy for _, accuracy in front), max)
    return _View(
        trials=seen,
        references=tuple(row for row in references if _percent(row) >= floor),
        best=best,
        limit=limit if limit is not None and limit >= floor else None,
        most_bytes=study.limit_bytes,
        front=tuple((size, accuracy) for (size, _), accuracy in zip(front, reached, strict=True)),
        below=_below(
            len(trials) - len(seen),
            [row for row in references if _percent(row) < floor],
            limit if limit is not None and limit < floor else None,
        ),
    )


def _below(trials: int, references: Sequence[ReferenceRow], limit: float | None) -> str:
    """Return in words what is too low to be drawn."""
    parts = [f"{trials} trial{'s' if trials > 1 else ''}"] if trials else []
    parts += [f"{row.name} ({percent_text(row.accuracy_val)} %)" for row in references]
    parts += [] if limit is None else [f"limit ({percent_text(limit / 100)} %)"]
    return f"↓ {', '.join(parts)} below" if parts else ""


def _has_place(row: Placed) -> bool:
    return row.accuracy_val is not None and row.packed_bytes > 0


def _percent(row: Placed) -> float:
    return 100 * (row.accuracy_val or 0.0)


def _point(row: Placed) -> Point:
    return row.packed_bytes, _percent(row)


def _draw(study: StudyReport, figure: Figure) -> None:
    axes = figure.add_subplot()
    view = _view(study)
    sizes = [size for size, _ in view.points]
    shared.memory_axes(axes, [*sizes, *([view.most_bytes] if view.most_bytes else [])] if sizes else [])
    axes.set_ylabel("validation accuracy, % (simulated)")
    if not sizes:
        shared.instead(axes, "no evaluated trial")
        return
    _height(axes, view)
    _trials(axes, view)
    lines = [_front(axes, view), *_limits(axes, view)]
    below = axes.text(
        0.992, 0.012, view.below, transform=axes.transAxes, fontsize=9.5, ha="right", parse_math=False
    )
    labels = [*_references(axes, view), *_best(axes, view)]
    # Above the words of a limit on memory, where there is one.
    anchor = (0.0, 1.045 if view.most_bytes else 1.0)
    if view.trials:
        axes.legend(loc="lower left", bbox_to_anchor=anchor, ncols=3, frameon=False)
    shared.fix_layout(figure)
    obstacles = [*_cells(axes, view.points), *(box for line in lines for box in _along(axes, line))]
    shared.label_points(axes, labels, obstacles=[shared.extent_of(below), *obstacles])


def _height(axes: Axes, view: _View) -> None:
    """Let y hold all that is drawn, and a strip below it for the words about what is not."""
    accuracies = [accuracy for _, accuracy in view.points] + ([] if view.limit is None else [view.limit])
    low, high = min(accuracies), max(accuracies)
    room = max(0.5, 0.08 * (high - low))
    axes.set_ylim(low - room, high + 1.5 * room)


def _trials(axes: Axes, view: _View) -> None:
    for state, face, edge, opacity, words in (
        ("finished", TRIAL, "none", 0.7, "finished trial"),
        ("stopped", "none", TRIAL, 0.65, "stopped early (smaller budget)"),
    ):
        points = [_point(trial) for trial in view.trials if trial.state == state]
        _scatter(
            axes,
            points,
            "o",
            markersize=4.5,
            markerfacecolor=face,
            markeredgecolor=edge,
            alpha=opacity,
            label=words,
        )


def _front(axes: Axes, view: _View) -> list[Point]:
    """Draw the front and return the corners of its line."""
    if not view.front:
        return []
    corners = [view.front[0]]
    for (_, before), (size, accuracy) in pairwise(view.front):
        corners += [(size, before), (size, accuracy)]
    corners.append((axes.get_xlim()[1], view.front[-1][1]))
    across, along = zip(*corners, strict=True)
    axes.plot(across, along, color=FRONT, linewidth=1.6, zorder=2.2, label="front")
    _scatter(axes, view.front, "o", markersize=5, color=FRONT, zorder=2.3)
    return corners


def _limits(axes: Axes, view: _View) -> Iterator[list[Point]]:
    """Draw the limits, with their values outside of the axes, and yield their ends."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    dashed: dict[str, Any] = {"color": INK, "linewidth": 0.9, "linestyle": (0, (5, 4)), "zorder": 1.6}
    if view.limit is not None:
        axes.axhline(view.limit, **dashed)
        words = f"limit\n{percent_text(view.limit / 100)} %"
        axes.text(1.006, view.limit, words, transform=axes.get_yaxis_transform(), fontsize=9.5, va="center")
        yield [(left, view.limit), (right, view.limit)]
    if view.most_bytes:
        axes.axvline(view.most_bytes, **dashed)
        words = f"limit {byte_text(view.most_bytes)}"
        axes.text(
            view.most_bytes, 1.006, words, transform=axes.get_xaxis_transform(), fontsize=9.5, ha="center"
        )
        yield [(view.most_bytes, low), (view.most_bytes, high)]


def _references(axes: Axes, view: _View) -> Iterator[Labelled]:
    for row in view.references:
        _, colour, marker = STYLES[row.family]
        _scatter(axes, [_point(row)], marker, markersize=8, color=colour, zorder=3)
        yield Labelled(name=row.name, x=row.packed_bytes, y=_percent(row))


def _best(axes: Axes, view: _View) -> Iterator[Labelled]:
    if view.best is None:
        return
    ring = {"markerfacecolor": "none", "markeredgecolor": BEST, "markeredgewidth": 2.0}
    _scatter(axes, [_point(view.best)], "o", markersize=14, zorder=4, **ring)
    yield Labelled(name=view.best.name, x=view.best.packed_bytes, y=_percent(view.best))


def _scatter(axes: Axes, points: Sequence[Point], marker: str, **style: Any) -> None:
    if points:
        across, along = zip(*points, strict=True)
        axes.plot(across, along, marker, **style)


def _cells(axes: Axes, points: Sequence[Point]) -> list[Box]:
    """Return the squares of the picture that have points in them."""
    pixels = axes.transData.transform(points)
    cells = {(int(x // CELL), int(y // CELL)) for x, y in pixels}
    return [Box((column + 0.5) * CELL, (row + 0.5) * CELL, CELL, CELL) for column, row in sorted(cells)]


def _along(axes: Axes, line: Sequence[Point]) -> Iterator[Box]:
    """Yield the upright and level pieces of a line as thin boxes."""
    for (x, y), (end_x, end_y) in pairwise(axes.transData.transform(line) if line else ()):
        yield Box((x + end_x) / 2, (y + end_y) / 2, abs(end_x - x) + THICK, abs(end_y - y) + THICK)
