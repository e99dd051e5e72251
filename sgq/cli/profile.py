"""`sgq profile`: measure this machine into a device profile, from which prices are computed."""

from __future__ import annotations

import argparse
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from sgq.cli.arguments import add_quiet, add_verb, integer_from
from sgq.cli.output import console, note, print_json
from sgq.errors import ProfileError, UsageError

if TYPE_CHECKING:
    from sgq.cli.arguments import Verbs
    from sgq.cost.fingerprint import Fingerprint
    from sgq.cost.measurements import Measurement
    from sgq.cost.pace import Pace
    from sgq.cost.profile import DeviceProfile

INTERRUPTED = 130
RATES = "rates"


def add(verbs: Verbs) -> None:
    """Add the verb."""
    parser = add_verb(verbs, "profile", run=run, text="measure this machine into a device profile")
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="FILE",
        help="the profile, a YAML file; CSVs of what was measured go beside it. What is there is not "
        "measured again, so that an interrupted run can go on",
    )
    parser.add_argument(
        "--threads", type=integer_from(1), metavar="N", help="threads to measure on (default: torch's)"
    )
    parser.add_argument("--quick", action="store_true", help="few sizes and few rounds: rough, in seconds")
    parser.add_argument("--restart", action="store_true", help="measure again what is there already")
    parser.add_argument(
        "--predictor",
        type=integer_from(20, 100_000),
        metavar="N",
        help="also measure N random architectures and train a predictor of latency and peak on them",
    )
    add_quiet(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measure what is not measured yet and write the profile; 130 when interrupted, which loses nothing."""
    path = _checked_path(arguments.output)
    from sgq.cost.fingerprint import fingerprint_of_this_machine
    from sgq.cost.operation_sources import source_names

    here = fingerprint_of_this_machine()
    threads = _checked_threads(arguments.threads, here)
    files = {name: f"{path.stem}.{name}.csv" for name in source_names()}
    profile = _started(path, here, threads, arguments, [*files.values(), f"{path.stem}.architectures.csv"])
    try:
        rows = {name: _measure(name, path.parent / file, profile, arguments) for name, file in files.items()}
    except KeyboardInterrupt:
        note("interrupted: what was measured is kept; run the same command again to go on")
        return INTERRUPTED
    profile = _finished(profile, path, files, rows[RATES])
    if arguments.predictor is not None:
        from sgq.cli.profile_predictor import with_predictor

        try:
            profile = with_predictor(profile, path, arguments.predictor, quiet=arguments.quiet)
        except KeyboardInterrupt:
            note("interrupted: what was measured is kept; run the same command again to go on")
            return INTERRUPTED
    _print(profile, path, {name: len(measured) for name, measured in rows.items()}, arguments)
    return 0


def _checked_path(output: str) -> Path:
    from sgq.report.files import writable_folder

    path = Path(output)
    if path.suffix not in (".yaml", ".yml"):
        raise UsageError(f"expected -o with a YAML file such as host.yaml (got {output})")
    writable_folder(path.parent)
    return path


def _checked_threads(threads: int | None, here: Fingerprint) -> int:
    import torch

    if threads is None:
        return min(torch.get_num_threads(), here.logical_cores)
    if threads > here.logical_cores:
        raise UsageError(f"expected --threads of at most {here.logical_cores} here (got {threads})")
    return threads


def _started(
    path: Path, here: Fingerprint, threads: int, arguments: argparse.Namespace, files: list[str]
) -> DeviceProfile:
    """Return the profile that is at the path from now on: what is there, to go on with, or an unfinished one.

    What was measured before is in `files`. Raise ProfileError where what is there is not to be gone on with.
    """
    from sgq.cost.profile import DeviceProfile, Rates, SideFiles
    from sgq.cost.profile_file import load_profile, write_profile

    profile = DeviceProfile(path.stem, "measured", "")
    if path.exists():
        try:
            profile = load_profile(path, unfinished=True)
        except ProfileError as error:
            if not arguments.restart:
                raise ProfileError(f"{error}; measure anew with --restart") from None
            # It may be no profile, or have power that a person measured.
            path.replace(path.with_name(f"{path.name}.unreadable"))
        if profile.kind != "measured":
            raise ProfileError(f"{path}: expected a measured profile (got a data sheet); name another file")
        if not arguments.restart:
            _check_same(path, profile, here, threads, arguments)
            return profile
    left = [path.parent / file for file in files if (path.parent / file).exists()]
    if left and not arguments.restart:
        raise ProfileError(
            f"{left[0]}: measurements without their profile ({path}): nobody knows of which machine; "
            "name another file, or measure anew with --restart"
        )
    for file in left:  # before the profile: its measurements are never those of another one
        file.unlink()
    profile = replace(
        profile,
        date=date.today().isoformat(),
        threads=threads,
        memory_bytes=here.memory_bytes or None,
        fingerprint=here,
        pace=_pace(threads, quick=arguments.quick),
        rates=Rates(),
        files=SideFiles(),
        quick=arguments.quick,
        finished=False,
    )
    # Power that a person has added to the file stays in it, with its sources; rates have none.
    numbers = {number for number, _ in profile.numbers()}
    profile = replace(
        profile, sources=tuple(source for source in profile.sources if source.number in numbers)
    )
    write_profile(profile, path)
    return profile


def _pace(threads: int, *, quick: bool) -> Pace:
    from sgq.cost.pace import WATCHED_S, usual_pace
    from sgq.cost.timing import on_threads

    with on_threads(threads):
        return usual_pace(WATCHED_S / 10 if quick else WATCHED_S)


def _check_same(
    path: Path, profile: DeviceProfile, here: Fingerprint, threads: int, arguments: argparse.Namespace
) -> None:
    """Refuse to add measurements to those of another machine, other threads or other sizes."""
    from sgq.cost.fingerprint import machine_warning

    assert profile.fingerprint is not None
    remedy = "name another file, or measure anew with --restart"
    warning = machine_warning(profile.fingerprint, here, profile=str(path))
    if warning is not None:
        if not profile.fingerprint.is_as_fast_as(here):
            raise ProfileError(f"{warning}\n{remedy}")
        note(f"note: {warning}; --restart measures anew")
    if profile.threads != threads:
        raise ProfileError(f"{path}: was measured on {profile.threads} threads (got {threads}); {remedy}")
    if profile.quick != arguments.quick:
        how = "with" if profile.quick else "without"
        raise ProfileError(f"{path}: was measured {how} --quick; {remedy}")


def _measure(
    name: str, path: Path, profile: DeviceProfile, arguments: argparse.Namespace
) -> tuple[Measurement, ...]:
    """Measure what a source has and the file has not; return all that the file holds."""
    from sgq.cost.measurements import MeasurementStore
    from sgq.cost.operation_sources import Extent, make_source, measure_operations
    from sgq.cost.timing import QUICK, THOROUGH, on_threads
    from sgq.report.progress import counting

    assert profile.threads is not None
    source = make_source(name, Extent(profile.memory_bytes or 0, quick=profile.quick))
    with (
        MeasurementStore(path, source.columns) as store,
        counting(len(source), description=name, quiet=arguments.quiet) as show,
        on_threads(profile.threads),
    ):
        settings = QUICK if profile.quick else THOROUGH
        measure_operations(source, store, settings, pace=profile.pace, on_progress=show)
        return store.rows


def _finished(
    profile: DeviceProfile, path: Path, files: dict[str, str], rates: tuple[Measurement, ...]
) -> DeviceProfile:
    """Write the finished profile and return it."""
    from sgq.cost.profile_file import write_profile
    from sgq.cost.rates import rates_of

    finished = replace(
        profile,
        rates=rates_of(rates),
        files=replace(profile.files, rates=files[RATES], operations=files.get("operations")),
        finished=True,
    )
    write_profile(finished, path)
    return finished


def _print(profile: DeviceProfile, path: Path, counts: dict[str, int], arguments: argparse.Namespace) -> None:
    from sgq.cli.profile_view import print_profile, profile_json

    if arguments.json:
        print_json({"file": str(path), "measured": counts} | profile_json(profile))
        return
    out = console()
    print_profile(profile, out)
    out.print(f"wrote {path}; measured: {', '.join(f'{count} {name}' for name, count in counts.items())}")
