"""`sgq check`: recipes alone, without a model, without torch."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from sgq.cli.arguments import add_verb
from sgq.cli.output import print_json
from sgq.errors import RecipeError

if TYPE_CHECKING:
    from sgq.cli.arguments import Verbs


def add(verbs: Verbs) -> None:
    """Add the verb."""
    parser = add_verb(verbs, "check", run=run, text="check recipes alone, without a model")
    parser.add_argument("recipes", nargs="+", metavar="RECIPE", help="a shipped name or a YAML file")


def run(arguments: argparse.Namespace) -> int:
    """Check every recipe; all faults of all of them are told."""
    from sgq.recipe import load_recipe

    found: list[dict[str, Any]] = []
    for recipe in arguments.recipes:
        try:
            loaded = load_recipe(recipe)
        except RecipeError as error:
            found.append({"recipe": recipe, "valid": False, "faults": str(error).splitlines()})
        else:
            document = loaded.recipe
            found.append(
                {"recipe": recipe, "valid": True, "name": document.name, "rules": len(document.rules)}
            )
    if arguments.json:
        print_json({"recipes": found})
    for result in found:
        if not result["valid"]:
            print("error: " + "\n".join(result["faults"]), file=sys.stderr)
        elif not arguments.json:
            print(f"{result['recipe']}: valid, {result['rules']} rules")
    return 0 if all(result["valid"] for result in found) else RecipeError.exit_code
