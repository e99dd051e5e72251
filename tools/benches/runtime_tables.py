"""The tables of the runtime suite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from benches.tables import empty_table

if TYPE_CHECKING:
    from rich.table import Table

    from benches.kernels import KernelRow
    from benches.models import ModelRow

ABSENT = "–"


def kernel_table(rows: Sequence[KernelRow], stream: float) -> Table:
    """Return one line a kernel: its time, and its share of what streaming reaches."""
    table = empty_table(
        f"kernels, measured; memory streams at {stream / 1e9:.1f} GB/s here",
        ("kernel", "graph", "runs as"),
        ("ms", "quartiles", "x torch csr", "GB/s", "share of limit", "once each"),
    )
    for row in rows:
        table.add_row(
            row.kernel,
            row.graph,
            row.runs_as,
            *_milliseconds(row.median_s, row.lower_quartile_s, row.upper_quartile_s),
            ABSENT if row.speedup is None else f"{row.speedup:.2f}",
            f"{row.gathered_bytes / row.median_s / 1e9:.1f}",
            f"{row.limit_share:.0%}",
            f"{row.compulsory_share:.0%}",
        )
    return table


def model_table(rows: Sequence[ModelRow]) -> Table:
    """Return one line a way to run a model."""
    table = empty_table(
        "whole models, measured",
        ("model", "data", "runs as"),
        ("ms", "quartiles", "speedup", "peak MiB", "no features", "argmax equal"),
    )
    for row in rows:
        peaks = (row.peak_bytes, row.peak_without_features_bytes)
        table.add_row(
            row.model,
            row.data,
            row.runs_as,
            *_milliseconds(row.median_s, row.lower_quartile_s, row.upper_quartile_s),
            f"{row.speedup:.2f}",
            *(ABSENT if peak is None else f"{peak / 2**20:.1f}" for peak in peaks),
            ABSENT if row.agreement is None else f"{row.agreement:.2%}",
        )
    return table


def summary_table(
    summary: Mapping[str, float], aims: Mapping[str, float], beside: Mapping[str, float]
) -> Table:
    """Return the figures that have an aim, whether they meet it, and those `beside` with prepare() timed."""
    table = empty_table("summary", ("key",), ("measured", "aim", "", "with prepare"))
    for key, aim in aims.items():
        figure = summary.get(key)
        met = "not run" if figure is None else "met" if figure >= aim else "MISSED"
        prepared = f"{beside[key]:.2f}" if key in beside else ""
        table.add_row(key, ABSENT if figure is None else f"{figure:.2f}", f">= {aim:g}", met, prepared)
    return table


def _milliseconds(median_s: float, lower_s: float, upper_s: float) -> tuple[str, str]:
    return f"{median_s * 1e3:.2f}", f"{lower_s * 1e3:.2f}–{upper_s * 1e3:.2f}"
