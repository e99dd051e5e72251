"""The picture of a comparison: test accuracy against packed bytes, one labelled point a model."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sgq.report.columns import byte_text
from sgq.report.labels import Box, leader, place_labels
from sgq.report.rows import Family, ReportRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT, DPI = 900, 560, 100
INK = "#24292f"
LINE = "#8c959f"
POINT_RADIUS = 7.0
STYLES: dict[Family, tuple[str, str, str]] = {
    "float": ("float", "#8250df", "s"),
    "uniform": ("uniform bits", "#0a7ea4", "o"),
    "recipe": ("recipe", "#d1570a", "D"),
}
"""Family -> words in the legend, colour (readable on white and on near-black), marker."""


def picture_png(rows: Sequence[ReportRow]) -> bytes:
    """Return the picture as a PNG of 900 x 560 pixels on white."""
    with _figure(rows) as figure:
        stream = io.BytesIO()
        figure.savefig(stream, format="png", facecolor="white")
    return stream.getvalue()


def picture_svg(rows: Sequence[ReportRow]) -> str:
    """Return the picture as one `<svg>` element to be put into HTML: same rows, same text.

    Its background is transparent and its ink is the page's text colour. Nothing in it is loaded from
    elsewhere.
    """
    with _figure(rows) as figure:
        stream = io.StringIO()
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    svg = stream.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = svg.replace(INK, "currentColor").strip()
    return svg.replace("<svg ", '<svg role="img" aria-label="Test accuracy against packed bytes" ', 1)


@contextmanager
def _figure(rows: Sequence[ReportRow]) -> Iterator[Figure]:
    """Draw without pyplot, whose figures are global state and want a display."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(
        {
            "font.size": 11,
            "font.family": "DejaVu Sans",
            "svg.hashsalt": "sgq",
            "svg.fonttype": "path",
            "text.color": INK,
            "axes.edgecolor": INK,
            "axes.labelcolor": INK,
            "xtick.color": INK,
            "ytick.color": INK,
        }
    ):
        figure = Figure(figsize=(WIDTH / DPI, HEIGHT / DPI), dpi=DPI, layout="constrained")
        axes = figure.add_subplot()
        evaluated = [row for row in rows if row.accuracy_test is not None and row.packed_bytes > 0]
        _axes(axes, evaluated)
        _points(axes, evaluated)
        # The layout has to be fixed before labels are placed in pixels.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        _labels(axes, evaluated)
        yield figure


def _axes(axes: Axes, rows: Sequence[ReportRow]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log", base=2)
    axes.set_xlabel("packed bytes (modelled, log scale)")
    axes.set_ylabel("test accuracy, % (simulated)")
    axes.xaxis.set_major_locator(LogLocator(base=2, numticks=9))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda count, _: byte_text(count).replace(".00", "")))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(True, color=LINE, alpha=0.25, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if not rows:
        axes.text(0.5, 0.5, "no evaluated model", transform=axes.transAxes, ha="center")
        return
    smallest, largest = min(row.packed_bytes for row in rows), max(row.packed_bytes for row in rows)
    # At least a factor of four across, so that two powers of two lie on the axis.
    margin = max(1.3, (largest / smallest) ** 0.12, 2 * (smallest / largest) ** 0.5)
    axes.set_xlim(smallest / margin, largest * margin)
    low = min(_accuracy(row) - _spread(row) for row in rows)
    high = max(_accuracy(row) + _spread(row) for row in rows)
    room = max(1.0, 0.15 * (high - low))
    axes.set_ylim(low - room, high + room)


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
    if rows:
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=len(STYLES), frameon=False)


def _labels(axes: Axes, rows: Sequence[ReportRow]) -> None:
    if not rows:
        return
    texts = [
        axes.text(0, 0, row.name, fontsize=10, ha="center", va="center", parse_math=False) for row in rows
    ]
    extents = [text.get_window_extent() for text in texts]
    marks = []
    for row in rows:
        x, y = axes.transData.transform((row.packed_bytes, _accuracy(row)))
        _, top = axes.transData.transform((row.packed_bytes, _accuracy(row) + _spread(row)))
        marks.append(Box(float(x), float(y), 2 * POINT_RADIUS, 2 * max(POINT_RADIUS, float(top - y))))
    area = axes.get_window_extent()
    boxes = place_labels(
        marks,
        [(extent.width + 4, extent.height + 4) for extent in extents],
        bounds=Box((area.x0 + area.x1) / 2, (area.y0 + area.y1) / 2, area.width, area.height),
    )
    to_data = axes.transData.inverted()
    for text, mark, box in zip(texts, marks, boxes, strict=True):
        x, y = to_data.transform((box.x, box.y))
        text.set_position((float(x), float(y)))
        end = leader(mark, box)
        if end is not None:
            points = to_data.transform([(mark.x, mark.y), end])
            axes.plot(points[:, 0], points[:, 1], color=LINE, linewidth=0.8, zorder=1.5)
