"""Dataclasses as short JSON: fields at their default are left out, and reading back is exact and strict.

The header of a packed checkpoint holds a plan in this form. `Plan.to_json` spells everything out instead,
which is what programs read and what digests are made of.
"""

from __future__ import annotations

import json
import math
import re
import types
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from sgq.errors import PlanError, SgqError, nearest_name

Value = TypeVar("Value")

LONGEST = 1024
"""How many integers a list may hold (a shape, counts by bucket): what their product costs stays small."""
GREATEST = 2**63 - 1
SHOWN = 60
"""How many characters of what a file says a message repeats."""
FREE_MEMBERS, CHARACTERS_A_MEMBER = 2**10, 4
"""A JSON text may have so many texts, brackets and commas, and one more for so many of its characters.

A plan has one in 6; a flood of empty lists or short texts takes many times its own size once it is parsed.
"""

_MEMBERS = re.compile(r'"(?:[^"\\]|\\.)*+"|[\[{,]', re.DOTALL)


def to_compact_text(value: Any) -> str:
    """Return a dataclass instance as JSON without what is at its default; see `from_compact_text`."""
    text = json.dumps(_shortened(value), separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    _check_members(text)
    return text


def from_compact_text(kind: type[Value], text: str) -> Value:
    """Return the instance of the dataclass `kind` that `to_compact_text` wrote.

    Raises PlanError, naming the field, for an unknown, a repeated or a missing one, for a value of another
    type, and for text that is no JSON, or has more members than any that was written.
    """
    _check_members(text)
    try:
        data = json.loads(text, object_pairs_hook=without_repetition, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise PlanError(f"expected JSON (got {type(error).__name__}: {error})") from error
    restored: Value = _restored(kind, data, kind.__name__.lower())
    return restored


def without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object's members as a dict; raise ValueError for a key that it has twice."""
    for key, _ in pairs:
        key.encode("utf-8")  # half a surrogate pair is no text, and cannot be printed
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f'duplicate key "{twice[:SHOWN]}"')
    return members


def _check_members(text: str) -> None:
    most = FREE_MEMBERS + len(text) // CHARACTERS_A_MEMBER
    if any(index >= most for index, _ in enumerate(_MEMBERS.finditer(text))):
        raise PlanError(f"expected JSON with at most {most} texts, brackets and commas (got more)")


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _shortened(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        kept = (field for field in fields(value) if not _at_default(field, getattr(value, field.name)))
        return {field.name: _shortened(getattr(value, field.name)) for field in kept}
    return [_shortened(item) for item in value] if isinstance(value, tuple) else value


def _at_default(field: Field[Any], value: Any) -> bool:
    return field.default is not MISSING and type(value) is type(field.default) and value == field.default


def _restored(kind: Any, data: Any, where: str) -> Any:
    """Return `data` as a value of the annotated type `kind`."""
    if is_dataclass(kind):
        return _instance(kind, data, where)
    if get_origin(kind) in (Union, types.UnionType):
        for arm in get_args(kind):
            if _fits(arm, data):
                return _restored(arm, data, where)
    elif not _fits(kind, data):
        pass
    elif get_origin(kind) is tuple:
        item = get_args(kind)[0]
        if item is int and len(data) > LONGEST:
            raise PlanError(f"{where}: expected at most {LONGEST} numbers (got {len(data)})")
        return tuple(_restored(item, value, f"{where}[{index}]") for index, value in enumerate(data))
    elif kind is str:
        if data.isascii() or not any("\ud800" <= sign <= "\udfff" for sign in data):
            return data
    elif kind not in (int, float) or _is_of_range(data):
        return data
    raise PlanError(f"{where}: expected {_name(kind)} (got {repr(data)[:SHOWN]})")


def _is_of_range(number: int | float) -> bool:
    return abs(number) <= GREATEST if isinstance(number, int) else math.isfinite(number)


def _fits(kind: Any, data: Any) -> bool:
    """Whether the outermost layer of `data` is of a kind."""
    if get_origin(kind) is Literal:
        return data in get_args(kind) if isinstance(data, str) else False
    if get_origin(kind) is tuple:
        return isinstance(data, list)
    if is_dataclass(kind):
        return isinstance(data, dict)
    return type(data) in ((int, float) if kind is float else (kind,))


def _instance(kind: Any, data: Any, where: str) -> Any:
    if not isinstance(data, dict):
        raise PlanError(f"{where}: expected an object (got {repr(data)[:SHOWN]})")
    known = {field.name: field for field in fields(kind)}
    for name in data:
        if name not in known:
            raise PlanError(f'{where}: unknown field "{name[:SHOWN]}".{nearest_name(name[:SHOWN], known)}')
    absent = [name for name, field in known.items() if name not in data and field.default is MISSING]
    if absent:
        raise PlanError(f"{where}: expected {', '.join(absent)} (got none)")
    hints = _hints(kind)
    values = {name: _restored(hints[name], value, f"{where}.{name}") for name, value in data.items()}
    try:
        return kind(**values)
    except SgqError as error:
        raise PlanError(f"{where}: {error}") from error


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _name(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")
