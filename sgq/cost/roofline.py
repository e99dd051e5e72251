"""A roofline: no call is faster than its arithmetic at the peak rate, or its bytes at full bandwidth.

The least that a device can take (Williams et al., 2009): what prices come from where nothing was measured.
"""

from __future__ import annotations

from quantizers.spec import FLOAT_BITS
from sgq.cost.profile import DeviceProfile
from sgq.cost.work import Work
from sgq.errors import ProfileError


def roofline_s(work: Work, profile: DeviceProfile) -> float:
    """Return the least seconds of a call on a device; raise ProfileError where its rates are not known."""
    if work.kind == "random" and work.runtime == "integer":
        return 0.0
    rates = profile.rates
    bits = max(work.input_bits, work.weight_bits) if work.weight_values else FLOAT_BITS
    operations_per_s = rates.peak_operations_per_s(bits)
    if operations_per_s is None:
        raise ProfileError(f"the device profile {profile.name} has no peak rate at {bits} bits or more")
    bandwidth = profile.required("rates.bandwidth_bytes_per_s")
    launch = rates.launch_s if work.runtime == "float" else rates.kernel_launch_s
    return max(work.flops / operations_per_s, work.bytes_moved / bandwidth) + (launch or 0.0)
