"""Recipes: strict YAML in, a Plan of what every site of a model becomes out."""

from __future__ import annotations

from sgq.recipe.parsing import LoadedRecipe, load_recipe, parse_recipe
from sgq.recipe.plan import Calibration, Finetuning, Limits, Plan, PlanEntry
from sgq.recipe.positions import Position, Positions
from sgq.recipe.resolution import resolve
from sgq.recipe.schema import DegreeBuckets, Match, Recipe, Rule
from sgq.recipe.shipped import shipped_folder, shipped_names

__all__ = [
    "Calibration",
    "DegreeBuckets",
    "Finetuning",
    "Limits",
    "LoadedRecipe",
    "Match",
    "Plan",
    "PlanEntry",
    "Position",
    "Positions",
    "Recipe",
    "Rule",
    "load_recipe",
    "parse_recipe",
    "resolve",
    "shipped_folder",
    "shipped_names",
]
