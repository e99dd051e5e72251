"""Device profiles: what a price is computed from.

A measured profile comes from `sgq profile` on the machine itself. A data sheet's figures come from public
documents; a figure that no such source gives is absent, and what needs it says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

from quantizers.spec import FLOAT_BITS
from sgq.cost.fingerprint import Fingerprint
from sgq.cost.pace import Pace
from sgq.errors import ProfileError

Kind = Literal["measured", "data sheet"]
SideFile = Literal["rates", "operations", "predictor"]

PRICE_LABELS: dict[Kind, str] = {"measured": "modelled", "data sheet": "modelled from the data sheet"}
"""What every price from a profile is labelled as."""


@dataclass(frozen=True)
class PeakRate:
    """The most operations a second on operands of so many bits (32: fp32); a multiply-add counts as two."""

    bits: int
    operations_per_s: float


@dataclass(frozen=True)
class StreamRate:
    """Bytes read, and bytes read and written by a copy, a second, in arrays of one size."""

    array_bytes: int
    read_bytes_per_s: float
    copy_bytes_per_s: float
    noisy: bool = False


@dataclass(frozen=True)
class ProductRate:
    """Operations a second of a matrix product [rows, inputs] · [inputs, outputs] at one width."""

    bits: int
    rows: int
    inputs: int
    outputs: int
    operations_per_s: float
    noisy: bool = False


@dataclass(frozen=True)
class Rates:
    """How fast a device is.

    `bandwidth_bytes_per_s` is that of its main memory. `launch_s` is what a tiny torch operation takes,
    `kernel_launch_s` a tiny integer kernel, `allocation_s` a small allocation; memory that is touched for
    the first time is written at `first_touch_bytes_per_s`.
    """

    peaks: tuple[PeakRate, ...] = ()
    bandwidth_bytes_per_s: float | None = None
    launch_s: float | None = None
    kernel_launch_s: float | None = None
    allocation_s: float | None = None
    first_touch_bytes_per_s: float | None = None
    streams: tuple[StreamRate, ...] = ()
    products: tuple[ProductRate, ...] = ()

    def peak_operations_per_s(self, bits: int) -> float | None:
        """Return the peak rate at a width: its own, or that of the next wider one, which it can run as."""
        wide_enough = [peak for peak in self.peaks if peak.bits >= min(bits, FLOAT_BITS)]
        return min(wide_enough, key=lambda peak: peak.bits).operations_per_s if wide_enough else None


@dataclass(frozen=True)
class Power:
    """Watts of the device while it computes, and while it waits."""

    active_w: float | None = None
    idle_w: float | None = None


@dataclass(frozen=True)
class Radio:
    """Watts of the device while it sends."""

    sending_w: float | None = None


@dataclass(frozen=True)
class SideFiles:
    """The names of files beside the profile: CSVs of measured rates and operations, and a predictor."""

    rates: str | None = None
    operations: str | None = None
    predictor: str | None = None


@dataclass(frozen=True)
class Source:
    """Where a number of a profile is from: `number` is its dotted name, `how` any arithmetic in between."""

    number: str
    title: str
    url: str
    how: str = ""


@dataclass(frozen=True)
class DeviceProfile:
    """What is known of a device; `threads` are those that it was measured on, at its usual `pace`.

    `quick` profiles were measured at few sizes; an unfinished one was interrupted. `folder` is where it was
    read from and its side files are.
    """

    name: str
    kind: Kind
    date: str
    about: str = ""
    threads: int | None = None
    memory_bytes: int | None = None
    fingerprint: Fingerprint | None = None
    pace: Pace | None = None
    rates: Rates = field(default_factory=Rates)
    power: Power = field(default_factory=Power)
    radio: Radio = field(default_factory=Radio)
    files: SideFiles = field(default_factory=SideFiles)
    sources: tuple[Source, ...] = ()
    quick: bool = False
    finished: bool = True
    folder: Path | None = field(default=None, compare=False)

    @property
    def price_label(self) -> str:
        """What every price from this profile is labelled as."""
        return PRICE_LABELS[self.kind]

    def numbers(self) -> Iterator[tuple[str, float]]:
        """Yield every number that the profile has, by its dotted name, tables left out."""
        if self.memory_bytes is not None:
            yield "memory_bytes", self.memory_bytes
        for peak in self.rates.peaks:
            yield f"rates.operations_per_s.{width_name(peak.bits)}", peak.operations_per_s
        for name, part in (("rates", self.rates), ("power", self.power), ("radio", self.radio)):
            for one in fields(part):
                value = getattr(part, one.name)
                if isinstance(value, float):
                    yield f"{name}.{one.name}", value

    def required(self, number: str) -> float:
        """Return a number by its dotted name (`power.idle_w`); raise ProfileError where there is none."""
        found = dict(self.numbers())
        if number not in found:
            remark = (
                "no public source gives it" if self.kind == "data sheet" else "add it to the profile's file"
            )
            raise ProfileError(f"the device profile {self.name} has no {number}: {remark}")
        return found[number]

    def side_file(self, which: SideFile) -> Path | None:
        """Return the path of a file beside the profile; None where it has none.

        Raise ProfileError where it should be there and is not.
        """
        name: str | None = getattr(self.files, which)
        if name is None or self.folder is None:
            return None
        path = self.folder / name
        if not path.is_file():
            raise ProfileError(f"{path}: no such file, but the device profile {self.name} names it ({which})")
        return path


def width_name(bits: int) -> str:
    """Return what a width is called in profiles: `fp32`, `int8` …"""
    return "fp32" if bits == FLOAT_BITS else f"int{bits}"
