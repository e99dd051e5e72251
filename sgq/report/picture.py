"""The picture of a comparison: test accuracy against packed bytes, one labelled point a model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from sgq.report.figure import STYLES, Labelled, fix_layout, instead, label_points, memory_axes, png, svg
from sgq.report.rows import ReportRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def picture_png(rows: Sequence[ReportRow]) -> bytes:
    """Return the picture as a PNG of 900 x 560 pixels on white."""
    return png(partial(_draw, rows))


def picture_svg(rows: Sequence[ReportRow]) -> str:
    """Return the picture as one `<svg>` element to be put into HTML; see `sgq.report.figure.svg`."""
    return svg(partial(_draw, rows), name="models", description="Test accuracy against packed bytes")


def _draw(rows: Sequence[ReportRow], figure: Figure) -> None:
    axes = figure.add_subplot()
    evaluated = [row for row in rows if row.accuracy_test is not None and row.packed_bytes > 0]
    memory_axes(axes, [row.packed_bytes for row in evaluated])
    axes.set_ylabel("test accuracy, % (simulated)")
    if not evaluated:
        instead(axes, "no evaluated model")
        return
    low = min(_accuracy(row) - _spread(row) for row in evaluated)
    high = max(_accuracy(row) + _spread(row) for row in evaluated)
    room = max(1.0, 0.15 * (high - low))
    axes.set_ylim(low - room, high + room)
    _points(axes, evaluated)
    fix_layout(figure)
    label_points(
        axes,
        [
            Labelled(name=row.name, x=row.packed_bytes, y=_accuracy(row), spread=_spread(row))
            for row in evaluated
        ],
    )


def _accuracy(row: ReportRow) -> float:
    return 100 * (row.accuracy_test or 0.0)


def _spread(row: ReportRow) -> float:
    return 100 * (row.accuracy_std or 0.0)


def _points(axes: Axes, rows: Sequence[ReportRow]) -> None:
    for family, (words, colour, marker) in STYLES.items():
        members = [row for row in rows if row.family == family]
        if not members:
            continue
        sizes, accuracies = [row.packed_bytes for row in members], [_accuracy(row) for row in members]
        axes.plot(sizes, accuracies, marker, color=colour, markersize=8, label=words)
        for row in members:
            if row.accuracy_std:
                axes.errorbar(
                    row.packed_bytes, _accuracy(row), yerr=_spread(row), fmt="none", ecolor=colour, capsize=3
                )
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=len(STYLES), frameon=False)
