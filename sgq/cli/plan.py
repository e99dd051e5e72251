"""`sgq plan`: what a recipe makes of every site of a model; nothing is trained."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from sgq.cli.arguments import add_subject, add_verb
from sgq.cli.output import note, print_json
from sgq.errors import LimitError

if TYPE_CHECKING:
    from sgq.cli.arguments import Verbs


def add(verbs: Verbs) -> None:
    """Add the verb."""
    parser = add_verb(verbs, "plan", run=run, text="show what a recipe makes of every site, a dry run")
    parser.add_argument("recipe", metavar="RECIPE", help="a shipped name or a YAML file")
    add_subject(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the plan and its modelled memory; 4 when that is over the recipe's limit."""
    from sgq.recipe import load_recipe

    recipe = load_recipe(arguments.recipe)
    from sgq.cli.plan_view import plan_json, print_plan
    from sgq.cli.subject import resolve_subject
    from sgq.cost.memory import memory_of
    from sgq.pipeline.planning import plan_for

    subject = resolve_subject(arguments)
    plan = plan_for(subject.model, recipe, subject.task)
    memory = memory_of(plan)
    if arguments.json:
        print_json(plan_json(plan, memory))
    else:
        print_plan(plan, memory)
    limit = plan.limits.packed_bytes
    if limit is None or memory.packed_bytes <= limit:
        return 0
    note(f"limit not met: packed_bytes is {memory.packed_bytes}, over the limit of {limit}")
    return LimitError.exit_code
