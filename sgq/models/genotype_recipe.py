"""The bits of a genotype as a recipe: what applies them is what applies any recipe."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from quantizers.spec import FLOAT_BITS
from sgq.errors import ModelError
from sgq.models.genotype import Combine, EdgeMlp, Genotype
from sgq.models.genotype_rules import Stage, stages_of
from sgq.recipe import LoadedRecipe, Recipe, parse_recipe
from sgq.recipe.writing import recipe_text

LOW_BITS = 4
"""Up to this width ranges are searched for, as in the shipped int4 recipe."""


def recipe_of(genotype: Genotype, *, in_channels: int = 3, has_edges: bool = False) -> LoadedRecipe:
    """Return the recipe that gives a genotype's module the bits that the genotype names.

    Features have one scale a tensor, so that distances between codes are distances; weights one a channel.
    Raises ModelError for a genotype that is fp32 throughout.
    """
    stages = stages_of(genotype, in_channels, has_edges=has_edges)
    rules = [rule for stage in stages for rule in _rules(stage)]
    head = genotype.head
    rules += [*_rule("head.*", "input", head.input_bits), *_rule("head.*", "weight", head.weight_bits)]
    if not rules:
        raise ModelError(f'expected bits in "{genotype.name}" (got fp32 throughout)')
    recipe = Recipe.model_validate({"version": 1, "name": genotype.name, "rules": rules})
    return parse_recipe(recipe_text(recipe), file=f"{genotype.name}.bits.yaml")


def _rules(stage: Stage) -> Iterator[dict[str, Any]]:
    operation, module = stage.operation, f"positions.{stage.position}"
    if not stage.reads:
        return
    linear = {Combine: f"{module}.linear", EdgeMlp: f"{module}.network.linear"}.get(type(operation), module)
    for component, bits in operation.bits.items():
        if component == "weight":
            if not stage.has_matrix:
                continue
            yield from _rule(linear, "weight", bits)
        else:
            yield from _rule(linear if isinstance(operation, Combine) else module, "input", bits)


def _rule(module: str, component: str, bits: int) -> list[dict[str, Any]]:
    """Return a rule for what enters a module, or for its weights; none for fp32."""
    if bits == FLOAT_BITS:
        return []
    rule: dict[str, Any] = {"match": {"module": module, "component": component}, "bits": bits}
    if component == "weight":
        rule |= {"granularity": "channel", "optional": True}  # that of a single channel is a vector: no site
    elif bits <= LOW_BITS:
        rule["observer"] = "mse"
    return [rule]
