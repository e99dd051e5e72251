"""A recipe as YAML text that `parse_recipe` reads back to the same recipe."""

from __future__ import annotations

from typing import Any

import yaml

from sgq.recipe.loading import StrictLoader
from sgq.recipe.schema import Recipe

LINE_LENGTH = 120


def recipe_text(recipe: Recipe, *, comments: tuple[str, ...] = ()) -> str:
    """Return a recipe as YAML, keys in the schema's order and defaults left out.

    `comments` lead it, a line each.
    """
    data = recipe.model_dump(mode="json", exclude_defaults=True)
    rules = [{key: in_line(value) for key, value in _shortened(rule).items()} for rule in data.pop("rules")]
    document = {"version": 1, "name": data.pop("name")}
    document |= {key: data.pop(key) for key in ("about", "degree_buckets") if key in data}
    document |= {"rules": rules, **data}
    document = {key: value if key == "rules" else in_line(value) for key, value in document.items()}
    return yaml_text(document, comments=comments)


def yaml_text(document: dict[str, Any], *, comments: tuple[str, ...] = ()) -> str:
    """Return plain data as YAML that `read_yaml` reads back; `comments` lead it, a line each."""
    text: str = yaml.dump(
        document,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=LINE_LENGTH,
        default_flow_style=False,
    )
    return "".join(f"# {comment}\n" for comment in comments) + text


def _shortened(rule: dict[str, Any]) -> dict[str, Any]:
    """Return a rule with its match first, and with a text in the place of a list of one component."""
    match = dict(rule.get("match", {}))
    if len(match.get("component", ())) == 1:
        match["component"] = match["component"][0]
    return {
        **({"match": match} if match else {}),
        **{key: value for key, value in rule.items() if key != "match"},
    }


class _InLine(dict[str, Any]):
    """A mapping that is written on one line."""


class _InLineList(list[Any]):
    """A list that is written on one line."""


class _Dumper(yaml.SafeDumper):
    """Writes mappings inside rules, and all lists in them, on one line."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """Indent lists under their key, as the shipped recipes do."""
        del indentless
        super().increase_indent(flow, False)


def _represent_mapping(dumper: yaml.SafeDumper, data: _InLine) -> yaml.Node:
    return dumper.represent_mapping("tag:yaml.org,2002:map", data.items(), flow_style=True)


def _represent_list(dumper: yaml.SafeDumper, data: _InLineList) -> yaml.Node:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=True)


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    """Quote what only YAML 1.2 takes for a number (1e3, 0o17), and escape a line end that YAML would fold."""
    tests = StrictLoader.yaml_implicit_resolvers.get(text[:1], ())
    quoted = "\x85" in text or any(pattern.match(text) for _, pattern in tests)
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if quoted else None)


_Dumper.add_representer(str, _represent_text)
_Dumper.add_representer(_InLine, _represent_mapping)
_Dumper.add_representer(_InLineList, _represent_list)


def in_line(value: Any) -> Any:
    """Return a mapping or a list that `yaml_text` writes on one line; anything else as it is."""
    if isinstance(value, dict):
        return _InLine({key: in_line(part) for key, part in value.items()})
    return _InLineList(map(in_line, value)) if isinstance(value, list) else value
