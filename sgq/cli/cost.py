"""`sgq cost`: what a quantized model or an architecture costs: modelled, and what it really takes here.

Latency, peak and energy on a `--target` are those of the lowered model, which is walked without running it.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgq.cli.arguments import OPTIONS, add_subject, add_verb
from sgq.cli.genotype_cost import add_genotype_options, check_options, is_genotype, run_genotype
from sgq.cli.output import console, print_json
from sgq.cli.runtime_view import bucketed_task, measure_runtime, print_measured, runtime_json
from sgq.cli.target import load_target
from sgq.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

    from sgq.cli.arguments import Verbs
    from sgq.cli.subject import Subject
    from sgq.cost import Price
    from sgq.cost.profile import DeviceProfile
    from sgq.pipeline.checkpoint import CheckpointContents
    from sgq.recipe.plan import Plan
    from sgq.runtime.comparison import RuntimeComparison

CHECKPOINT_SUFFIXES = (".safetensors", ".pt", ".pth")
PRICE_FIELDS = ("source", "latency_s", "peak_bytes", "energy_j", "flops", "bytes_moved")


@dataclass(frozen=True)
class Costed:
    """A plan, its price on a device and the measured rows, each where it was asked for."""

    plan: Plan
    price: Price | None = None
    comparison: RuntimeComparison | None = None


def add(verbs: Verbs) -> None:
    """Add the verb."""
    parser = add_verb(verbs, "cost", run=run, text="show modelled memory, and measured memory and latency")
    parser.add_argument(
        "subject",
        metavar="RECIPE|CHECKPOINT|ARCHITECTURE",
        help="a shipped name, a YAML file, a quantized checkpoint, or an architecture (dgcnn)",
    )
    add_subject(parser, model_required=False)
    parser.add_argument(
        "--target", metavar="PROFILE", help="price it on a device: a shipped profile's name or a YAML file"
    )
    add_genotype_options(parser)
    parser.add_argument(
        "--measure",
        action="store_true",
        help="also lower the model and measure file, peak memory and latency beside PyG in fp32",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print modelled memory by site, with --target a price, and with --measure the measured rows."""
    genotype = is_genotype(arguments.subject)
    check_options(arguments, genotype=genotype)
    if genotype:
        return run_genotype(arguments)
    is_checkpoint = Path(arguments.subject).suffix in CHECKPOINT_SUFFIXES
    profile = None
    if arguments.target is not None:
        profile = load_target(arguments.target, measure=arguments.measure)
    cost = _of_checkpoint if is_checkpoint else _of_recipe
    _print(cost(arguments, profile), target=arguments.target, as_json=arguments.json)
    return 0


def _of_recipe(arguments: argparse.Namespace, profile: DeviceProfile | None) -> Costed:
    from sgq.recipe import load_recipe

    if arguments.model is None:
        raise UsageError(f"expected --model with the model that {arguments.subject} is applied to (got none)")
    recipe = load_recipe(arguments.subject)
    from sgq.cli.subject import resolve_subject
    from sgq.pipeline.planning import plan_for

    subject = resolve_subject(arguments)
    plan = plan_for(subject.model, recipe, subject.task)
    if profile is None and not arguments.measure:
        return Costed(plan)
    from sgq.pipeline.wrapping import apply_plan
    from sgq.runtime.comparison import written_bytes

    # Calibrated only: neither latency nor memory depends on how well the model was trained.
    model, _ = apply_plan(subject.model, plan, subject.task)
    file_bytes = written_bytes(model, plan, recipe_text=recipe.text) if arguments.measure else None
    return _of_model(subject, model.eval(), plan, profile=profile, file_bytes=file_bytes)


def _of_model(
    subject: Subject,
    quantized: nn.Module,
    plan: Plan,
    *,
    profile: DeviceProfile | None,
    file_bytes: int | None,
) -> Costed:
    """Price a quantized model where there is a profile, and measure it where there is a file's size."""
    price = comparison = None
    if profile is not None:
        from sgq.cost import price_of_model

        price = price_of_model(quantized, bucketed_task(subject, plan).sample(), profile)
    if file_bytes is not None:
        comparison = measure_runtime(subject, quantized, plan, file_bytes=file_bytes)
    return Costed(plan, price, comparison)


def _of_checkpoint(arguments: argparse.Namespace, profile: DeviceProfile | None) -> Costed:
    from sgq.pipeline.checkpoint import load, read

    contents = read(arguments.subject)
    if contents.plan is None:
        raise UsageError(
            f"expected a recipe or a quantized checkpoint (got {arguments.subject}, a float model): "
            f"sgq cost RECIPE --checkpoint {arguments.subject}"
        )
    if profile is None and not arguments.measure:
        return Costed(contents.plan)
    from sgq.cli.subject import resolve_subject

    _take_model(arguments, contents)
    subject = resolve_subject(arguments)
    quantized: nn.Module = load(arguments.subject, subject.model)
    file_bytes = Path(arguments.subject).stat().st_size if arguments.measure else None
    return _of_model(subject, quantized, contents.plan, profile=profile, file_bytes=file_bytes)


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


def _print(costed: Costed, *, target: str | None, as_json: bool) -> None:
    from sgq.cli.plan_view import plan_json
    from sgq.cost.memory import memory_of
    from sgq.pipeline.reporting import float_plan, memory_rows, report_row
    from sgq.report.table import print_comparison, print_memory

    plan, price, comparison = costed.plan, costed.price, costed.comparison
    memory = memory_of(plan)
    rows = memory_rows(memory)
    if as_json:
        document: dict[str, Any] = {
            "recipe": plan.recipe,
            "memory": plan_json(plan, memory)["memory"] | {"rows": [asdict(row) for row in rows]},
        }
        if price is not None:
            document["price"] = {"target": target} | {name: getattr(price, name) for name in PRICE_FIELDS}
        print_json(document if comparison is None else document | runtime_json(comparison))
        return
    out = console()
    print_memory(rows, out)
    out.print()
    before = report_row("float", memory_of(float_plan(plan)), None, family="float")
    print_comparison([before, report_row(plan.recipe, memory, None, family="recipe")], out)
    if price is not None:
        out.print()
        out.print(_price_line(price, target))
    if comparison is not None:
        print_measured(comparison)


def _price_line(price: Price, target: str | None) -> str:
    from sgq.report.columns import byte_text, milliseconds_text

    energy = "" if price.energy_j is None else f", energy {1e3 * price.energy_j:.3g} mJ"
    return (
        f"modelled on {target} ({price.source}): latency {milliseconds_text(price.latency_s)} ms, "
        f"peak {byte_text(price.peak_bytes)}{energy}"
    )
