"""What an architecture costs, position by position: rows of plain data for tables and pictures."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CostRow:
    """One position of an architecture; seconds are None where they were not asked for.

    `measured_s` is that of its kernel calls, each timed alone.
    """

    position: str
    operation: str
    channels_in: int
    channels_out: int
    bits: str
    flops: int
    bytes_moved: float
    modelled_s: float | None = None
    measured_s: float | None = None
    noisy: bool = False


@dataclass(frozen=True)
class CostTotal:
    """A whole architecture; measured seconds are those of a frame, from features to logits.

    Modelled seconds are those of the device `target`, found as `source` says.
    """

    name: str
    source: str | None
    target: str | None
    flops: int
    packed_bytes: int
    modelled_peak_bytes: int
    modelled_s: float | None = None
    energy_j: float | None = None
    measured_s: float | None = None
    lower_quartile_s: float | None = None
    upper_quartile_s: float | None = None
    measured_peak_bytes: int | None = None


@dataclass(frozen=True)
class CostReport:
    """The positions of an architecture, its total, and what a reader has to know."""

    title: str
    rows: tuple[CostRow, ...]
    total: CostTotal
    notes: tuple[str, ...] = ()
