"""`sgq cost`: what a quantized model or an architecture costs: modelled, and what it really takes here."""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgq.cli.arguments import OPTIONS, add_subject, add_verb
from sgq.cli.genotype_cost import add_genotype_options, check_options, is_genotype, run_genotype
from sgq.cli.output import console, print_json
from sgq.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

    from sgq.cli.arguments import Verbs
    from sgq.cli.subject import Subject
    from sgq.pipeline.checkpoint import CheckpointContents
    from sgq.recipe import LoadedRecipe
    from sgq.recipe.plan import Plan
    from sgq.runtime.comparison import RuntimeComparison

CHECKPOINT_SUFFIXES = (".safetensors", ".pt", ".pth")


@dataclass(frozen=True)
class Costed:
    """A plan, and the measured rows where they were asked for."""

    plan: Plan
    comparison: RuntimeComparison | None


def add(verbs: Verbs) -> None:
    """Add the verb."""
    parser = add_verb(verbs, "cost", run=run, text="show modelled memory, and measured memory and latency")
    parser.add_argument(
        "subject",
        metavar="RECIPE|CHECKPOINT|ARCHITECTURE",
        help="a shipped name, a YAML file, a quantized checkpoint, or an architecture (dgcnn)",
    )
    add_subject(parser, model_required=False)
    add_genotype_options(parser)
    parser.add_argument(
        "--measure",
        action="store_true",
        help="also lower the model and measure file, peak memory and latency beside PyG in fp32",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print modelled memory by site, and with --measure the measured rows."""
    genotype = is_genotype(arguments.subject)
    check_options(arguments, genotype=genotype)
    if genotype:
        return run_genotype(arguments)
    is_checkpoint = Path(arguments.subject).suffix in CHECKPOINT_SUFFIXES
    costed = _of_checkpoint(arguments) if is_checkpoint else _of_recipe(arguments)
    _print(costed, as_json=arguments.json)
    return 0


def _of_recipe(arguments: argparse.Namespace) -> Costed:
    from sgq.recipe import load_recipe

    if arguments.model is None:
        raise UsageError(f"expected --model with the model that {arguments.subject} is applied to (got none)")
    recipe = load_recipe(arguments.subject)
    from sgq.cli.subject import resolve_subject
    from sgq.pipeline.planning import plan_for

    subject = resolve_subject(arguments)
    plan = plan_for(subject.model, recipe, subject.task)
    return Costed(plan, _measured(subject, plan, recipe) if arguments.measure else None)


def _measured(subject: Subject, plan: Plan, recipe: LoadedRecipe) -> RuntimeComparison:
    """Measure the calibrated model: neither latency nor memory depends on how well it was trained."""
    from sgq.cli.runtime_view import measure_runtime
    from sgq.pipeline.wrapping import apply_plan
    from sgq.runtime.comparison import written_bytes

    model, _ = apply_plan(subject.model, plan, subject.task)
    file_bytes = written_bytes(model, plan, recipe_text=recipe.text)
    return measure_runtime(subject, model.eval(), plan, file_bytes=file_bytes)


def _of_checkpoint(arguments: argparse.Namespace) -> Costed:
    from sgq.pipeline.checkpoint import load, read

    contents = read(arguments.subject)
    if contents.plan is None:
        raise UsageError(
            f"expected a recipe or a quantized checkpoint (got {arguments.subject}, a float model): "
            f"sgq cost RECIPE --checkpoint {arguments.subject}"
        )
    if not arguments.measure:
        return Costed(contents.plan, None)
    from sgq.cli.runtime_view import measure_runtime
    from sgq.cli.subject import resolve_subject

    _take_model(arguments, contents)
    subject = resolve_subject(arguments)
    quantized: nn.Module = load(arguments.subject, subject.model)
    file_bytes = Path(arguments.subject).stat().st_size
    return Costed(contents.plan, measure_runtime(subject, quantized, contents.plan, file_bytes=file_bytes))


def _take_model(arguments: argparse.Namespace, contents: CheckpointContents) -> None:
    """Take the zoo model and its sizes from the checkpoint, where the command line names none."""
    from sgq.pipeline.checkpoint import zoo_arguments

    if contents.fingerprint is None or contents.fingerprint.zoo is None:
        if arguments.model is None:
            raise UsageError(
                f"expected --model with the model that {arguments.subject} is of (got none): "
                "the file names none of the zoo"
            )
        return
    zoo = zoo_arguments(arguments.subject, contents)
    arguments.model = arguments.model or zoo.name
    for name in OPTIONS:
        if getattr(arguments, name) is None:
            setattr(arguments, name, getattr(zoo.options, name))


def _print(costed: Costed, *, as_json: bool) -> None:
    from sgq.cli.plan_view import plan_json
    from sgq.cli.runtime_view import print_measured, runtime_json
    from sgq.cost.memory import memory_of
    from sgq.pipeline.reporting import float_plan, memory_rows, report_row
    from sgq.report.table import print_comparison, print_memory

    plan, comparison = costed.plan, costed.comparison
    memory = memory_of(plan)
    rows = memory_rows(memory)
    if as_json:
        document: dict[str, Any] = {
            "recipe": plan.recipe,
            "memory": plan_json(plan, memory)["memory"] | {"rows": [asdict(row) for row in rows]},
        }
        print_json(document if comparison is None else document | runtime_json(comparison))
        return
    out = console()
    print_memory(rows, out)
    out.print()
    before = report_row("float", memory_of(float_plan(plan)), None, family="float")
    print_comparison([before, report_row(plan.recipe, memory, None, family="recipe")], out)
    if comparison is not None:
        print_measured(comparison)
