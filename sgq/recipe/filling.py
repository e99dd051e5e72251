"""From a space and one choice for each of its axes to a plain recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sgq.errors import RecipeError
from sgq.recipe.choices import Choosable, choosable
from sgq.recipe.parsing import LoadedRecipe
from sgq.recipe.schema import Rule, WidthTable
from sgq.recipe.writing import recipe_text


def filled(
    loaded: LoadedRecipe,
    chosen: Mapping[str, int | str],
    *,
    name: str | None = None,
    about: str | None = None,
    comments: tuple[str, ...] = (),
) -> LoadedRecipe:
    """Return the plain recipe that the chosen values, by axis, make of a space; its text is a file of its
    own.

    `name` and `about` replace the space's, `comments` lead the text. Origins in plans still name the space's
    lines. Raises RecipeError where something open has no value.
    """
    rules = list(loaded.recipe.rules)
    for item in choosable(loaded.recipe):
        if item.name not in chosen:
            raise RecipeError(f'{loaded.file}: nothing was chosen for "{item.name}"')
        rules[item.rule] = _with_choice(rules[item.rule], item, chosen[item.name])
    names = {"name": name or loaded.recipe.name, "about": loaded.recipe.about if about is None else about}
    recipe = loaded.recipe.model_copy(update={"rules": tuple(rules), **names})
    return replace(loaded, recipe=recipe, text=recipe_text(recipe, comments=comments))


def _with_choice(rule: Rule, item: Choosable, value: int | str) -> Rule:
    if item.of_quantizer:
        return rule.model_copy(update={"quantizer": value})
    if item.bucket is None:
        return rule.model_copy(update={"bits": value})
    assert isinstance(rule.bits, WidthTable)
    widths: list[object] = list(rule.bits.by_bucket or ())
    widths[item.bucket] = value
    return rule.model_copy(update={"bits": rule.bits.model_copy(update={"by_bucket": tuple(widths)})})
