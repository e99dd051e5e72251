"""The recipes that ship with sgq, and how a recipe is found by name or by path."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from sgq.errors import RecipeError, nearest_name

_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class FoundRecipe:
    """A recipe file, and how messages and plans call it: shipped ones by name, the same on any machine."""

    path: Path
    label: str


def shipped_folder() -> Path:
    """Return the folder of the shipped recipes: package data, or `recipes/` of a checkout."""
    package = Path(str(resources.files("sgq.recipe"))).parent
    installed = package / "_recipes"
    return installed if installed.is_dir() else package.parent / "recipes"


def shipped_names() -> tuple[str, ...]:
    """Return the names of the shipped recipes, sorted: `int8`, `sgquant/gat-taq` …"""
    folder = shipped_folder()
    return tuple(
        sorted(file.relative_to(folder).with_suffix("").as_posix() for file in folder.rglob("*.yaml"))
    )


def find_recipe(name_or_path: str | Path) -> FoundRecipe:
    """Return the file of a recipe; an existing file goes before a shipped recipe of the same name.

    Raises RecipeError with the nearest name or path where there is none.
    """
    text = str(name_or_path)
    path = Path(name_or_path)
    if path.suffix in _SUFFIXES and path.is_file():
        return FoundRecipe(path, text)
    names = shipped_names()
    name = text.removesuffix(".yaml")
    if isinstance(name_or_path, str) and name in names:
        return FoundRecipe(shipped_folder() / f"{name}.yaml", f"{name}.yaml")
    if path.is_file():
        return FoundRecipe(path, text)
    if path.is_dir():
        raise RecipeError(f"expected a recipe file (got the folder {text})")
    near = nearest_name(name, names)
    beside = [str(file) for file in path.parent.glob("*") if file.suffix in _SUFFIXES]
    hint = near or nearest_name(text, beside)
    raise RecipeError(
        f'no recipe "{text}": no such file and no shipped recipe.{hint} Shipped: {", ".join(names)}'
    )
