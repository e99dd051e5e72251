"""The price of calls that are known by what they ask of a device: operations and bytes."""

from __future__ import annotations

from collections.abc import Sequence

from sgq.cost.energy import energy_j
from sgq.cost.pricing import Price
from sgq.cost.profile import DeviceProfile
from sgq.cost.roofline import Demand, demand_s


def price_of_demands(
    demands: Sequence[Demand], profile: DeviceProfile, *, peak_bytes: int, packed_bytes: int, by: str
) -> Price:
    """Return the price of calls one after another, each as fast as a device can be.

    `by` says how they were found, and becomes part of the price's `source`. Raise ProfileError where the
    device's rates are not known.
    """
    latency = sum(demand_s(demand, profile) for demand in demands)
    return Price(
        latency_s=latency,
        peak_bytes=peak_bytes,
        packed_bytes=packed_bytes,
        energy_j=None if profile.power.active_w is None else energy_j(profile, compute_s=latency).total_j,
        flops=sum(demand.flops for demand in demands),
        bytes_moved=sum(demand.bytes_moved for demand in demands),
        source=f"{profile.price_label}, {by}",
    )
