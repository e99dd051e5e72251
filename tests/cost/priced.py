"""A measured profile for tests: a small grid of operations whose times follow from their sizes."""

from __future__ import annotations

from pathlib import Path

from sgq.cost.measurements import MeasurementStore
from sgq.cost.profile import DeviceProfile, SideFiles
from sgq.cost.space_operations import COLUMNS, Sizes, grid
from sgq.cost.timing import Timing

SIZES = Sizes(rows=(8, 64), k=(2, 8), channels=(1, 64), edge_channels=(3, 64))


def measured_profile(folder: Path, *, seconds: float, name: str = "host", threads: int = 1) -> DeviceProfile:
    """Return a profile in a folder whose every operation takes about so long, more where it does more."""
    file = f"{name}.operations.csv"
    with MeasurementStore(folder / file, COLUMNS) as store:
        for work in grid(SIZES):
            taken = seconds * (0.5 + work.bytes_moved / 1e6)
            store.append(dict(zip(COLUMNS, work, strict=True)), Timing(5, taken, taken, taken))
    return DeviceProfile(
        name, "measured", "", threads=threads, files=SideFiles(operations=file), folder=folder
    )
