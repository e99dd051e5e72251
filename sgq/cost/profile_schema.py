"""The schema of a device profile's file: pydantic models that accept nothing they do not know."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from quantizers.errors import nearest_name
from sgq.cost.profile import Kind
from sgq.recipe.positions import Fault, Positions
from sgq.recipe.schema import Part
from sgq.recipe.values import Flag, Number, Text, Whole, byte_count

KINDS: tuple[Kind, ...] = ("measured", "data sheet")
WIDTHS: Mapping[str, int] = {"fp32": 32, "int8": 8, "int4": 4, "int2": 2, "int1": 1}
"""The names that rates go by, and their bits."""


def _version(value: Any) -> Any:
    # Python holds 1 == True == 1.0, and so does a Literal.
    if type(value) is not int or value != 1:
        raise ValueError(f"expected 1, the only version of the profile format (got {value!r})")
    return value


def _kind(value: Any) -> Any:
    if value not in KINDS:
        hint = nearest_name(value, KINDS) if isinstance(value, str) else ""
        raise ValueError(f"expected one of {', '.join(KINDS)} (got {value!r}).{hint}")
    return value


def _day(value: str) -> str:
    try:
        return date.fromisoformat(value).isoformat()
    except ValueError:
        raise ValueError(f"expected a date such as 2020-09-17 (got {value!r})") from None


def _beside(value: str) -> str:
    if not re.fullmatch(r"[^/\\\x00]+", value) or value in (".", ".."):
        raise ValueError(f"expected the name of a file beside the profile (got {value!r})")
    return value


def _address(value: str) -> str:
    if not re.fullmatch(r"https?://\S+", value):
        raise ValueError(f"expected an address such as https://example.org/page (got {value!r})")
    return value


def _mapping(value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise ValueError(f"expected a mapping (got {value!r})")
    return value


Positive = Annotated[Number, Field(gt=0)]
Count = Annotated[Whole, Field(ge=1)]
Bytes = Annotated[Whole, BeforeValidator(byte_count), Field(ge=0)]
Named = Annotated[Text, Field(min_length=1)]
FileName = Annotated[Text, AfterValidator(_beside)]


class FingerprintPart(Part):
    """See `sgq.cost.fingerprint.Fingerprint`."""

    cpu: Named
    physical_cores: Count
    logical_cores: Count
    memory_bytes: Bytes
    cache_bytes: tuple[Bytes, ...] = ()
    instruction_sets: tuple[Named, ...] = ()
    system: Named
    torch_version: Named
    numba_version: Named
    sgq_version: Named
    accelerator: Named | None = None


class PacePart(Part):
    """See `sgq.cost.pace.Pace`."""

    all_threads_s: Positive
    one_thread_s: Positive


class PeaksPart(Part):
    """Peak operations a second by width."""

    fp32: Positive | None = None
    int8: Positive | None = None
    int4: Positive | None = None
    int2: Positive | None = None
    int1: Positive | None = None


class StreamPart(Part):
    """See `sgq.cost.profile.StreamRate`."""

    array_bytes: Bytes
    read_bytes_per_s: Positive
    copy_bytes_per_s: Positive
    noisy: Flag = False


class ProductPart(Part):
    """See `sgq.cost.profile.ProductRate`."""

    bits: Count
    rows: Count
    inputs: Count
    outputs: Count
    operations_per_s: Positive
    noisy: Flag = False


class RatesPart(Part):
    """See `sgq.cost.profile.Rates`."""

    operations_per_s: PeaksPart = PeaksPart()
    bandwidth_bytes_per_s: Positive | None = None
    launch_s: Positive | None = None
    kernel_launch_s: Positive | None = None
    allocation_s: Positive | None = None
    first_touch_bytes_per_s: Positive | None = None
    streams: tuple[StreamPart, ...] = ()
    products: tuple[ProductPart, ...] = ()


class PowerPart(Part):
    """Watts."""

    active_w: Positive | None = None
    idle_w: Positive | None = None


class RadioPart(Part):
    """Watts."""

    sending_w: Positive | None = None


class FilesPart(Part):
    """Names of files beside the profile."""

    rates: FileName | None = None
    operations: FileName | None = None
    predictor: FileName | None = None


class SourcePart(Part):
    """A public source of one number."""

    title: Named
    url: Annotated[Text, AfterValidator(_address)]
    how: Text = ""


class ProfilePart(Part):
    """The whole file; `finished` stands last, so that a file that was cut short lacks it."""

    version: Annotated[Literal[1], BeforeValidator(_version)]
    name: Named
    kind: Annotated[Kind, BeforeValidator(_kind)]
    about: Text = ""
    date: Annotated[Text, AfterValidator(_day)]
    quick: Flag = False
    threads: Count | None = None
    memory_bytes: Annotated[Bytes, Field(ge=1)] | None = None
    fingerprint: FingerprintPart | None = None
    pace: PacePart | None = None
    rates: RatesPart = RatesPart()
    power: PowerPart = PowerPart()
    radio: RadioPart = RadioPart()
    files: FilesPart = FilesPart()
    sources: Annotated[dict[str, SourcePart], BeforeValidator(_mapping)] = Field(default_factory=dict)
    finished: Flag | None = None


def parts_of(data: Mapping[str, Any]) -> dict[tuple[str, ...], type[Part]]:
    """Return which model describes the mapping at each path of a document, list indices left out."""
    sources = data.get("sources")
    named = sources if isinstance(sources, Mapping) else {}
    return {
        (): ProfilePart,
        ("fingerprint",): FingerprintPart,
        ("pace",): PacePart,
        ("rates",): RatesPart,
        ("rates", "operations_per_s"): PeaksPart,
        ("rates", "streams"): StreamPart,
        ("rates", "products"): ProductPart,
        ("power",): PowerPart,
        ("radio",): RadioPart,
        ("files",): FilesPart,
        **{("sources", number): SourcePart for number in named},
    }


def number_names(part: ProfilePart) -> tuple[str, ...]:
    """Return the dotted names of the numbers that a profile gives and a source can be named for."""
    given = part.model_dump(
        include={"memory_bytes", "rates", "power", "radio"},
        exclude={"rates": {"streams", "products"}},
        exclude_none=True,
    )
    return tuple(_dotted(given))


def clashes(part: ProfilePart, positions: Positions) -> Iterator[Fault]:
    """Yield what is wrong between parts that are right by themselves."""
    if part.kind == "measured":
        for key in ("fingerprint", "threads", "finished"):
            if getattr(part, key) is None:
                yield Fault(positions.of_value(()), f'missing key "{key}", which a measured profile has')
    else:
        for key in ("fingerprint", "pace", "finished"):
            if getattr(part, key) is not None:
                yield Fault(positions.of_key((key,)), f"a data sheet has no {key}: nothing was measured")
    numbers = number_names(part)
    for number in part.sources:
        if number not in numbers:
            message = (
                f'sources: the profile has no number "{number}".{nearest_name(number, numbers)} '
                f"Known: {', '.join(numbers) or 'none'}"
            )
            yield Fault(positions.of_key(("sources", number)), message)
    for number in numbers if part.kind == "data sheet" else ():
        if number not in part.sources:
            message = f"{number}: a data sheet's number needs a source, sources.{number} with title and url"
            yield Fault(positions.of_value(tuple(number.split("."))), message)


def _dotted(given: Mapping[str, Any]) -> Iterator[str]:
    for key, value in given.items():
        if isinstance(value, Mapping):
            yield from (f"{key}.{name}" for name in _dotted(value))
        else:
            yield key
