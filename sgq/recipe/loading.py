"""Strict YAML: plain data with the position of every node, and an error for all that is ambiguous.

Scalars follow the core schema of YAML 1.2 (section 10.3): `1e-3` is a number, `no` and `on` are text,
`0o17` is octal, `1:30` is text. Duplicate keys, tags, anchors and aliases are faults.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

import yaml

from sgq.errors import RecipeError, SgqError
from sgq.recipe.positions import START, Fault, Path, Position, Positions

_TAG = "tag:yaml.org,2002:"
_LONGEST_NUMBER = 100


class StrictLoader(yaml.SafeLoader):
    """A SafeLoader that knows the YAML 1.2 core schema and collects tags, anchors and aliases as faults."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.faults: list[Fault] = []

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Return the next node; what a recipe must not use is noted as a fault and read as if absent."""
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        position = _position(event.start_mark)
        if isinstance(event, yaml.AliasEvent):
            self.get_event()  # type: ignore[no-untyped-call]
            self.faults.append(Fault(position, f'aliases are not supported (got "*{event.anchor}")'))
            mark: Any = event.start_mark
            return yaml.ScalarNode(f"{_TAG}null", "", mark, mark)
        if isinstance(event, yaml.NodeEvent) and event.anchor is not None:
            self.faults.append(Fault(position, f'anchors are not supported (got "&{event.anchor}")'))
            event.anchor = None
        if isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent) and event.tag is not None:
            tag = event.tag.replace(_TAG, "!!")
            self.faults.append(Fault(position, f'tags are not supported (got "{tag}")'))
            event.tag = None
        return super().compose_node(parent, index)


StrictLoader.yaml_implicit_resolvers = {}
for _name, _pattern, _first in (
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$", list("-+0123456789")),
    ("float", r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$", list("-+.0123456789")),
    ("float", r"^(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$", list("-+.")),
):
    StrictLoader.add_implicit_resolver(_TAG + _name, re.compile(_pattern), _first)


@dataclass(frozen=True)
class YamlDocument:
    """What a text holds, the position of each part, and the faults that did not stop the reading."""

    data: dict[str, Any]
    positions: Positions
    faults: tuple[Fault, ...]


def read_text(path: str | FilePath, *, error: type[SgqError] = RecipeError) -> str:
    """Return the text of a UTF-8 file; raise `error` if it cannot be read."""
    try:
        content = FilePath(path).read_bytes()
    except OSError as fault:
        raise error(f"{path}:{START}: cannot read the file: {fault.strerror or fault}") from fault
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        before = content[: fault.start]
        position = Position(before.count(b"\n") + 1, len(before) - before.rfind(b"\n"))
        raise error(f"{path}:{position}: expected UTF-8 text (got {fault.reason})") from fault


def read_yaml(
    text: str,
    *,
    file: str = "<string>",
    what: str = "recipe",
    error: type[SgqError] = RecipeError,
) -> YamlDocument:
    """Return the mapping that `text` holds with the faults in it; `what` the file is to be.

    Raises `error` when the text is no YAML mapping at all.
    """
    try:
        loader = StrictLoader(text)
        node = loader.get_single_node()
        if node is None:
            raise error(f"{file}:{START}: expected a {what} (got an empty file)")
        builder = _Builder(loader.faults)
        data = builder.build(node, ())
    except yaml.MarkedYAMLError as fault:
        raise error(f"{file}:{_syntax_fault(fault)}") from fault
    except yaml.reader.ReaderError as fault:
        before = text[: fault.position]
        position = Position(before.count("\n") + 1, len(before) - before.rfind("\n"))
        raise error(f"{file}:{position}: {fault.reason} (got {fault.character!r})") from fault
    except RecursionError as fault:
        raise error(f"{file}:{START}: nested too deeply") from fault
    if not isinstance(data, dict):
        kind = "a list" if isinstance(data, list) else repr(data)
        raise error(f"{file}:{builder.values[()]}: expected a mapping (got {kind})")
    return YamlDocument(data, Positions(file, builder.values, builder.keys), tuple(builder.faults))


class _Builder:
    """Turns nodes into plain data and notes where each of them stands."""

    def __init__(self, faults: list[Fault]) -> None:
        self.faults = faults
        self.values: dict[Path, Position] = {}
        self.keys: dict[Path, Position] = {}

    def build(self, node: yaml.Node, path: Path) -> Any:
        self.values[path] = _position(node.start_mark)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            position = _position(key_node.start_mark)
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != f"{_TAG}str":
                got = key_node.value if isinstance(key_node, yaml.ScalarNode) else "a list or a mapping"
                self.faults.append(Fault(position, f"expected text as a key (got {got or 'nothing'})"))
            elif key_node.value in data:
                first = self.keys[(*path, key_node.value)]
                message = f'duplicate key "{key_node.value}", first on line {first.line}'
                self.faults.append(Fault(position, message))
            else:
                self.keys[(*path, key_node.value)] = position
                data[key_node.value] = self.build(value_node, (*path, key_node.value))
        return data

    def _scalar(self, node: yaml.Node) -> Any:
        text: str = node.value
        kind = node.tag.removeprefix(_TAG)
        if kind in ("int", "float") and len(text) > _LONGEST_NUMBER:
            message = f"expected a number of at most {_LONGEST_NUMBER} characters (got {len(text)})"
            self.faults.append(Fault(_position(node.start_mark), message))
            return 0
        if kind == "int":
            return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
        if kind == "float":
            return float(re.sub(r"\.(inf|nan)$", r"\1", text.lower()))
        if kind == "bool":
            return text.lower() == "true"
        return None if kind == "null" else text


def _position(mark: Any) -> Position:
    return Position(mark.line + 1, mark.column + 1)


def _syntax_fault(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    position = START if mark is None else _position(mark)
    problem = error.problem or "not valid YAML"
    if r"'\t'" in problem:
        return f"{position}: tabs cannot indent YAML; use spaces"
    context = f"{error.context}: " if error.context else ""
    return f"{position}: {context}{problem}"
