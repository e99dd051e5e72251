"""Energy that a device spends on an inference, modelled from its power: never measured.

GCoDE's model (arXiv 2404.05605, and its predictor's code): what the device computes costs its active power,
what it waits for (the edge server, say) its idle power, and what it sends its radio's power for as long as
the link takes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from quantizers.packing import BYTE_BITS
from sgq.cost.profile import DeviceProfile
from sgq.errors import UsageError


@dataclass(frozen=True)
class Link:
    """A connection that carries so many bits a second."""

    bits_per_s: float

    def __post_init__(self) -> None:
        """Refuse a link that carries nothing."""
        if not 0.0 < self.bits_per_s < math.inf:
            raise UsageError(f"expected a link of more than 0 bits a second (got {self.bits_per_s:g})")

    def sending_s(self, sent_bytes: float) -> float:
        """Return how long it takes to send so many bytes."""
        return sent_bytes * BYTE_BITS / self.bits_per_s


@dataclass(frozen=True)
class Energy:
    """Joules by what they are spent on; `label` says how they were found: always modelled."""

    compute_j: float
    waiting_j: float
    radio_j: float
    label: str

    @property
    def total_j(self) -> float:
        """All of it."""
        return self.compute_j + self.waiting_j + self.radio_j


def energy_j(
    profile: DeviceProfile,
    *,
    compute_s: float,
    waiting_s: float = 0.0,
    sent_bytes: float = 0.0,
    link: Link | None = None,
) -> Energy:
    """Return the joules of a device that computes and waits so long, and sends so much over a link.

    Raise ProfileError, naming the number and the profile, for a power that is needed and not known, and
    UsageError for times or bytes that cannot be.
    """
    for name, amount in (("compute_s", compute_s), ("waiting_s", waiting_s), ("sent_bytes", sent_bytes)):
        if not 0.0 <= amount < math.inf:
            raise UsageError(f"expected {name} of at least 0 (got {amount:g})")
    if sent_bytes and link is None:
        raise UsageError(f"expected a link over which {sent_bytes:g} bytes are sent (got none)")
    sending_s = link.sending_s(sent_bytes) if link is not None else 0.0

    def spent_j(seconds: float, power: str) -> float:
        return seconds * profile.required(power) if seconds else 0.0

    return Energy(
        compute_j=spent_j(compute_s, "power.active_w"),
        waiting_j=spent_j(waiting_s, "power.idle_w"),
        radio_j=spent_j(sending_s, "radio.sending_w"),
        label=profile.price_label,
    )
