"""`sgq apply`: a recipe and a trained model go in; a quantized checkpoint and its report come out."""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgq.cli.arguments import add_quiet, add_subject, add_verb
from sgq.cli.output import console, note, print_json
from sgq.errors import LimitError, UsageError

if TYPE_CHECKING:
    from sgq.cli.arguments import Verbs
    from sgq.cli.subject import Subject
    from sgq.pipeline.applying import Applied
    from sgq.recipe.plan import Plan
    from sgq.report import Report
    from sgq.runtime.comparison import RuntimeComparison

BASELINES = ("int8", "int4")
"""The shipped recipes that `--compare` applies beside the given one."""


def add(verbs: Verbs) -> None:
    """Add the verb."""
    parser = add_verb(verbs, "apply", run=run, text="quantize a trained model by a recipe and report")
    parser.add_argument("recipe", metavar="RECIPE", help="a shipped name or a YAML file")
    add_subject(parser)
    parser.add_argument("-o", "--output", required=True, metavar="FOLDER", help="where all results go")
    parser.add_argument("--compare", action="store_true", help="also apply int8 and int4, side by side")
    parser.add_argument(
        "--runtime", action="store_true", help="also lower the result and measure it beside PyG in fp32"
    )
    parser.add_argument(
        "--with-features", action="store_true", help="keep the quantized input features in the checkpoint too"
    )
    add_quiet(parser)


def run(arguments: argparse.Namespace) -> int:
    """Quantize, finetune, evaluate and write everything; 4 when a limit of the recipe is not met."""
    from sgq.recipe import parse_recipe
    from sgq.recipe.loading import read_text
    from sgq.recipe.shipped import find_recipe
    from sgq.report.files import writable_folder, write_atomically

    found = find_recipe(arguments.recipe)
    text = read_text(found.path)
    recipe = parse_recipe(text, file=found.label)
    folder = writable_folder(arguments.output)
    from sgq.cli.runtime_view import measure_runtime
    from sgq.cli.subject import resolve_subject
    from sgq.data import is_factory_path
    from sgq.pipeline.applying import apply
    from sgq.pipeline.checkpoint import save
    from sgq.pipeline.packed_features import feature_entry
    from sgq.pipeline.reporting import write_report
    from sgq.recipe import load_recipe

    if arguments.checkpoint is None and not is_factory_path(arguments.model):
        raise UsageError(
            f"expected --checkpoint with the trained {arguments.model}; make one with "
            f"sgq train --model {arguments.model} --data {arguments.data} -o {arguments.model}.safetensors"
        )
    model_file = folder / "model.safetensors"
    if arguments.checkpoint is not None and model_file.resolve() == Path(arguments.checkpoint).resolve():
        raise UsageError(
            f"expected an output folder that --checkpoint does not lie in (got {folder}, whose "
            f"{model_file.name} would be overwritten)"
        )
    subject = resolve_subject(arguments)
    compared = BASELINES if arguments.compare else ()

    if arguments.with_features and subject.task.static_features is None:
        raise UsageError("--with-features needs the features of one whole graph (got batches)")

    def tell(plan: Plan) -> None:
        _tell(plan, quiet=arguments.quiet)
        if arguments.with_features and plan.recipe == recipe.recipe.name:
            feature_entry(plan)  # what cannot be kept is told before the training

    applied, *comparisons = (
        apply(
            subject.model,
            chosen,
            subject.task,
            training=subject.training,
            seed=subject.seed,
            quiet=arguments.quiet,
            on_plan=tell,
        )
        for chosen in (recipe, *(load_recipe(name) for name in compared if name != recipe.recipe.name))
    )
    save(
        model_file,
        applied.model,
        applied.plan,
        features=subject.task.static_features if arguments.with_features else None,
        recipe_text=text,
        metadata=subject.metadata
        | {
            "recipe": applied.plan.recipe,
            "val_accuracy": str(applied.accuracy.val),
            "test_accuracy": str(applied.accuracy.test),
        },
    )
    write = partial(
        write_report,
        folder,
        applied,
        title=f"{applied.plan.recipe} on {subject.model_name}, {subject.data_name}",
        comparisons=comparisons,
        settings=_settings(subject, applied),
    )
    report = write()
    write_atomically(folder / "plan.json", json.dumps(applied.plan.to_json(), indent=1) + "\n")
    write_atomically(folder / "recipe.yaml", text)
    comparison = None
    if arguments.runtime:
        # After everything is written: whatever measuring meets, the result of the training stays.
        comparison = measure_runtime(
            subject, applied.model, applied.plan, file_bytes=model_file.stat().st_size
        )
        report = write(runtime=comparison.rows, notes=comparison.notes)
    _print(report, applied, folder, comparison, as_json=arguments.json)
    for limit in applied.unmet_limits:
        note(f"limit not met: {limit}")
    return LimitError.exit_code if applied.unmet_limits else 0


def _tell(plan: Plan, *, quiet: bool) -> None:
    """Say on stderr what the plan comes to before anything is trained, and a limit that it cannot meet."""
    from sgq.cost.memory import memory_of
    from sgq.report.columns import byte_text

    size = memory_of(plan).packed_bytes
    note(
        f"{plan.recipe}: {len(plan.quantized)} of {len(plan)} sites quantized, {byte_text(size)} packed; "
        f"finetuning for {plan.finetuning.epochs} epochs",
        quiet=quiet,
    )
    limit = plan.limits.packed_bytes
    if limit is not None and size > limit:
        note(
            f"limit will not be met: packed_bytes is {size}, over the limit of {limit}; going on all the same"
        )


def _settings(subject: Subject, applied: Applied) -> dict[str, str | int | float | bool]:
    import torch
    import torch_geometric

    from sgq import __version__

    options = {} if subject.options is None else json.loads(subject.metadata["options"])
    return {
        "recipe": applied.plan.recipe,
        "model": subject.model_name,
        "data": subject.data_name,
        "split": subject.dataset.split,
        "adjacency": "csr" if "adj_t" in subject.dataset.members[0] else "edge_index",
        "seed": subject.seed,
        "finetuning_epochs": applied.plan.finetuning.epochs,
        "chosen_epoch": applied.history.chosen_epoch,
        "plan": applied.plan.digest,
        **{name: value for name, value in options.items() if value is not None},
        "versions": f"sgq {__version__}, torch {torch.__version__}, "
        f"torch_geometric {torch_geometric.__version__}",
    }


def _print(
    report: Report,
    applied: Applied,
    folder: Path,
    comparison: RuntimeComparison | None,
    *,
    as_json: bool,
) -> None:
    from dataclasses import asdict

    from sgq.cli.runtime_view import print_measured, runtime_json
    from sgq.report.table import print_comparison

    if as_json:
        document: dict[str, Any] = {
            "folder": str(folder),
            "rows": [asdict(row) for row in report.rows],
            "metrics": applied.metrics,
            "chosen_epoch": applied.history.chosen_epoch,
            "unmet_limits": [asdict(limit) for limit in applied.unmet_limits],
        }
        print_json(document if comparison is None else document | runtime_json(comparison))
        return
    out = console()
    print_comparison(report.rows, out)
    if comparison is not None:
        print_measured(comparison)
    out.print(
        f"wrote {folder}: model.safetensors, plan.json, recipe.yaml, report.json, report.html, TensorBoard"
    )
