"""From the text of a recipe to a checked `LoadedRecipe`, with every fault of it reported at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError

from sgq.recipe.choices import axis_faults
from sgq.recipe.faults import schema_faults
from sgq.recipe.loading import YamlDocument, read_text, read_yaml
from sgq.recipe.positions import Fault, Positions, raise_faults
from sgq.recipe.schema import DegreeBuckets, Recipe, Rule
from sgq.recipe.shipped import find_recipe


@dataclass(frozen=True)
class LoadedRecipe:
    """A recipe, the file that it came from, where each part of it stands there, and the whole text."""

    recipe: Recipe
    file: str
    positions: Positions
    text: str


def load_recipe(name_or_path: str | FilePath) -> LoadedRecipe:
    """Return a shipped recipe by its name (`int8`, `sgquant/gat-taq`) or any recipe by its path.

    Raises RecipeError with one line `file:line:col: …` for every fault, or with the nearest name when
    there is no such recipe.
    """
    found = find_recipe(name_or_path)
    return parse_recipe(read_text(found.path), file=found.label)


def parse_recipe(text: str, *, file: str = "<string>") -> LoadedRecipe:
    """Return the recipe that `text` holds; `file` names it in messages.

    Raises RecipeError with one line `file:line:col: …` for every fault, sorted by position.
    """
    document = read_yaml(text, file=file)
    # A node that is no plain YAML was read as if absent: what the schema says of it would only repeat that.
    unread = {fault.position for fault in document.faults}
    faults = (fault for fault in _faults(document) if fault.position not in unread)
    raise_faults(file, [*document.faults, *faults])
    recipe = Recipe.model_validate(document.data)
    raise_faults(file, axis_faults(recipe, document.positions))
    return LoadedRecipe(recipe, file, document.positions, text)


def _faults(document: YamlDocument) -> Iterator[Fault]:
    """Yield what the schema says of a document, then what is wrong between its sound parts."""
    broken: dict[int, set[str]] = defaultdict(set)
    try:
        Recipe.model_validate(document.data)
    except ValidationError as error:
        yield from schema_faults(error, document.positions)
        for detail in error.errors():
            location = detail["loc"]
            if location[:1] == ("rules",) and len(location) > 2:
                broken[int(location[1])].add(str(location[2]))
    yield from _rule_faults(document.data, document.positions, broken)


def _rule_faults(
    data: Mapping[str, Any], positions: Positions, broken: Mapping[int, set[str]]
) -> Iterator[Fault]:
    """Yield what is wrong between parts that are right by themselves; broken keys are left out."""
    buckets, known = _buckets(data.get("degree_buckets"))
    rules = data.get("rules")
    for index, written in enumerate(rules if isinstance(rules, list) else []):
        if not isinstance(written, dict):
            continue
        sound = {key: value for key, value in written.items() if key not in broken.get(index, ())}
        rule = Rule.model_validate({"bits": 8} | sound)
        messages = list(rule.clashes())
        if known:
            messages.extend(rule.bucket_clashes(buckets))
        for message in messages:
            yield Fault(positions.of_value(("rules", index)), f"rule {index + 1}: {message}")


def _buckets(written: Any) -> tuple[int, bool]:
    """Return how many degree buckets a recipe has, and whether that can be told."""
    if written is None:
        return 0, True
    try:
        return DegreeBuckets.model_validate(written).count, True
    except ValidationError:
        return 0, False
