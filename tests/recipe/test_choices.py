"""What a recipe leaves open has a name, and places that share an axis have the same choices."""

from __future__ import annotations

import pytest

from sgq.errors import RecipeError
from sgq.recipe import parse_recipe
from sgq.recipe.choices import Choosable, choosable

HEAD = "version: 1\nname: x\ndegree_buckets: {edges: [4]}\nrules:\n"
"""The first rule is on line 5; there are two degree buckets."""


def open_places(*rules: str) -> tuple[Choosable, ...]:
    """Return what rules in flow style leave open."""
    return choosable(parse_recipe(HEAD + "".join(f"  - {{{rule}}}\n" for rule in rules)).recipe)


def faults(*rules: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(HEAD + "".join(f"  - {rule}\n" for rule in rules), file="r.yaml")
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("match", "name"),
    [
        ("{module: convs.0, component: message}", "convs.0:message"),
        ('{module: "convs.*", component: weight}', "convs.*:weight"),
        ("{module: convs.0, component: [input, message], rows: node}", "convs.0:input+message"),
        ('{module: convs.0, component: message, tensor: "alpha*"}', "convs.0:message.alpha*"),
        ("{component: aggregation}", "*:aggregation"),
        ("{}", "*:*"),
    ],
)
def test_an_axis_is_called_after_the_match_of_its_rule(match: str, name: str) -> None:
    assert open_places(f"match: {match}, bits: {{choices: [8, 2]}}") == (Choosable(name, 0, None, (8, 2)),)


def test_a_width_of_a_bucket_and_a_quantizer_are_told_from_the_width_of_all() -> None:
    match = "match: {module: convs.0, component: input}"
    places = open_places(
        f"{match}, bits: {{by_bucket: [8, {{choices: [2, 4]}}]}}, quantizer: {{choices: [affine]}}"
    )
    assert places == (
        Choosable("convs.0:input[1]", 0, 1, (2, 4)),
        Choosable("convs.0:input.quantizer", 0, None, ("affine",)),
    )
    assert [place.of_quantizer for place in places] == [False, True]


def test_what_is_decided_is_no_axis() -> None:
    assert open_places("bits: 8", "bits: {by_bucket: [8, float]}", "bits: float, quantizer: affine") == ()


def test_float_is_a_choice_of_32_bits() -> None:
    assert open_places("bits: {choices: [4, float]}")[0].choices == (4, 32)


def test_rules_of_one_match_are_told_apart_by_their_numbers() -> None:
    rule = "bits: {choices: [2, 4]}"
    assert [place.name for place in open_places(rule, "bits: 8", rule)] == ["*:* (rule 1)", "*:* (rule 3)"]


def test_places_that_name_an_axis_share_it_in_whatever_order_their_choices_are() -> None:
    places = open_places(
        "match: {component: weight}, bits: {choices: [2, 4], axis: narrow}",
        "match: {component: input}, bits: {by_bucket: [8, {choices: [4, 2], axis: narrow}]}",
        "match: {component: message}, bits: {choices: [2, 4]}",
    )
    assert [(place.name, place.rule, place.bucket, place.shared) for place in places] == [
        ("narrow", 0, None, True),
        ("narrow", 1, 1, True),
        ("*:message", 2, None, False),
    ]


def test_a_rule_is_not_drawn_into_an_axis_that_has_the_name_of_its_match() -> None:
    places = open_places(
        'match: {component: weight}, bits: {choices: [2, 4], axis: "*:input"}',
        "match: {component: input}, bits: {choices: [2, 4]}",
    )
    assert [place.name for place in places] == ["*:input", "*:input (rule 2)"]


def test_every_place_with_other_choices_than_its_axis_is_a_fault_at_its_rule() -> None:
    assert faults(
        "bits: {choices: [2, 4], axis: narrow}",
        "bits: {choices: [2, 4, 8], axis: narrow}",
        "bits: {choices: [2, 4], axis: narrow}",
        "bits: {by_bucket: [8, {choices: [4], axis: narrow}]}",
    ) == [
        'r.yaml:6:5: rule 2: axis "narrow" has choices [2, 4] in rule 1 (got [2, 4, 8])',
        'r.yaml:8:5: rule 4: axis "narrow" has choices [2, 4] in rule 1 (got [4])',
    ]


@pytest.mark.parametrize(
    ("rule", "fault"),
    [
        ("bits: {choices: [2], axis: §3}", "rule 1, bits.axis: expected text (got 3)"),
        (
            "bits: {choices: [2], axis: §''}",
            "rule 1, bits.axis: expected text of at least one character (got '')",
        ),
        (
            "bits: §{by_bucket: [8, 4], axis: a}",
            "rule 1, bits: expected axis beside choices, not beside by_bucket",
        ),
        ("bits: §{axis: a}", "rule 1, bits: expected either by_bucket or choices"),
        (
            "bits: {choices: [2], §axes: a}",
            'unknown key "axes". Did you mean "axis"? Known: by_bucket, choices, axis',
        ),
        (
            "bits: {by_bucket: [8, §{axis: a}]}",
            'rule 1, bits.by_bucket: missing key "choices"',
        ),
        (
            "bits: {by_bucket: [8, {choices: §[4, 4]}]}",
            "rule 1, bits.by_bucket.choices: expected choices that differ (got [4, 4])",
        ),
        (
            "bits: {by_bucket: [8, {choices: [4], §axs: a}]}",
            'unknown key "axs". Did you mean "axis"? Known: choices, axis',
        ),
        (
            "{bits: 8, quantizer: {choices: §[]}}",
            "rule 1, quantizer.choices: expected at least one in the list (got none)",
        ),
        (
            "{bits: 8, quantizer: {choices: [affine], §axis: a}}",
            'unknown key "axis". Known: choices',
        ),
    ],
)
def test_a_fault_of_choices_is_one_line_at_its_position(rule: str, fault: str) -> None:
    before, _, after = rule.partition("§")
    assert faults(before + after) == [f"r.yaml:5:{5 + len(before)}: {fault}"]
