from __future__ import annotations

from pathlib import Path

import pytest

from sgq.errors import RecipeError
from sgq.graph.sites import SiteTable
from sgq.recipe import load_recipe, resolve, shipped_folder, shipped_names
from sgq.recipe.shipped import find_recipe

GRANULARITIES = ("lwq", "cwq", "taq", "lwq-cwq", "lwq-cwq-taq")
MODELS = ("gcn", "gat", "agnn")


def test_the_recipes_of_the_readme_ship() -> None:
    expected = {f"sgquant/{model}-{granularity}" for model in MODELS for granularity in GRANULARITIES}
    assert expected | {"int8", "int4", "int2"} <= set(shipped_names())


@pytest.mark.parametrize("name", shipped_names())
def test_every_shipped_recipe_parses_under_its_own_name_and_says_what_it_does(name: str) -> None:
    recipe = load_recipe(name).recipe
    assert recipe.name == name.rpartition("/")[2]
    assert recipe.about
    assert (shipped_folder() / f"{name}.yaml").read_text(encoding="utf-8").startswith("# ")


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_every_sgquant_recipe_quantizes_all_that_its_model_stores(
    request: pytest.FixtureRequest, model: str, granularity: str
) -> None:
    table: SiteTable = request.getfixturevalue(f"{model}_table")
    plan = resolve(load_recipe(f"sgquant/{model}-{granularity}"), table)
    kept = {entry.site.name.component for entry in plan if entry.spec is None}
    assert kept <= {"aggregate", "output"}
    assert plan.buckets == (4 if "taq" in granularity else 0)
    assert not any("later rules" in note for note in plan.notes)


@pytest.mark.parametrize("bits", [8, 4, 2])
@pytest.mark.parametrize("model", MODELS)
def test_uniform_recipes_quantize_every_tensor_that_a_layer_reads(
    request: pytest.FixtureRequest, model: str, bits: int
) -> None:
    table: SiteTable = request.getfixturevalue(f"{model}_table")
    plan = resolve(load_recipe(f"int{bits}"), table)
    read = {"weight", "input", "message", "attention"}
    for entry in plan:
        expected = bits if read & {name.component for name in entry.site.names} else None
        assert (entry.spec and entry.spec.bits) == expected, entry.site.name
    weights = [entry.spec for entry in plan if entry.site.name.component == "weight"]
    assert all(spec is not None and spec.granularity == "channel" and spec.symmetric for spec in weights)


@pytest.mark.parametrize("name", ["sgquant/gat-taq", "sgquant/gat-taq.yaml"])
def test_a_shipped_recipe_is_called_by_its_name_wherever_it_is_installed(name: str) -> None:
    assert load_recipe(name).file == "sgquant/gat-taq.yaml"


def test_package_data_goes_before_the_folder_of_a_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sgq.recipe.shipped.resources.files", lambda _: tmp_path / "sgq" / "recipe")
    assert shipped_folder() == tmp_path / "recipes"
    (tmp_path / "sgq" / "_recipes" / "own").mkdir(parents=True)
    (tmp_path / "sgq" / "_recipes" / "own" / "small.yaml").touch()
    (tmp_path / "sgq" / "_recipes" / "README.md").touch()
    assert shipped_folder() == tmp_path / "sgq" / "_recipes"
    assert shipped_names() == ("own/small",)


def test_a_recipe_is_found_by_path(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("version: 1\nname: mine\nrules: [{bits: 8}]\n")
    assert load_recipe(file).recipe.name == "mine"
    assert load_recipe(str(file)).file == str(file)


def test_an_existing_file_goes_before_a_shipped_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "int8.yaml").write_text("version: 1\nname: mine\nrules: [{bits: 8}]\n")
    monkeypatch.chdir(tmp_path)
    assert load_recipe("int8.yaml").recipe.name == "mine"
    assert load_recipe("int8").recipe.name == "int8"


def test_an_unknown_recipe_offers_the_nearest_shipped_name() -> None:
    with pytest.raises(
        RecipeError, match=r'no recipe "sgquant/gat-lqw": .* Did you mean "sgquant/gat-lwq"\?'
    ):
        load_recipe("sgquant/gat-lqw")


def test_an_unknown_path_offers_the_nearest_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").touch()
    with pytest.raises(RecipeError, match=r'Did you mean ".*mine\.yaml"\?'):
        find_recipe(tmp_path / "mien.yaml")


def test_a_folder_is_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="expected a recipe file"):
        find_recipe(tmp_path)
