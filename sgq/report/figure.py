"""What the pictures share: sizes and colours, how a figure becomes PNG or SVG, the axis of memory, labels.

A picture is a function that draws on an empty matplotlib figure; `png` and `svg` call it.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from sgq.report.columns import byte_text
from sgq.report.labels import Box, leader, place_labels
from sgq.report.rows import Family

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Drawing: TypeAlias = "Callable[[Figure], None]"

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


def png(draw: Drawing, *, height: int = HEIGHT) -> bytes:
    """Return the picture as a PNG of 900 x `height` pixels on white."""
    with _figure(draw, height) as figure:
        stream = io.BytesIO()
        figure.savefig(stream, format="png", facecolor="white")
    return stream.getvalue()


def svg(draw: Drawing, *, name: str, description: str, height: int = HEIGHT) -> str:
    """Return the picture as one `<svg>` element to be put into HTML: same drawing, same text.

    Its background is transparent and its ink is the page's text colour. Nothing in it is loaded from
    elsewhere. Its ids begin with `name`, so that a page may hold several pictures; `description` is for who
    cannot see it.
    """
    with _figure(draw, height) as figure:
        stream = io.StringIO()
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    text = stream.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text)
    text = text.replace(INK, "currentColor").strip()
    return text.replace("<svg ", f'<svg role="img" aria-label="{description}" ', 1)


@contextmanager
def _figure(draw: Drawing, height: int) -> Iterator[Figure]:
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
        figure = Figure(figsize=(WIDTH / DPI, height / DPI), dpi=DPI, layout="constrained")
        draw(figure)
        yield figure


def plain_axes(axes: Axes) -> None:
    """Give axes a faint grid below everything and no frame at the top and the right."""
    axes.grid(True, color=LINE, alpha=0.25, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def memory_axes(axes: Axes, sizes: Sequence[float]) -> None:
    """Let x be packed bytes in powers of two, wide enough for all `sizes`."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log", base=2)
    axes.set_xlabel("packed bytes (modelled, log scale)")
    axes.xaxis.set_major_locator(LogLocator(base=2, numticks=9))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda count, _: tick_text(count)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    plain_axes(axes)
    if sizes:
        smallest, largest = min(sizes), max(sizes)
        # At least a factor of four across, so that two powers of two lie on the axis.
        margin = max(1.3, (largest / smallest) ** 0.12, 2 * (smallest / largest) ** 0.5)
        axes.set_xlim(smallest / margin, largest * margin)


def tick_text(count: float) -> str:
    """Return bytes as `byte_text` does, without a fraction of zero."""
    return re.sub(r"\.0+ ", " ", byte_text(count))


def instead(axes: Axes, words: str) -> None:
    """Write in the middle of empty axes why they are empty."""
    axes.text(0.5, 0.5, words, transform=axes.transAxes, ha="center")


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """A point that gets a label, in data units; `spread` is half the length of its error bar."""

    name: str
    x: float
    y: float
    spread: float = 0.0


def label_points(axes: Axes, points: Sequence[Labelled], *, obstacles: Sequence[Box] = ()) -> None:
    """Write every point's name beside it, with a line to it where the name had to go far.

    `fix_layout` comes first, and nothing that moves the axes after it.
    """
    if not points:
        return
    texts = [
        axes.text(0, 0, point.name, fontsize=10, ha="center", va="center", parse_math=False)
        for point in points
    ]
    extents = [extent_of(text) for text in texts]
    marks = []
    for point in points:
        x, y = axes.transData.transform((point.x, point.y))
        _, top = axes.transData.transform((point.x, point.y + point.spread))
        marks.append(Box(float(x), float(y), 2 * POINT_RADIUS, 2 * max(POINT_RADIUS, float(top - y))))
    boxes = place_labels(
        marks,
        [(extent.width + 4, extent.height + 4) for extent in extents],
        bounds=extent_of(axes),
        obstacles=obstacles,
    )
    to_data = axes.transData.inverted()
    for text, mark, box in zip(texts, marks, boxes, strict=True):
        x, y = to_data.transform((box.x, box.y))
        text.set_position((float(x), float(y)))
        end = leader(mark, box)
        if end is not None:
            ends = to_data.transform([(mark.x, mark.y), end])
            axes.plot(ends[:, 0], ends[:, 1], color=LINE, linewidth=0.8, zorder=1.5)


def extent_of(artist: Artist) -> Box:
    """Return the area that something drawn covers, in pixels."""
    area = artist.get_window_extent()
    return Box((area.x0 + area.x1) / 2, (area.y0 + area.y1) / 2, area.width, area.height)


def fix_layout(figure: Figure) -> None:
    """Lay the figure out and keep it so: labels are placed in pixels."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
