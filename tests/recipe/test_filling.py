"""A space with a choice for each axis is a recipe that a person could have written."""

from __future__ import annotations

import pytest

from sgq.errors import RecipeError
from sgq.graph.sites import SiteTable
from sgq.recipe import LoadedRecipe, parse_recipe, resolve
from sgq.recipe.filling import filled

SPACE = """\
version: 1
name: open
about: bits to be searched
degree_buckets: {edges: [4, 16]}
rules:
  - match: {component: weight}
    bits: {choices: [2, 4, 8], axis: dense}
    granularity: channel
  - match: {module: convs.0, component: input}
    bits: {by_bucket: [16, {choices: [4, 2]}, {choices: [2, 4, 8], axis: dense}]}
    quantizer: {choices: [affine]}
    observer: mse
  - match: {module: convs.0, component: message}
    bits: {choices: [4, float]}
  - match: {module: convs.1, component: message}
    bits: 8
finetune: {epochs: 20, lr: 1e-3}
"""
CHOSEN: dict[str, int | str] = {
    "dense": 4,
    "convs.0:input[1]": 2,
    "convs.0:input.quantizer": "affine",
    "convs.0:message": 32,
}
BY_HAND = """\
version: 1
name: open
about: bits to be searched
degree_buckets: {edges: [4, 16]}
rules:
  - match: {component: weight}
    bits: 4
    granularity: channel
  - match: {module: convs.0, component: input}
    bits: {by_bucket: [16, 2, 4]}
    quantizer: affine
    observer: mse
  - match: {module: convs.0, component: message}
    bits: float
  - match: {module: convs.1, component: message}
    bits: 8
finetune: {epochs: 20, lr: 1e-3}
"""


@pytest.fixture
def space() -> LoadedRecipe:
    return parse_recipe(SPACE, file="space.yaml")


def test_a_filled_space_is_the_recipe_that_a_person_would_have_written(space: LoadedRecipe) -> None:
    made = filled(space, CHOSEN)
    assert made.recipe == parse_recipe(BY_HAND).recipe
    assert not made.recipe.is_space
    assert space.recipe == parse_recipe(SPACE).recipe


def test_the_text_of_a_filled_space_is_a_file_of_its_own(space: LoadedRecipe) -> None:
    made = filled(space, CHOSEN, name="found", about="bits as found", comments=("One.", "Two."))
    assert made.text.startswith("# One.\n# Two.\nversion: 1\nname: found\nabout: bits as found\n")
    assert "bits: {by_bucket: [16, 2, 4]}" in made.text
    read = parse_recipe(made.text)
    assert read.recipe == made.recipe
    assert read.recipe.rules == parse_recipe(BY_HAND).recipe.rules


def test_an_empty_description_takes_the_place_of_that_of_the_space(space: LoadedRecipe) -> None:
    made = filled(space, CHOSEN, about="")
    assert made.recipe.about == ""
    assert "about" not in made.text


def test_a_plan_of_a_filled_space_is_that_of_the_recipe_and_names_the_lines_of_the_space(
    space: LoadedRecipe, gcn_table: SiteTable
) -> None:
    plan = resolve(filled(space, CHOSEN), gcn_table)
    assert plan.digest == resolve(parse_recipe(BY_HAND), gcn_table).digest
    assert plan["convs.0:input"].origin == "space.yaml:9:5 rule 2"


@pytest.mark.parametrize("axis", CHOSEN)
def test_an_axis_without_a_choice_is_named(space: LoadedRecipe, axis: str) -> None:
    chosen = {name: value for name, value in CHOSEN.items() if name != axis}
    with pytest.raises(RecipeError) as caught:
        filled(space, chosen)
    assert str(caught.value) == f'space.yaml: nothing was chosen for "{axis}"'


def test_a_recipe_without_choices_needs_none() -> None:
    plain = parse_recipe(BY_HAND)
    assert filled(plain, {}).recipe == plain.recipe
