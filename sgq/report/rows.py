"""What a report holds: one row a model, one row a site, and under which settings they were made.

How a figure was obtained is fixed by its column and never mixed: accuracies and clip shares are
simulated (fake-quant in float), bits and bytes of the plan are modelled (computed from it), and latency,
peak memory and the size of a written file are measured.
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


@dataclass(frozen=True, kw_only=True)
class RuntimeRow:
    """One way to run the model, measured: a float baseline, or the integer runtime.

    `file_bytes` is the size of the written checkpoint. `peak_bytes` is that of all tensors at the worst
    moment of a call, input features and adjacency included; `peak_without_features_bytes` leaves the input
    features out. Seconds are of one call, over `repeats` rounds in which all rows of a comparison took
    turns; `times_integer` is the median over rounds of this row's time over the integer runtime's.
    """

    name: str
    file_bytes: int
    peak_bytes: int
    peak_without_features_bytes: int
    median_s: float
    lower_quartile_s: float
    upper_quartile_s: float
    times_integer: float
    repeats: int
    threads: int
    device: str


@dataclass(frozen=True, kw_only=True)
class MemoryRow:
    """The modelled bytes of one site: codes or floats, then what comes with them.

    `form` names the storage. What is no site (bucket ids, float parameters, buffers) has no `bits`.
    """

    name: str
    form: str
    bits: float | None
    code_bytes: int
    scale_bytes: int
    zero_point_bytes: int
    index_bytes: int
    total_bytes: int


@dataclass(frozen=True)
class Report:
    """A comparison of models, the sites of one of them, the settings behind both, and remarks.

    `runtime` are the measured rows of the same model, where it was lowered and measured.
    """

    title: str
    rows: tuple[ReportRow, ...]
    sites: tuple[SiteRow, ...] = ()
    settings: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    runtime: tuple[RuntimeRow, ...] = ()

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
            runtime=tuple(RuntimeRow(**row) for row in data.get("runtime", ())),
        )
