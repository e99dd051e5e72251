"""The picture of a search's progress: hypervolume, and packed bytes of the best trial, by evaluations."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import ceil, log2
from typing import TYPE_CHECKING

from sgq.report import figure as shared
from sgq.report.study_rows import StudyReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEIGHT = 280
COLOUR = "#0a7ea4"


def curve_svg(study: StudyReport) -> str:
    """Return the picture as one `<svg>` element of 900 x 280; see `sgq.report.figure.svg`."""
    description = "Hypervolume and packed bytes of the best trial by evaluations"
    return shared.svg(partial(_draw, study), name="curve", description=description, height=HEIGHT)


def _draw(study: StudyReport, figure: Figure) -> None:
    volume, size = figure.subplots(1, 2)
    _steps(volume, study.hypervolume, "no hypervolume")
    volume.set_title("hypervolume of the front", fontsize=11)
    best = [(evaluations, trial.packed_bytes) for evaluations, trial in study.best_so_far]
    _steps(size, best, "no finished trial inside the limits")
    size.set_title("packed bytes of the best so far (modelled)", fontsize=11)
    _bytes_up(size, [count for _, count in best])


def _steps(axes: Axes, pairs: Sequence[tuple[int, float]], absent: str) -> None:
    shared.plain_axes(axes)
    axes.set_xlabel("evaluations")
    if not pairs:
        shared.instead(axes, absent)
        return
    evaluations, figures = zip(*pairs, strict=True)
    # A lone evaluation is a point, which no line shows.
    axes.plot(evaluations, figures, "." if len(pairs) == 1 else "", drawstyle="steps-post", color=COLOUR)
    axes.locator_params(axis="x", integer=True)


def _bytes_up(axes: Axes, sizes: Sequence[float]) -> None:
    """Put about five ticks, at multiples of a power of two, on an axis of bytes."""
    from matplotlib.ticker import FuncFormatter, MultipleLocator

    if sizes:
        span = max(max(sizes) - min(sizes), max(sizes) / 8, 8.0)
        axes.yaxis.set_major_locator(MultipleLocator(2.0 ** ceil(log2(span / 5))))
        axes.set_ylim(min(sizes) - span / 10, max(sizes) + span / 10)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda count, _: shared.tick_text(count)))
