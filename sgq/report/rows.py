"""What a report holds: one row a model, one row a site, and under which settings they were made.

How a figure was obtained is fixed by its column and never mixed: accuracies and clip shares are
simulated (fake-quant in float), bits and bytes are modelled (computed from the plan).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Family = Literal["float", "uniform", "recipe"]


@dataclass(frozen=True, kw_only=True)
class ReportRow:
    """One model of a comparison.

    Accuracies are 0 to 1 (`accuracy_std` is that of the test accuracy over seeds; None means one run or
    not evaluated). The three average bits are SGQuant's, A2Q's and MixQ's definitions, None where one
    does not apply. The two ratios are fp32 bytes over `packed_bytes`, with dense and with sparse fp32
    features. `family` says how the picture draws the row.
    """

    name: str
    packed_bytes: int
    file_bytes: int
    ratio_dense: float
    ratio_sparse: float
    sgquant_bits: float | None
    a2q_bits: float | None
    mixq_bits: float | None
    accuracy_val: float | None = None
    accuracy_test: float | None = None
    accuracy_std: float | None = None
    family: Family = "recipe"


@dataclass(frozen=True, kw_only=True)
class SiteRow:
    """One site of the reported model.

    `rows` is what a row of the tensor stands for (node, edge, parameter …), `spec` the quantizer in
    words, `origin` the recipe line that chose it. `clip_share` is the share (0 to 1) of the values that
    the range clips; None where it was not counted.
    """

    name: str
    component: str
    rows: str
    shape: tuple[int, ...]
    spec: str
    origin: str
    packed_bytes: int
    values: int
    clip_share: float | None = None


@dataclass(frozen=True)
class Report:
    """A comparison of models, the sites of one of them, the settings behind both, and remarks."""

    title: str
    rows: tuple[ReportRow, ...]
    sites: tuple[SiteRow, ...] = ()
    settings: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain data, all figures exact; `from_json` is its exact inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Report:
        """Rebuild a report from what `to_json` gave, also after a round trip through a file."""
        return cls(
            title=data["title"],
            rows=tuple(ReportRow(**row) for row in data["rows"]),
            sites=tuple(SiteRow(**(site | {"shape": tuple(site["shape"])})) for site in data["sites"]),
            settings=tuple((name, value) for name, value in data["settings"]),
            notes=tuple(data["notes"]),
        )
