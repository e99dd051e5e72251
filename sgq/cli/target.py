"""The device that `--target` names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sgq.cli.output import note

if TYPE_CHECKING:
    from sgq.cost.pace import Pace
    from sgq.cost.profile import DeviceProfile


def load_target(target: str, *, measure: bool) -> DeviceProfile:
    """Return the profile of a target; warn where another machine is measured than was profiled."""
    import torch

    from sgq.cost.fingerprint import fingerprint_of_this_machine, machine_warning
    from sgq.cost.profile_file import load_profile

    profile = load_profile(target)
    if measure and profile.fingerprint is not None:
        warning = machine_warning(profile.fingerprint, fingerprint_of_this_machine(), profile=target)
        if warning is not None:
            note(f"note: {warning}")
        elif profile.threads not in (None, threads := torch.get_num_threads()):
            note(
                f"note: {target} was measured on {profile.threads} threads, but here it is {threads}: "
                "modelled and measured times are not of the same"
            )
    return profile


def pace_here(profile: DeviceProfile) -> Pace | None:
    """Return the pace that a profile was measured at, where it is of this machine on as many threads."""
    import torch

    from sgq.cost.fingerprint import fingerprint_of_this_machine

    own = profile.fingerprint
    if own is None or not own.is_as_fast_as(fingerprint_of_this_machine()):
        return None
    return profile.pace if profile.threads == torch.get_num_threads() else None
