"""What the suite `cost` found: errors of predictors, of the peak and of bits, and the figures with an aim."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from benches.tables import empty_table

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

WITHIN = 0.10
PEAK_WITHIN = 0.05
AIMS: dict[str, tuple[str, float]] = {
    "latency_mape": ("<=", 0.061),
    "latency_within_10": (">=", 0.827),
    "latency_pair_ranking": (">=", 0.972),
    "latency_mape_100_samples": ("<=", 0.10),
    "peak_within_5": (">=", 0.95),
    "bits_order": (">=", 0.95),
    "price_ms": ("<=", 3.0),
    "prices_per_s": (">=", 5000.0),
}
"""Key of the summary -> its aim. Those of latency are met at the noise floor where that is worse."""
FLOORS = {
    "latency_mape": "noise_mape",
    "latency_within_10": "noise_within_10",
    "latency_pair_ranking": "noise_pair_ranking",
    "latency_mape_100_samples": "noise_mape_one_thread",
}
"""Key of the summary -> what noise in the measured latencies alone makes of it."""


@dataclass(frozen=True)
class Training:
    """What a predictor was trained on, and for how many epochs at most; the best one is kept."""

    architectures: int
    epochs: int


@dataclass(frozen=True)
class PredictorRow:
    """How well latencies are told on one set of architectures: shares from 0 to 1."""

    name: str
    threads: int
    trained_on: int
    epochs: int
    tested_on: int
    mape: float
    within_10: float
    pair_ranking: float


def predictor_row(
    name: str,
    predicted: Sequence[float],
    measured: Sequence[float],
    *,
    threads: int,
    training: Training | None = None,
) -> PredictorRow:
    """Return how near predicted seconds are to measured ones."""
    found, wanted = np.array(predicted), np.array(measured)
    errors = np.abs(found / wanted - 1.0)
    above, below = np.triu_indices(len(wanted), 1)
    agree = np.sign(found[above] - found[below]) == np.sign(wanted[above] - wanted[below])
    return PredictorRow(
        name=name,
        threads=threads,
        trained_on=training.architectures if training else 0,
        epochs=training.epochs if training else 0,
        tested_on=len(wanted),
        mape=float(errors.mean()),
        within_10=float((errors <= WITHIN).mean()),
        pair_ranking=float(agree.mean()) if len(agree) else 1.0,
    )


@dataclass(frozen=True)
class PeakRow:
    """Modelled against measured peaks of one kind of model: how many are within 5 %, and the worst error."""

    name: str
    count: int
    within_5: int
    worst_error: float


def peak_row(name: str, modelled: Sequence[float], measured: Sequence[float]) -> PeakRow:
    """Return how near modelled bytes are to measured ones."""
    errors = np.abs(np.array(modelled) / np.array(measured) - 1.0)
    return PeakRow(name, len(errors), int((errors <= PEAK_WITHIN).sum()), float(errors.max()))


@dataclass(frozen=True)
class BitsOrder:
    """How often the faster one of two widths of an architecture is told, of pairs past the noise floor."""

    architectures: int
    pairs: int
    told: int

    @property
    def share(self) -> float:
        """The share of pairs whose order is right."""
        return self.told / self.pairs if self.pairs else 1.0


@dataclass(frozen=True)
class PricingSpeed:
    """Milliseconds of one price alone, and prices a second in batches: medians."""

    price_ms: float
    prices_per_s: float
    priced_before: int


@dataclass(frozen=True)
class CostResult:
    """All rows, and the figures that have an aim."""

    predictors: tuple[PredictorRow, ...]
    own: PredictorRow
    moved: PredictorRow
    noise: PredictorRow
    noise_one_pass: PredictorRow
    noise_one_thread: PredictorRow
    peaks: tuple[PeakRow, ...]
    counted_peaks: tuple[PeakRow, ...]
    bits: BitsOrder
    speed: PricingSpeed
    noisy_share: float
    seconds: float

    @property
    def summary(self) -> dict[str, float]:
        """The figures that have an aim, and the noise floors."""
        counted = sum(row.count for row in self.counted_peaks)
        figures = {
            "latency_mape": self.own.mape,
            "latency_within_10": self.own.within_10,
            "latency_pair_ranking": self.own.pair_ranking,
            "latency_mape_100_samples": self.moved.mape,
            "peak_within_5": sum(row.within_5 for row in self.counted_peaks) / counted,
            "bits_order": self.bits.share,
            "price_ms": self.speed.price_ms,
            "prices_per_s": self.speed.prices_per_s,
            "noise_mape": self.noise.mape,
            "noise_within_10": self.noise.within_10,
            "noise_pair_ranking": self.noise.pair_ranking,
            "noise_mape_one_pass": self.noise_one_pass.mape,
            "noise_mape_one_thread": self.noise_one_thread.mape,
        }
        return {key: round(figure, 4) for key, figure in figures.items()}

    @property
    def met(self) -> dict[str, bool]:
        """Which aims are met, by the aim itself or at the noise floor."""
        summary = self.summary
        return {key: meets(key, summary) for key in AIMS}

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "summary": self.summary,
            "aims": {
                key: {
                    "aim": " ".join(map(str, AIMS[key])),
                    "met": met,
                    "verdict": _verdict(key, self.summary, self.met),
                }
                for key, met in self.met.items()
            },
            "predictors": [asdict(row) for row in self._rows()],
            "peaks": [asdict(row) for row in (*self.counted_peaks, *self.peaks)],
            "bits": asdict(self.bits),
            "speed": asdict(self.speed),
            "noisy_share": round(self.noisy_share, 4),
            "seconds": round(self.seconds, 1),
        }

    def table(self) -> Group:
        """Return the tables for a terminal."""
        from rich.console import Group

        return Group(
            _predictor_table(self._rows()),
            _peak_table((*self.counted_peaks, *self.peaks)),
            _summary_table(self.summary, self.met),
            f"order of fp32, int8 and int4: {self.bits.told} of {self.bits.pairs} pairs of "
            f"{self.bits.architectures} architectures",
            f"{self.noisy_share:.0%} of the latencies did not settle; {self.seconds:.0f} s in all",
        )

    def _rows(self) -> tuple[PredictorRow, ...]:
        return (
            self.own,
            *self.predictors,
            self.noise,
            self.noise_one_pass,
            self.moved,
            self.noise_one_thread,
        )


def meets(key: str, summary: dict[str, float]) -> bool:
    """Whether a figure meets its aim, or the noise floor where that is worse than the aim."""
    side, aim = AIMS[key]
    worse = max if side == "<=" else min
    aim = worse(aim, summary[FLOORS[key]]) if key in FLOORS else aim
    return summary[key] <= aim if side == "<=" else summary[key] >= aim


def _predictor_table(rows: Sequence[PredictorRow]) -> Table:
    table = empty_table(
        "latency of architectures left out",
        ("predictor",),
        ("threads", "trained on", "epochs", "tested on", "MAPE", "within 10 %", "pairs in order"),
    )
    for row in rows:
        table.add_row(
            row.name,
            str(row.threads),
            str(row.trained_on or ""),
            str(row.epochs or ""),
            str(row.tested_on),
            f"{row.mape:.1%}",
            f"{row.within_10:.1%}",
            f"{row.pair_ranking:.1%}",
        )
    return table


def _peak_table(rows: Sequence[PeakRow]) -> Table:
    table = empty_table("modelled against measured peak", ("what",), ("count", "within 5 %", "worst error"))
    for row in rows:
        table.add_row(row.name, str(row.count), str(row.within_5), f"{row.worst_error:.2%}")
    return table


def _summary_table(summary: dict[str, float], met: dict[str, bool]) -> Table:
    table = empty_table("summary", ("key",), ("measured", "aim", ""))
    for key, figure in summary.items():
        aim = " ".join(map(str, AIMS[key])) if key in AIMS else ""
        table.add_row(key, f"{figure:.4g}", aim, _verdict(key, summary, met) if key in AIMS else "")
    return table


def _verdict(key: str, summary: dict[str, float], met: dict[str, bool]) -> str:
    if not met[key]:
        return "MISSED"
    side, aim = AIMS[key]
    inside = summary[key] <= aim if side == "<=" else summary[key] >= aim
    return "met" if inside else "met at the noise floor"
