"""A measured profile for tests: a small grid of operations whose times follow from their sizes."""

from __future__ import annotations

from pathlib import Path

from sgq.cost.measurements import MeasurementStore
from sgq.cost.profile import DeviceProfile, PeakRate, Power, Rates, SideFiles
from sgq.cost.space_operations import COLUMNS, Sizes, grid, key_of
from sgq.cost.timing import Timing

RATES = Rates(
    peaks=(PeakRate(32, 1e9), PeakRate(8, 4e9)),
    bandwidth_bytes_per_s=1e9,
    launch_s=1e-6,
    kernel_launch_s=2e-6,
)
SHEET = DeviceProfile("sheet", "data sheet", "2026-01-01", rates=RATES, power=Power(active_w=10.0))
"""A device of round rates, as a data sheet has them."""
SIZES = Sizes(rows=(8, 64), k=(2, 8), channels=(1, 64), edge_channels=(3, 64))


def measured_profile(folder: Path, *, seconds: float, name: str = "host", threads: int = 1) -> DeviceProfile:
    """Return a profile in a folder whose every operation takes about so long, more where it does more."""
    file = f"{name}.operations.csv"
    with MeasurementStore(folder / file, COLUMNS) as store:
        for work in grid(SIZES):
            taken = seconds * (0.5 + work.bytes_moved / 1e6)
            store.append(key_of(work), Timing(5, taken, taken, taken))
    return DeviceProfile(
        name, "measured", "", threads=threads, files=SideFiles(operations=file), folder=folder
    )
