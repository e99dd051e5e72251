"""`sgq profile --predictor N`: measure architectures here, and train a predictor of latency and peak."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sgq.cli.output import note

if TYPE_CHECKING:
    from sgq.cost.profile import DeviceProfile

PART = "train"
SEED = 0


def with_predictor(profile: DeviceProfile, path: Path, count: int, *, quiet: bool) -> DeviceProfile:
    """Return the profile with a predictor trained on so many architectures measured on this machine.

    Those that are measured already are not measured again.
    """
    from sgq.cost.architectures import measure_random
    from sgq.cost.predictor_file import TrainedOn, save_predictor
    from sgq.cost.predictor_training import fit
    from sgq.cost.pricing import Pricer
    from sgq.cost.profile_file import write_profile
    from sgq.cost.timing import on_threads
    from sgq.cost.workload import POINTS
    from sgq.report.progress import counting

    assert profile.threads is not None
    table = path.with_name(f"{path.stem}.architectures.csv")
    with counting(count, description="architectures", quiet=quiet) as show, on_threads(profile.threads):
        measured = measure_random(
            table, count, POINTS, part=PART, seed=SEED, pace=profile.pace, on_progress=show
        )
    note("training the predictor", quiet=quiet)
    fitted = fit(measured, Pricer(replace(profile, folder=path.parent), learned=False))
    latency_mape, peak_mape = fitted.validation_mape
    file = f"{path.stem}.predictor.safetensors"
    trained_on = TrainedOn.of(measured, threads=profile.threads, validation_mape=fitted.validation_mape)
    save_predictor(path.with_name(file), fitted.predictor, trained_on)
    profile = replace(profile, files=replace(profile.files, predictor=file))
    write_profile(profile, path)
    note(
        f"predictor of {count} architectures: validation error of latency {latency_mape:.1%}, "
        f"of the peak {peak_mape:.1%}",
        quiet=quiet,
    )
    return profile
