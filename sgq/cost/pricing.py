"""One question, one answer: what a genotype costs on a device.

Latency comes from the learned predictor where the profile has one, else from its look-up table, else from a
roofline; peak memory from the walk over what is alive. A price says where it comes from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from quantizers.spec import FLOAT_BITS
from sgq.cost.calls import Call, Calls, calls_of
from sgq.cost.energy import energy_j
from sgq.cost.footprint import value_bytes
from sgq.cost.lut import Entry, LookUpTable
from sgq.cost.measurements import read_measurements
from sgq.cost.peak_memory import peak_of
from sgq.cost.profile import DeviceProfile
from sgq.cost.profile_file import load_profile
from sgq.cost.roofline import roofline_s
from sgq.cost.workload import Workload
from sgq.models.genotype import Genotype

if TYPE_CHECKING:
    from sgq.cost.predictor import Predictor

BYTE_BITS = 8
SCALE_BYTES = 4


@dataclass(frozen=True)
class CallPrice:
    """What one kernel call costs."""

    call: Call
    seconds: float
    extrapolated: bool


@dataclass(frozen=True)
class Price:
    """What an architecture costs on a device.

    `packed_bytes` are its parameters and every value between calls, once, at their bits. `energy_j` is None
    where the profile has no active power. `source` says how latency was found, `extrapolated` that a size was
    outside of what was measured; everything here is modelled.
    """

    latency_s: float
    peak_bytes: int
    packed_bytes: int
    energy_j: float | None
    flops: int
    bytes_moved: float
    source: str
    extrapolated: bool = False
    calls: Calls | None = None
    parts: tuple[CallPrice, ...] = ()


class Pricer:
    """Prices on one device; it reads the profile's tables once and remembers operations.

    `learned` False leaves the profile's predictor alone.
    """

    def __init__(self, profile: DeviceProfile, *, learned: bool = True) -> None:
        self.profile = profile
        operations = profile.side_file("operations")
        self.table = None if operations is None else LookUpTable.of(read_measurements(operations))
        predictor = profile.side_file("predictor") if learned and self.table is not None else None
        self.predictor: Predictor | None = None
        self.trained_nodes = 0
        if predictor is not None:
            from sgq.cost.predictor_file import load_predictor

            self.predictor, trained_on = load_predictor(predictor)
            self.trained_nodes = trained_on.nodes

    @classmethod
    def of(cls, target: str | Path) -> Pricer:
        """Return the pricer of a shipped data sheet by name, or of a profile by path."""
        return cls(load_profile(target))

    def source(self, workload: Workload) -> str:
        """Return how the latency of a workload is found; a predictor knows one size of clouds."""
        how = "roofline" if self.table is None else "look-up table"
        return f"{self.profile.price_label}, {'learned predictor' if self._predicts(workload) else how}"

    def prices(self, genotypes: Sequence[Genotype], workload: Workload) -> list[Price]:
        """Return the price of each genotype; raise ModelError for one that cannot run."""
        priced = self.table_prices(genotypes, workload)
        return self._predicted(genotypes, priced) if priced and self._predicts(workload) else priced

    def table_prices(self, genotypes: Sequence[Genotype], workload: Workload) -> list[Price]:
        """Return prices without the predictor's say."""
        return [self._price(calls_of(genotype, workload), workload) for genotype in genotypes]

    def _predicts(self, workload: Workload) -> bool:
        sizes = (workload.nodes, workload.batch, workload.edges)
        return self.predictor is not None and sizes == (self.trained_nodes, 1, 0)

    def _predicted(self, genotypes: Sequence[Genotype], priced: list[Price]) -> list[Price]:
        """Return prices with the predictor's latency and peak."""
        import torch

        from sgq.cost.predictor_inputs import batch_of_prices

        assert self.predictor is not None
        with torch.inference_mode():
            found = self.predictor(batch_of_prices(genotypes, priced)).tolist()
        power = self.profile.power.active_w
        return [
            replace(
                price,
                latency_s=latency,
                peak_bytes=round(peak),
                energy_j=None if power is None else energy_j(self.profile, compute_s=latency).total_j,
            )
            for price, (latency, peak) in zip(priced, found, strict=True)
        ]

    def _price(self, calls: Calls, workload: Workload) -> Price:
        parts = tuple(self._call(call) for call in calls.calls)
        latency = sum(part.seconds for part in parts)
        power = self.profile.power.active_w
        return Price(
            latency_s=latency,
            peak_bytes=peak_of(calls, threads=self.profile.threads or 1).peak_bytes,
            packed_bytes=packed_bytes(calls),
            energy_j=None if power is None else energy_j(self.profile, compute_s=latency).total_j,
            flops=sum(call.work.flops for call in calls.calls),
            bytes_moved=sum(call.work.bytes_moved for call in calls.calls),
            source=self.source(workload),
            extrapolated=any(part.extrapolated for part in parts),
            calls=calls,
            parts=parts,
        )

    def _call(self, call: Call) -> CallPrice:
        if self.table is None:
            entry = Entry(roofline_s(call.work, self.profile))
        else:
            entry = self.table.entry(call.work)
        return CallPrice(call, entry.seconds, entry.extrapolated)


def price(genotype: Genotype, workload: Workload, target: str | Path | DeviceProfile) -> Price:
    """Return what a genotype costs on a device: a profile, the path of one, or the name of a data sheet."""
    pricer = Pricer(target) if isinstance(target, DeviceProfile) else Pricer.of(target)
    return pricer.prices([genotype], workload)[0]


def packed_bytes(calls: Calls) -> int:
    """Return the bytes of parameters, and of every value between calls once, at their bits."""
    integer = calls.runtime == "integer"
    total = 0.0
    for call in calls.calls:
        work = call.work
        if work.weight_values:
            scales = SCALE_BYTES * work.outputs if work.weight_bits < FLOAT_BITS else 0
            biases = SCALE_BYTES * work.outputs
            total += work.weight_values * work.weight_bits / BYTE_BITS + scales + biases
    values = (value for value in calls.values if not value.edges)
    total += sum(value_bytes(value, integer=integer) for value in values)
    return round(total)
