"""What the suite `bits` found: its rows, the figures that have an aim, and both as tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from benches.bit_tables import LIMIT_DROP
from benches.tables import empty_table

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

RIVALS = ("tpe", "nsga2")
"""Behind whom abs must not be after `LEAD_AFTER` evaluations."""
COUNTS = (50, 100, 150, 200)
LEAD_AFTER = 100
AIMS: dict[str, tuple[str, float]] = {
    "abs_hv_150": (">=", 0.99),
    "abs_vs_random_evals": ("<=", 60.0),
    "abs_lead_100": (">=", 0.0),
    "abs_overhead_ms": ("<=", 20.0),
}
"""Key of the summary -> its aim; `abs_lead_100` is by how much abs is ahead of the better rival, at worst."""


@dataclass(frozen=True)
class SearchRow:
    """A sampler on a table after some evaluations: quartiles over seeds of both shares (0 to 1).

    A search that ended before (nothing held the limit) counts with what it had; `ended` of them did.
    """

    table: str
    sampler: str
    evaluations: int
    seeds: int
    ended: int
    hypervolume_median: float
    hypervolume_lower_quartile: float
    hypervolume_upper_quartile: float
    saving_median: float
    saving_lower_quartile: float
    saving_upper_quartile: float


@dataclass(frozen=True)
class RankRow:
    """A cost model's Spearman correlation with the judged accuracies of all assignments left out."""

    table: str
    model: str
    measurements: int
    seeds: int
    correlation_median: float
    correlation_lower_quartile: float
    correlation_upper_quartile: float


@dataclass(frozen=True)
class Overhead:
    """What a trial costs beside its evaluation, means in ms: in the sampler, and in all of the search."""

    trials: int
    sampler_ms: float
    search_ms: float


@dataclass(frozen=True)
class BitsResult:
    """All rows, and the figures that have an aim."""

    searches: tuple[SearchRow, ...]
    ranks: tuple[RankRow, ...]
    overhead: Overhead
    evaluations_to_random: dict[str, float | None]
    """By table: after how many evaluations abs has random's last hypervolume; None where it has not."""
    sampler_seconds: dict[str, float]
    """By sampler: the median seconds of a search."""
    seconds: float

    @property
    def summary(self) -> dict[str, float | None]:
        """The figures that have an aim, and the same by table; one that was not run is left out."""
        known = {(row.table, row.sampler, row.evaluations): row.hypervolume_median for row in self.searches}
        tables = list(dict.fromkeys(row.table for row in self.searches))
        figures: dict[str, float | None] = {}
        if ("synthetic", "abs", 150) in known:
            figures["abs_hv_150"] = known["synthetic", "abs", 150]
        needed = list(self.evaluations_to_random.values())
        if needed:
            reached = [count for count in needed if count is not None]
            figures["abs_vs_random_evals"] = max(reached) if len(reached) == len(needed) else None
        leads = {
            table: known[table, "abs", LEAD_AFTER] - max(known[table, rival, LEAD_AFTER] for rival in RIVALS)
            for table in tables
            if all((table, name, LEAD_AFTER) in known for name in ("abs", *RIVALS))
        }
        if leads:
            figures["abs_lead_100"] = min(leads.values())
        figures["abs_overhead_ms"] = self.overhead.sampler_ms
        figures["abs_overhead_search_ms"] = self.overhead.search_ms
        figures |= {
            f"abs_hv_{count}_{table}": known[table, "abs", count]
            for table in tables
            for count in COUNTS
            if (table, "abs", count) in known
        }
        figures |= {f"abs_vs_random_evals_{table}": n for table, n in self.evaluations_to_random.items()}
        figures |= {f"abs_lead_100_{table}": lead for table, lead in leads.items()}
        return {key: figure if figure is None else round(figure, 4) for key, figure in figures.items()}

    @property
    def met(self) -> dict[str, bool]:
        """Which aims are met."""
        summary = self.summary
        return {key: _meets(key, summary[key]) for key in AIMS if key in summary}

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "limit_drop": LIMIT_DROP,
            "summary": self.summary,
            "aims": {
                key: {"aim": " ".join(map(str, AIMS[key])), "met": met} for key, met in self.met.items()
            },
            "searches": [asdict(row) for row in self.searches],
            "ranks": [asdict(row) for row in self.ranks],
            "overhead": asdict(self.overhead),
            "sampler_seconds": {name: round(value, 2) for name, value in self.sampler_seconds.items()},
            "seconds": round(self.seconds, 1),
        }

    def table(self) -> Group:
        """Return the tables for a terminal."""
        from rich.console import Group

        seconds = ", ".join(f"{name} {value:.1f} s" for name, value in self.sampler_seconds.items())
        return Group(
            _search_table(self.searches),
            _rank_table(self.ranks),
            _summary_table(self.summary, self.met),
            f"a search took: {seconds}; {self.seconds:.0f} s in all",
        )


def _meets(key: str, figure: float | None) -> bool:
    side, aim = AIMS[key]
    return figure is not None and (figure >= aim if side == ">=" else figure <= aim)


def _search_table(rows: Sequence[SearchRow]) -> Table:
    table = empty_table(
        "hypervolume and saving, shares of what the whole table has: medians (quartiles)",
        ("table", "sampler"),
        ("evaluations", "hypervolume", "", "saving", "", "ended"),
    )
    for row in rows:
        table.add_row(
            row.table,
            row.sampler,
            str(row.evaluations),
            f"{row.hypervolume_median:.3f}",
            f"{row.hypervolume_lower_quartile:.3f}–{row.hypervolume_upper_quartile:.3f}",
            f"{row.saving_median:.3f}",
            f"{row.saving_lower_quartile:.3f}–{row.saving_upper_quartile:.3f}",
            f"{row.ended} of {row.seeds}",
        )
    return table


def _rank_table(rows: Sequence[RankRow]) -> Table:
    table = empty_table(
        "cost models: Spearman correlation on assignments left out",
        ("table", "cost model"),
        ("measurements", "median", "quartiles"),
    )
    for row in rows:
        table.add_row(
            row.table,
            row.model,
            str(row.measurements),
            f"{row.correlation_median:.3f}",
            f"{row.correlation_lower_quartile:.3f}–{row.correlation_upper_quartile:.3f}",
        )
    return table


def _summary_table(summary: dict[str, float | None], met: dict[str, bool]) -> Table:
    table = empty_table("summary", ("key",), ("measured", "aim", ""))
    for key, figure in summary.items():
        aim = " ".join(map(str, AIMS[key])) if key in AIMS else ""
        verdict = ("met" if met[key] else "MISSED") if key in AIMS else ""
        table.add_row(key, "never" if figure is None else f"{figure:.4g}", aim, verdict)
    return table
