"""Device profiles as YAML: strict in, atomic out, and found by name as recipes are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from sgq.cost.fingerprint import Fingerprint
from sgq.cost.pace import Pace
from sgq.cost.profile import (
    DeviceProfile,
    PeakRate,
    Power,
    ProductRate,
    Radio,
    Rates,
    SideFiles,
    Source,
    StreamRate,
    width_name,
)
from sgq.cost.profile_schema import WIDTHS, ProfilePart, RatesPart, clashes, parts_of
from sgq.errors import ProfileError, nearest_name
from sgq.recipe.faults import schema_faults
from sgq.recipe.loading import YamlDocument, read_text, read_yaml
from sgq.recipe.positions import Fault, raise_faults
from sgq.report.files import write_atomically

SUFFIXES = (".yaml", ".yml")
LINE_LENGTH = 120


def shipped_profiles() -> tuple[str, ...]:
    """Return the names of the shipped data sheets, sorted."""
    return tuple(sorted(file.stem for file in _folder().glob("*.yaml")))


def load_profile(name_or_path: str | Path, *, unfinished: bool = False) -> DeviceProfile:
    """Return a shipped data sheet by its name (`raspberry-pi-4b`) or any profile by its path.

    Raise ProfileError with one line `file:line:col: …` for every fault, with the nearest name where there is
    no such profile, and for one whose measuring was interrupted, unless `unfinished` ones are wanted.
    """
    path, label = _find(name_or_path)
    profile = parse_profile(read_text(path, error=ProfileError), file=label)
    if not (profile.finished or unfinished):
        raise ProfileError(
            f"{label}: measuring was interrupted; run `sgq profile -o {label}` again to finish it"
        )
    return replace(profile, folder=path.parent)


def parse_profile(text: str, *, file: str = "<string>") -> DeviceProfile:
    """Return the profile that `text` holds; `file` names it in messages.

    Raise ProfileError with one line `file:line:col: …` for every fault, sorted by position.
    """
    document = read_yaml(text, file=file, what="device profile", error=ProfileError)
    # A node that is no plain YAML was read as if absent: what the schema says of it would only repeat that.
    unread = {fault.position for fault in document.faults}
    faults = (fault for fault in _faults(document) if fault.position not in unread)
    raise_faults(file, [*document.faults, *faults], error=ProfileError)
    return _profile(ProfilePart.model_validate(document.data))


def write_profile(profile: DeviceProfile, path: str | Path) -> None:
    """Write a profile to a file, whole or not at all."""
    write_atomically(path, profile_text(profile))


def profile_text(profile: DeviceProfile) -> str:
    """Return a profile as YAML that `parse_profile` reads back to the same profile."""
    data = _part(profile).model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    # Keys of the sources are dotted names; all other texts are quoted, so that none reads as a number.
    text: str = yaml.dump(
        _quoted(data),
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=LINE_LENGTH,
        default_flow_style=None,
    )
    return text


def _faults(document: YamlDocument) -> Iterator[Fault]:
    try:
        part = ProfilePart.model_validate(document.data)
    except ValidationError as error:
        yield from schema_faults(error, document.positions, parts=parts_of(document.data))
    else:
        yield from clashes(part, document.positions)


def _find(name_or_path: str | Path) -> tuple[Path, str]:
    """Return a profile's file, and its label in messages; an existing file goes before a shipped name."""
    text, path = str(name_or_path), Path(name_or_path)
    if path.suffix in SUFFIXES and path.is_file():
        return path, text
    names = shipped_profiles()
    name = text.removesuffix(".yaml")
    if isinstance(name_or_path, str) and name in names:
        return _folder() / f"{name}.yaml", f"{name}.yaml"
    if path.is_file():
        return path, text
    if path.is_dir():
        raise ProfileError(f"expected a device profile (got the folder {text})")
    beside = [str(file) for file in path.parent.glob("*") if file.suffix in SUFFIXES]
    hint = nearest_name(name, names) or nearest_name(text, beside)
    raise ProfileError(
        f'no device profile "{text}": no such file and no shipped data sheet.{hint} '
        f"Shipped: {', '.join(names)}. Measure this machine with: sgq profile -o {name}.yaml"
    )


def _folder() -> Path:
    return Path(str(resources.files("sgq.cost"))) / "devices"


def _profile(part: ProfilePart) -> DeviceProfile:
    prints = part.fingerprint
    return DeviceProfile(
        name=part.name,
        kind=part.kind,
        date=part.date,
        about=part.about,
        threads=part.threads,
        memory_bytes=part.memory_bytes,
        fingerprint=None if prints is None else Fingerprint(**prints.model_dump()),
        pace=None if part.pace is None else Pace(**part.pace.model_dump()),
        rates=_rates(part.rates),
        power=Power(**part.power.model_dump()),
        radio=Radio(**part.radio.model_dump()),
        files=SideFiles(**part.files.model_dump()),
        sources=tuple(Source(number, **source.model_dump()) for number, source in part.sources.items()),
        quick=part.quick,
        finished=part.finished is not False,
    )


def _rates(part: RatesPart) -> Rates:
    written = part.operations_per_s.model_dump(exclude_none=True)
    return Rates(
        peaks=tuple(PeakRate(WIDTHS[name], float(rate)) for name, rate in written.items()),
        bandwidth_bytes_per_s=part.bandwidth_bytes_per_s,
        launch_s=part.launch_s,
        kernel_launch_s=part.kernel_launch_s,
        allocation_s=part.allocation_s,
        first_touch_bytes_per_s=part.first_touch_bytes_per_s,
        streams=tuple(StreamRate(**stream.model_dump()) for stream in part.streams),
        products=tuple(ProductRate(**product.model_dump()) for product in part.products),
    )


def _part(profile: DeviceProfile) -> ProfilePart:
    document = asdict(profile)
    document.pop("folder")
    sources = {source.pop("number"): source for source in document.pop("sources")}
    peaks = {width_name(peak["bits"]): peak["operations_per_s"] for peak in document["rates"].pop("peaks")}
    document["rates"]["operations_per_s"] = peaks
    finished = document.pop("finished") if profile.kind == "measured" else None
    return ProfilePart.model_validate({"version": 1, **document, "sources": sources, "finished": finished})


class _Quoted(str):
    """A text that is written in double quotes."""


class _Dumper(yaml.SafeDumper):
    """Writes texts in double quotes, and rows of numbers on a line each."""


def _represent_quoted(dumper: yaml.SafeDumper, text: _Quoted) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style='"')


_Dumper.add_representer(_Quoted, _represent_quoted)


def _quoted(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _quoted(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_quoted(one) for one in value]
    return _Quoted(value) if isinstance(value, str) else value
