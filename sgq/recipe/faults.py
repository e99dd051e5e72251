"""Pydantic's errors as faults of a recipe: a position and one plain sentence each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from quantizers.errors import nearest_name
from sgq.recipe.positions import Fault, Path, Positions
from sgq.recipe.schema import PARTS, Part

_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text",
    "string_too_short": "text of at least one character",
    "tuple_type": "a list",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "too_short": "at least {min_length} in the list",
    "too_long": "at most {max_length} in the list",
    "greater_than": "a number above {gt:g}",
    "greater_than_equal": "a number of at least {ge:g}",
    "less_than_equal": "a number of at most {le:g}",
    "literal_error": "{expected}",
}


Parts = Mapping[tuple[str, ...], type[Part]]
"""Which model describes the mapping at a path (list indices left out)."""


def schema_faults(error: ValidationError, positions: Positions, *, parts: Parts = PARTS) -> Iterator[Fault]:
    """Yield a fault for every error of a file's validation; `parts` are those of its schema.

    A missing key is left out where an unknown key beside it is a misspelling of it.
    """
    details = error.errors()
    misspelt = set()
    for detail in details:
        if detail["type"] == "extra_forbidden":
            path = positions.data_path(detail["loc"])
            guess = nearest_name(str(path[-1]), known_keys(path[:-1], parts))
            misspelt.add((path[:-1], guess))
            message = f'unknown key "{path[-1]}".{guess} Known: {", ".join(known_keys(path[:-1], parts))}'
            yield Fault(positions.of_key(path), message)
    for detail in details:
        path = positions.data_path(detail["loc"])
        if detail["type"] == "missing":
            key = str(detail["loc"][-1])
            if (path, nearest_name(key, (key,))) not in misspelt:
                yield Fault(positions.of_value(path), f'{label(path)}missing key "{key}"')
        elif detail["type"] != "extra_forbidden":
            yield Fault(positions.of_value(path), f"{label(path)}{_sentence(detail)}")


def known_keys(path: Path, parts: Parts = PARTS) -> tuple[str, ...]:
    """Return the valid keys of the mapping at `path`."""
    names = tuple(part for part in path if isinstance(part, str))
    return tuple(parts[names].model_fields)


def label(path: Path) -> str:
    """Return a lead for a message about the value at `path`: `rule 2, bits.by_bucket: `."""
    item = ""
    if len(path) > 1 and isinstance(path[1], int):
        # A genotype's positions are numbered as modules are, from 0.
        item = f"position {path[1]}" if path[0] == "positions" else f"rule {path[1] + 1}"
    keys = path[2:] if item else path
    names = ".".join(part for part in keys if isinstance(part, str))
    lead = ", ".join(part for part in (item, names) if part)
    return f"{lead}: " if lead else ""


def _sentence(detail: ErrorDetails) -> str:
    context: dict[str, Any] = detail.get("ctx", {})
    if detail["type"] == "value_error":
        return str(context["error"])
    expected = _EXPECTED.get(detail["type"])
    if expected is None:
        return detail["msg"]
    return f"expected {expected.format(**context)} (got {_shown(detail['input'])})"


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    return repr(value)
