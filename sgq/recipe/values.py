"""The types of single values in a recipe: bits, numbers, bytes and names, each with its own error."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, AllowInfNan, BeforeValidator, Strict

from quantizers.errors import QuantizerError, nearest_name
from quantizers.spec import FLOAT_BITS, check_bits

_BYTE_UNITS: Mapping[str, int] = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
}


def one_of(known: Sequence[str]) -> BeforeValidator:
    """Return a validator that takes one of the known names and offers the nearest for another."""

    def check(value: Any) -> Any:
        if value not in known:
            hint = nearest_name(value, known) if isinstance(value, str) else ""
            raise ValueError(f"expected one of {', '.join(known)} (got {value!r}).{hint}")
        return value

    return BeforeValidator(check)


def _width(value: Any) -> Any:
    if value == "float":
        return FLOAT_BITS
    try:
        return check_bits(value)
    except QuantizerError as error:
        hint = f"; write {{by_bucket: {value}}} for one width a bucket" if isinstance(value, list) else ""
        raise ValueError(f"{error}{hint}") from None


def byte_count(value: Any) -> Any:
    """Return the bytes that a text with a unit means (`300kB` 300 000, `2MiB` 2 097 152); else the value."""
    if not isinstance(value, str):
        return value
    parts = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]+)", value)
    if parts is None or parts[2] not in _BYTE_UNITS:
        raise ValueError(f"expected bytes such as 2048, 300kB or 2MiB (got {value!r})")
    return round(float(parts[1]) * _BYTE_UNITS[parts[2]])


def _quantizer_name(value: Any) -> Any:
    # Imported here: the registry may load torch, which a recipe that names no quantizer can do without.
    from quantizers import registry

    known = sorted(registry.names())
    if value not in known:
        hint = nearest_name(value, known) if isinstance(value, str) else ""
        raise ValueError(f"unknown quantizer {value!r}.{hint} Known: {', '.join(known)}")
    return value


def _not_empty(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if not values:
        raise ValueError("expected at least one in the list (got none)")
    return values


# Not Field(min_length=1): pydantic does not count entries that are faulty themselves.
NOT_EMPTY = AfterValidator(_not_empty)
Whole = Annotated[int, Strict()]
Number = Annotated[float, Strict(), AllowInfNan(False)]
Text = Annotated[str, Strict()]
Flag = Annotated[bool, Strict()]
Width = Annotated[int, BeforeValidator(_width)]
QuantizerName = Annotated[str, BeforeValidator(_quantizer_name)]
