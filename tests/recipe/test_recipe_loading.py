from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sgq.errors import RecipeError
from sgq.recipe.loading import read_text, read_yaml
from sgq.recipe.positions import Position, Positions, raise_faults


def load_yaml(text: str, *, file: str = "<string>") -> tuple[dict[str, Any], Positions]:
    """The mapping that a text without faults holds, and its positions."""
    document = read_yaml(text, file=file)
    raise_faults(file, document.faults)
    return document.data, document.positions


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1.", 1.0),
        (".5", 0.5),
        ("-2.5E+2", -250.0),
        ("12", 12),
        ("-12", -12),
        ("012", 12),
        ("0o17", 15),
        ("0x1F", 31),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("2026-01-02", "2026-01-02"),
        ("no", "no"),
        ("on", "on"),
        ("yes", "yes"),
        ("Off", "Off"),
        ("true", True),
        ("false", False),
        ("'true'", "true"),
        ("~", None),
        ("null", None),
        ("", None),
        ("'5'", "5"),
        ("=", "="),
        (".inf", float("inf")),
        ("-.INF", float("-inf")),
        ("convs.*", "convs.*"),
    ],
)
def test_scalars_follow_the_core_schema_of_yaml_1_2(text: str, value: object) -> None:
    data, _ = load_yaml(f"key: {text}")
    assert data == {"key": value}
    assert type(data["key"]) is type(value)


def test_every_node_keeps_its_position() -> None:
    _, positions = load_yaml("name: x\nrules:\n  - bits: 8\n    match: {module: a}\n", file="r.yaml")
    assert positions.values[()] == Position(1, 1)
    assert positions.values[("rules", 0)] == Position(3, 5)
    assert positions.values[("rules", 0, "bits")] == Position(3, 11)
    assert positions.keys[("rules", 0, "match", "module")] == Position(4, 13)
    assert positions.place(("rules", 0, "match", "module")) == "r.yaml:4:21"


def test_a_location_with_parts_that_are_not_in_the_file_maps_to_what_is_around_it() -> None:
    _, positions = load_yaml("rules:\n  - bits: {by_bucket: [8]}\n")
    assert positions.of_value(("rules", 0, "bits", "a table", "by_bucket", 0, "a width")) == Position(2, 24)
    assert positions.of_value(("rules", 0, "missing")) == Position(2, 5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "r.yaml:1:1: expected a recipe (got an empty file)"),
        ("# nothing\n", "r.yaml:1:1: expected a recipe (got an empty file)"),
        ("\n- a\n", "r.yaml:2:1: expected a mapping (got a list)"),
        ("5", "r.yaml:1:1: expected a mapping (got 5)"),
        ("a:\n\tb: 1\n", "r.yaml:2:1: tabs cannot indent YAML; use spaces"),
        ("a: 1\nb: 2\na: 3\n", 'r.yaml:3:1: duplicate key "a", first on line 1'),
        ("a: {b: 1, b: 2}", 'r.yaml:1:11: duplicate key "b", first on line 1'),
        ("a: &x 1\n", 'r.yaml:1:4: anchors are not supported (got "&x")'),
        ("a: *x\n", 'r.yaml:1:4: aliases are not supported (got "*x")'),
        (
            "a: !!python/name:os.system 1",
            'r.yaml:1:4: tags are not supported (got "!!python/name:os.system")',
        ),
        ("a: !!str 1", 'r.yaml:1:4: tags are not supported (got "!!str")'),
        ("1: a", "r.yaml:1:1: expected text as a key (got 1)"),
        ("? [a]\n: 1", "r.yaml:1:3: expected text as a key (got a list or a mapping)"),
        ("a: \x07", "r.yaml:1:4: special characters are not allowed (got 7)"),
    ],
)
def test_what_is_not_plain_yaml_is_an_error_at_its_position(text: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_yaml(text, file="r.yaml")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("a: [1\n", "r.yaml:2:1: while parsing a flow sequence"),
        ("a: 1\n---\nb: 2", "r.yaml:2:1: expected a single document"),
        ('a: "x\nb:', "r.yaml:2:3: while scanning a quoted scalar"),
        ("[" * 5000, "r.yaml:1:1: nested too deeply"),
        ("a: " + "9" * 5000, "r.yaml:1:4: expected a number of at most 100 characters"),
    ],
)
def test_broken_yaml_is_one_clear_error(text: str, start: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_yaml(text, file="r.yaml")
    assert str(caught.value).startswith(start)
    assert "\n" not in str(caught.value)


def test_all_faults_are_reported_sorted_by_position() -> None:
    with pytest.raises(RecipeError) as caught:
        load_yaml("b: !x 1\na: *y\nb: 2\n", file="r.yaml")
    assert [line.split(": ")[0] for line in str(caught.value).splitlines()] == [
        "r.yaml:1:4",
        "r.yaml:2:4",
        "r.yaml:3:1",
    ]


def test_an_unreadable_file_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"absent\.yaml:1:1: cannot read the file: No such file"):
        read_text(tmp_path / "absent.yaml")


def test_text_that_is_no_utf8_is_an_error_at_its_position(tmp_path: Path) -> None:
    file = tmp_path / "latin.yaml"
    file.write_bytes(b"a: 1\nb: caf\xe9\n")
    with pytest.raises(RecipeError, match=r"latin\.yaml:2:7: expected UTF-8 text"):
        read_text(file)


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    file = tmp_path / "marked.yaml"
    file.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert load_yaml(read_text(file))[0] == {"a": 1}
