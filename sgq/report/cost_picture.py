"""The picture of an architecture's costs: stacked bars of time by position, modelled beside measured."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from sgq.report.columns import milliseconds_text
from sgq.report.cost_rows import CostReport, CostRow
from sgq.report.figure import instead, plain_axes, png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#0a7ea4", "#d1570a", "#8250df", "#1a7f37", "#bf8700", "#cf222e", "#57606a", "#3b82f6")
LEAST_SHARE = 0.03
"""Positions that take less are in the bars, without a name of their own."""


def cost_png(report: CostReport) -> bytes:
    """Return the picture as a PNG of 900 x 560 pixels on white."""
    return png(partial(_draw, report))


def _draw(report: CostReport, figure: Figure) -> None:
    axes = figure.add_subplot()
    plain_axes(axes)
    modelled = f"modelled on {report.total.target}"
    bars = [
        (name, [(row, seconds(row)) for row in report.rows])
        for name, seconds in ((modelled, _modelled), ("measured here", _measured))
        if any(seconds(row) for row in report.rows)
    ]
    axes.set_title(report.title, loc="left")
    if not bars:
        instead(axes, "no times: name a --target, or ask for --measure")
        return
    colours = {row.position: COLOURS[at % len(COLOURS)] for at, row in enumerate(report.rows)}
    for at, (name, parts) in enumerate(bars):
        total = sum(seconds for _, seconds in parts)
        left = 0.0
        for row, seconds in parts:
            axes.barh(at, 1e3 * seconds, left=1e3 * left, height=0.6, color=colours[row.position], ec="white")
            if seconds >= LEAST_SHARE * total:
                # The number inside, the operation's name in the legend below.
                axes.text(
                    1e3 * (left + seconds / 2), at, row.position, ha="center", va="center", color="white"
                )
            left += seconds
        axes.text(1e3 * total, at, f"  {milliseconds_text(total)} ms {name}", va="center")
    axes.set_yticks([])
    axes.set_xlim(0.0, 1.5e3 * max(sum(seconds for _, seconds in parts) for _, parts in bars))
    axes.set_xlabel("milliseconds, the kernel calls of each position")
    named = [row for row in report.rows if any(row in _large(parts) for _, parts in bars)]
    handles = [_patch(colours[row.position], f"{row.position} {row.operation}") for row in named]
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(0.0, -0.14), ncols=3, frameon=False)


def _modelled(row: CostRow) -> float:
    return row.modelled_s or 0.0


def _measured(row: CostRow) -> float:
    return row.measured_s or 0.0


def _large(parts: list[tuple[CostRow, float]]) -> list[CostRow]:
    total = sum(seconds for _, seconds in parts)
    return [row for row, seconds in parts if seconds >= LEAST_SHARE * total]


def _patch(colour: str, label: str) -> object:
    from matplotlib.patches import Patch

    return Patch(color=colour, label=label)
