"""The columns of an architecture's costs, of those figures that there are."""

from __future__ import annotations

from collections.abc import Sequence

from sgq.report.columns import ABSENT, Column, byte_text, milliseconds_text
from sgq.report.cost_rows import CostReport, CostRow, CostTotal


def cost_columns(rows: Sequence[CostRow]) -> tuple[Column[CostRow], ...]:
    """Return the columns of positions: modelled and measured time where any row has them."""
    columns: list[Column[CostRow]] = [
        Column("position", lambda row: row.position, numeric=False),
        Column("operation", lambda row: row.operation, numeric=False),
        Column("in", lambda row: str(row.channels_in)),
        Column("out", lambda row: str(row.channels_out)),
        Column("bits", lambda row: row.bits, numeric=False),
        Column("MFLOP", lambda row: f"{row.flops / 1e6:.2f}", "modelled"),
        Column("moved", lambda row: byte_text(row.bytes_moved), "modelled"),
    ]
    modelled = [row.modelled_s for row in rows if row.modelled_s is not None]
    measured = [row.measured_s for row in rows if row.measured_s is not None]
    if modelled:
        whole = sum(modelled)
        columns += [
            Column("modelled ms", lambda row: _time(row.modelled_s), "modelled"),
            Column("share %", lambda row: _share(row.modelled_s, whole), "modelled"),
        ]
    if measured:
        total = sum(measured)
        columns += [
            Column("measured ms", lambda row: _time(row.measured_s) + ("*" if row.noisy else ""), "measured"),
            Column("measured %", lambda row: _share(row.measured_s, total), "measured"),
        ]
    return tuple(columns)


def total_lines(report: CostReport) -> list[str]:
    """Return what is said below the positions: the whole architecture, modelled and measured apart."""
    total = report.total
    lines = [f"{total.flops / 1e9:.2f} GFLOP · packed {byte_text(total.packed_bytes)} (modelled)"]
    modelled = f"modelled: peak {byte_text(total.modelled_peak_bytes)}"
    if total.modelled_s is not None:
        modelled += f", latency {milliseconds_text(total.modelled_s)} ms"
        if total.energy_j is not None:
            modelled += f", energy {1e3 * total.energy_j:.3g} mJ"
        modelled += f" on {total.target} ({total.source})"
    lines.append(modelled)
    if total.measured_s is not None and total.measured_peak_bytes is not None:
        lines.append(_measured(total))
    return lines


def _measured(total: CostTotal) -> str:
    quartiles = ""
    if total.lower_quartile_s is not None and total.upper_quartile_s is not None:
        low, high = milliseconds_text(total.lower_quartile_s), milliseconds_text(total.upper_quartile_s)
        quartiles = f" (quartiles {low} to {high})"
    return (
        f"measured: peak {byte_text(total.measured_peak_bytes or 0)}, a frame takes "
        f"{milliseconds_text(total.measured_s or 0.0)} ms{quartiles}"
    )


def _time(seconds: float | None) -> str:
    return ABSENT if seconds is None else milliseconds_text(seconds)


def _share(seconds: float | None, whole: float) -> str:
    return ABSENT if seconds is None or whole <= 0.0 else f"{100 * seconds / whole:.1f}"
