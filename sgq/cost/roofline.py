"""A roofline: no call is faster than its arithmetic at the peak rate, or its bytes at full bandwidth.

The least that a device can take (Williams et al., 2009): what prices come from where nothing was measured.
"""

from __future__ import annotations

from dataclasses import dataclass

from quantizers.spec import FLOAT_BITS
from sgq.cost.profile import DeviceProfile
from sgq.cost.work import Runtime, Work
from sgq.errors import ProfileError

ATTENTION_OPERATIONS = 4
"""Of an edge and a channel, the softmax over edges included."""


@dataclass(frozen=True)
class Demand:
    """What one call asks of a device: operations at a width of `bits`, and bytes that it moves."""

    runtime: Runtime
    flops: int
    bytes_moved: float
    bits: int = FLOAT_BITS


def roofline_s(work: Work, profile: DeviceProfile) -> float:
    """Return the least seconds of a call on a device; raise ProfileError where its rates are not known."""
    if work.kind == "random" and work.runtime == "integer":
        return 0.0
    bits = max(work.input_bits, work.weight_bits) if work.weight_values else FLOAT_BITS
    return demand_s(Demand(work.runtime, work.flops, work.bytes_moved, bits), profile)


def demand_s(demand: Demand, profile: DeviceProfile) -> float:
    """Return the least seconds in which a device can do so much, and start it.

    Raise ProfileError where its rates are not known.
    """
    rates = profile.rates
    operations_per_s = rates.peak_operations_per_s(demand.bits)
    if operations_per_s is None:
        raise ProfileError(
            f"the device profile {profile.name} has no peak rate at {demand.bits} bits or more"
        )
    bandwidth = profile.required("rates.bandwidth_bytes_per_s")
    launch = rates.launch_s if demand.runtime == "float" else rates.kernel_launch_s
    return max(demand.flops / operations_per_s, demand.bytes_moved / bandwidth) + (launch or 0.0)
