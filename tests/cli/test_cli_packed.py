"""`sgq apply --with-features` writes a packed file, and `sgq show` tells what is in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sgq.pipeline.checkpoint import read

GCN = ("--model", "gcn", "--data", "cli_subjects:ring")
Sgq = Callable[..., Any]


@pytest.fixture
def packed(sgq: Sgq, trained: Path, recipe: Path, tmp_path: Path) -> Path:
    words = ("--checkpoint", str(trained), "-o", "run", "--with-features", "--quiet")
    assert sgq("apply", str(recipe), *GCN, *words).code == 0
    return tmp_path / "run" / "model.safetensors"


def test_show_tells_what_a_packed_file_weighs_against_the_model_of_it(sgq: Sgq, packed: Path) -> None:
    shown = json.loads(sgq("show", str(packed), "--json").out)
    sizes = shown["bytes"]
    assert sizes["file"] == packed.stat().st_size == sizes["header"] + sizes["payload"]
    assert sizes["payload without features"] == sizes["modelled"] == shown["memory"]["file_bytes"]
    assert sizes["features"] == sizes["payload"] - sizes["modelled"] <= sizes["features modelled"]
    assert shown["header"]["format"] == "sgq-packed-1"
    assert shown["fingerprint"]["zoo"]["name"] == "gcn"
    assert shown["tensors"]["convs.0.lin:weight/codes"] == [5 * 6]
    assert sum(shown["tensor_bytes"].values()) == sizes["payload"]


def test_show_prints_a_line_a_site(sgq: Sgq, packed: Path) -> None:
    text = sgq("show", str(packed)).out
    assert "format: sgq-packed-1" in text
    assert "fingerprint: GCN " in text
    assert "codes uint8 30, scale float32 1" in text
    assert "features form: " in text
    assert "recipe: tiny" in text


def test_the_file_holds_the_recipe_and_the_features(packed: Path, recipe: Path) -> None:
    contents = read(packed)
    assert contents.recipe_text == recipe.read_text()
    assert contents.features is not None
    assert tuple(contents.features.dequantized().shape) == (24, 6)


def test_features_that_stay_in_float_are_told_before_anything_is_trained(
    sgq: Sgq, trained: Path, recipe: Path, tmp_path: Path
) -> None:
    recipe.write_text(recipe.read_text().replace('component: "*"', "component: weight"))
    words = ("--checkpoint", str(trained), "-o", "run", "--with-features", "--quiet")
    outcome = sgq("apply", str(recipe), *GCN, *words)
    assert outcome.code == 2
    assert "expected one quantized site of input features in the plan (got 0)" in outcome.error
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_a_broken_file_is_a_usage_error(sgq: Sgq, packed: Path) -> None:
    content = bytearray(packed.read_bytes())
    content[-1] ^= 1
    packed.write_bytes(content)
    outcome = sgq("show", str(packed))
    assert outcome.code == 2
    assert "checksum: expected" in outcome.error
