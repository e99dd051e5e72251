"""A recipe that is written as text is read back as the same recipe."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgq.graph.sites import COMPONENT_GROUPS, COMPONENTS
from sgq.recipe import load_recipe, parse_recipe, shipped_names
from sgq.recipe.schema import Recipe
from sgq.recipe.writing import recipe_text

WRITTEN = """\
version: 1
name: small
about: as a person writes it
degree_buckets: {edges: [4, 16]}
rules:
  - match: {module: convs.*, component: weight}
    bits: {choices: [2, 4], axis: all}
    granularity: channel
  - match: {component: [input, message], rows: node}
    bits: {by_bucket: [8, {choices: [4, 2]}, 32]}
    observer: {kind: mse}
  - bits: 8
    range: [0.0, 1.0]
    optional: true
finetune: {epochs: 20, lr: 0.001}
limits: {packed_bytes: 2048}
"""

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    [
        "no",
        "~",
        "1e3",
        "0o17",
        "0x1f",
        "1:30",
        "1_0",
        "2024-01-01",
        "=",
        "<<",
        "#",
        "a: b",
        "- a",
        "*",
        "&a",
        "!b",
    ]
)
names = words.filter(bool)
widths = st.integers(1, 16) | st.just(32)
choices = st.lists(widths, min_size=1, max_size=4, unique=True)
shares = st.floats(0.0, 1.0)


def optional(**strategies: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Return mappings in which each key may be absent."""
    return st.fixed_dictionaries({}, optional=strategies)


matches = optional(
    module=words,
    component=st.lists(st.sampled_from([*COMPONENTS, *COMPONENT_GROUPS, "*"]), min_size=1, max_size=3),
    tensor=words,
    rows=st.sampled_from(["parameter", "node", "edge"]),
)
observers = optional(
    kind=st.sampled_from(["minmax", "mse", "percentile"]),
    momentum=shares.filter(bool),
    q=st.floats(0.5, 1.0, exclude_min=True),
)


@st.composite
def rules(draw: st.DrawFn, buckets: int, number: int) -> dict[str, Any]:
    """Return a rule for that many degree buckets; the axes that it names are its own."""
    one: st.SearchStrategy[Any] = widths | st.fixed_dictionaries({"choices": choices})
    named = st.fixed_dictionaries({"choices": choices, "axis": names.map(lambda name: f"{number} {name}")})
    tables = st.fixed_dictionaries({"by_bucket": st.lists(one, min_size=buckets, max_size=buckets)})
    bits = draw((one | named | tables) if buckets else (one | named))
    bucketed = isinstance(bits, dict) and "by_bucket" in bits
    granularity = st.sampled_from(["node", "bucket"] if bucketed else ["tensor", "channel", "node"])
    ranges = st.tuples(st.floats(-1e9, -1e-9), st.floats(1e-9, 1e9)).map(list)
    rule = optional(
        match=matches,
        quantizer=st.just("affine") | st.just({"choices": ["affine"]}),
        granularity=granularity,
        symmetric=st.booleans(),
        signed=st.booleans(),
        optional=st.booleans(),
    )
    found = draw(
        st.just({})
        | st.fixed_dictionaries({"observer": observers})
        | st.fixed_dictionaries({"range": ranges})
    )
    return {"bits": bits} | draw(rule) | found


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    edges = draw(st.lists(st.integers(1, 99), max_size=3, unique=True).map(sorted))
    whole: dict[str, Any] = {"version": 1, "name": draw(names), "about": draw(words)}
    if edges:
        whole["degree_buckets"] = {"edges": edges}
    buckets = len(edges) + 1 if edges else 0
    whole["rules"] = [draw(rules(buckets, number)) for number in range(draw(st.integers(1, 3)))]
    whole["calibrate"] = draw(optional(batches=st.integers(1, 99)))
    whole["finetune"] = draw(
        optional(
            epochs=st.integers(0, 999),
            lr=st.floats(1e-9, 10.0),
            distill=shares,
            observe=shares,
            select_on=st.sampled_from(["val", "last"]),
        )
    )
    whole["limits"] = draw(optional(packed_bytes=st.integers(1, 10**12), accuracy_drop=shares))
    return Recipe.model_validate(whole)


@settings(deadline=None)
@given(recipes())
def test_reading_is_the_inverse_of_writing(recipe: Recipe) -> None:
    assert parse_recipe(recipe_text(recipe)).recipe == recipe


@pytest.mark.parametrize(
    "name", ["1e3", "-2E+5", "0o17", "0x1F", "no", "null", "~", "1:30", "2\x85x", "a\rb", "é\u2028"]
)
def test_a_text_that_looks_like_something_else_stays_a_text(name: str) -> None:
    recipe = Recipe.model_validate(
        {"version": 1, "name": name, "rules": [{"match": {"tensor": name}, "bits": 8}]}
    )
    assert parse_recipe(recipe_text(recipe)).recipe == recipe


def test_a_recipe_is_written_as_a_person_would_have_done_it() -> None:
    assert recipe_text(parse_recipe(WRITTEN).recipe) == WRITTEN


def test_what_is_at_its_default_is_not_written() -> None:
    recipe = Recipe.model_validate(
        {
            "version": 1,
            "name": "x",
            "about": "",
            "rules": [{"match": {"module": "*"}, "bits": 8, "quantizer": "affine", "optional": False}],
            "finetune": {"epochs": 0},
        }
    )
    assert recipe_text(recipe) == "version: 1\nname: x\nrules:\n  - bits: 8\n"


def test_comments_lead_the_text_and_change_nothing() -> None:
    recipe = parse_recipe(WRITTEN).recipe
    text = recipe_text(recipe, comments=("Found by a search: 82.1 %.", "rules: [none]"))
    assert text == f"# Found by a search: 82.1 %.\n# rules: [none]\n{WRITTEN}"
    assert parse_recipe(text).recipe == recipe


@pytest.mark.parametrize("name", shipped_names())
def test_every_shipped_recipe_can_be_written_again(name: str) -> None:
    recipe = load_recipe(name).recipe
    assert parse_recipe(recipe_text(recipe)).recipe == recipe
