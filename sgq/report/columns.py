"""How rows become text: one list of columns for the terminal, Markdown and HTML alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from sgq.report.rows import MemoryRow, ReportRow, RuntimeRow, SiteRow

Row = TypeVar("Row")
Tier = Literal["", "simulated", "modelled", "measured"]

ABSENT = "–"
BYTE_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def byte_text(count: float) -> str:
    """Return bytes as people read them, with three figures: `812 B`, `1.95 KiB`, `102 KiB`."""
    size = float(count)
    units = iter(BYTE_UNITS)
    unit = next(units)
    while size >= 999.5 and unit != BYTE_UNITS[-1]:
        size, unit = size / 1024, next(units)
    digits = 0 if unit == "B" or size >= 99.95 else 1 if size >= 9.995 else 2
    return f"{size:.{digits}f} {unit}"


def percent_text(share: float | None, *, spread: float | None = None) -> str:
    """Return a share of 1 as percent with one decimal, with its spread where it has one."""
    if share is None:
        return ABSENT
    return f"{100 * share:.1f}" + ("" if spread is None else f" ± {100 * spread:.1f}")


def bits_text(bits: float | None) -> str:
    """Return an average width with two decimals."""
    return ABSENT if bits is None else f"{bits:.2f}"


def ratio_text(ratio: float) -> str:
    """Return how many times smaller, as `7.9x`."""
    return f"{ratio:.1f}x"


def milliseconds_text(seconds: float) -> str:
    """Return seconds as milliseconds with three figures: `0.512`, `6.50`, `73.0`, `1250`."""
    milliseconds = 1e3 * seconds
    digits = 3 if milliseconds < 0.9995 else 2 if milliseconds < 9.995 else 1 if milliseconds < 99.95 else 0
    return f"{milliseconds:.{digits}f}"


def clip_text(share: float | None) -> str:
    """Return a clipped share as percent; a small one is told from none at all."""
    if share is None or share == 0.0:
        return ABSENT if share is None else "0"
    return "<0.01" if share < 1e-4 else f"{100 * share:.2f}"


@dataclass(frozen=True)
class Column(Generic[Row]):
    """One column: its heading in at most two words, how its cells read, and where its figures are from.

    `spare` orders what a narrow terminal leaves out first (1 before 2); 0 is always shown. A `turned`
    heading is written upright on a page, since it is much longer than the cells under it.
    """

    heading: str
    text: Callable[[Row], str]
    tier: Tier = ""
    numeric: bool = True
    spare: int = 0
    turned: bool = False


COMPARISON: tuple[Column[ReportRow], ...] = (
    Column("model", lambda row: row.name, numeric=False),
    Column("val %", lambda row: percent_text(row.accuracy_val), "simulated", spare=2),
    Column("test %", lambda row: percent_text(row.accuracy_test, spread=row.accuracy_std), "simulated"),
    Column("SGQuant bits", lambda row: bits_text(row.sgquant_bits), "modelled"),
    Column("A²Q bits", lambda row: bits_text(row.a2q_bits), "modelled"),
    Column("MixQ bits", lambda row: bits_text(row.mixq_bits), "modelled"),
    Column("packed", lambda row: byte_text(row.packed_bytes), "modelled"),
    Column("file", lambda row: byte_text(row.file_bytes), "modelled", spare=1),
    Column("vs dense", lambda row: ratio_text(row.ratio_dense), "modelled"),
    Column("vs sparse", lambda row: ratio_text(row.ratio_sparse), "modelled"),
)
"""The columns of a comparison of models."""

SITES: tuple[Column[SiteRow], ...] = (
    Column("site", lambda site: site.name, numeric=False),
    Column("rows", lambda site: site.rows, numeric=False, spare=3),
    Column("shape", lambda site: "×".join(str(size) for size in site.shape)),
    Column("quantizer", lambda site: site.spec, numeric=False),
    Column("packed", lambda site: byte_text(site.packed_bytes), "modelled"),
    Column("clipped %", lambda site: clip_text(site.clip_share), "simulated", spare=2),
    Column("chosen by", lambda site: site.origin or ABSENT, numeric=False, spare=1),
)
"""The columns of a table of sites."""

RUNTIME: tuple[Column[RuntimeRow], ...] = (
    Column("runs as", lambda row: row.name, numeric=False),
    Column("median ms", lambda row: milliseconds_text(row.median_s), "measured"),
    Column(
        "quartiles ms",
        lambda row: f"{milliseconds_text(row.lower_quartile_s)}–{milliseconds_text(row.upper_quartile_s)}",
        "measured",
    ),
    Column("x integer", lambda row: f"{row.times_integer:.2f}", "measured"),
    Column("peak memory", lambda row: byte_text(row.peak_bytes), "measured"),
    Column("without features", lambda row: byte_text(row.peak_without_features_bytes), "measured"),
    Column("file", lambda row: byte_text(row.file_bytes), "measured"),
    Column("repeats", lambda row: str(row.repeats), spare=2),
    Column("threads", lambda row: str(row.threads), spare=1),
    Column("device", lambda row: row.device, numeric=False),
)
"""The columns of a comparison of ways to run one model."""

MEMORY: tuple[Column[MemoryRow], ...] = (
    Column("site", lambda row: row.name, numeric=False),
    Column("form", lambda row: row.form, numeric=False),
    Column("bits", lambda row: bits_text(row.bits), "modelled"),
    Column("codes", lambda row: byte_text(row.code_bytes), "modelled"),
    Column("scales", lambda row: byte_text(row.scale_bytes), "modelled", spare=1),
    Column("zero points", lambda row: byte_text(row.zero_point_bytes), "modelled", spare=2),
    Column("indices", lambda row: byte_text(row.index_bytes), "modelled", spare=3),
    Column("bytes", lambda row: byte_text(row.total_bytes), "modelled"),
)
"""The columns of a table of modelled memory by site."""


def legend(columns: Sequence[Column[Row]]) -> str:
    """Return one sentence that tells which columns are simulated, which modelled and which measured."""
    parts = []
    for tier in ("simulated", "modelled", "measured"):
        headings = [column.heading for column in columns if column.tier == tier]
        if headings:
            parts.append(f"{tier}: {', '.join(headings)}")
    return "; ".join(parts)
