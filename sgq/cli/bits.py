"""`sgq bits`: automatic bit selection. A space and a trained model go in; the best recipe found comes out."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sgq.cli.arguments import add_quiet, add_subject, add_verb, integer_from
from sgq.cli.output import note
from sgq.errors import LimitError, UsageError

if TYPE_CHECKING:
    from sgq.bits.finetuned import FinetunedAccuracy
    from sgq.cli.arguments import Verbs

DEFAULT_TRIALS = 200
INTERRUPTED = 130


def add(verbs: Verbs) -> None:
    """Add the verb."""
    parser = add_verb(verbs, "bits", run=run, text="select bits automatically, by a search over a space")
    add_options(parser)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the search."""
    parser.add_argument(
        "space",
        metavar="SPACE",
        help="a recipe with choices: a shipped name (spaces/gat-lwq-cwq-taq) or a YAML file",
    )
    add_subject(parser)
    parser.add_argument("-o", "--output", required=True, metavar="FOLDER", help="where all results go")
    parser.add_argument(
        "--trials",
        type=integer_from(1),
        default=DEFAULT_TRIALS,
        metavar="N",
        help=f"assignments to measure, those of a resumed search among them (default: {DEFAULT_TRIALS})",
    )
    parser.add_argument(
        "--limit",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="accuracy=0.8, accuracy_drop=0.004 (on validation, below the widest bits finetuned alike, or "
        "the float model where that is better) or memory=300kB; may be given twice (default: the limits of "
        "the space's recipe)",
    )
    parser.add_argument(
        "--also",
        action="append",
        default=[],
        metavar="FILE",
        help="a checkpoint of another training of the model: each trial is measured on one of them, so that "
        "the search does not learn the luck of one; may be given several times",
    )
    parser.add_argument(
        "--sampler",
        default="abs",
        metavar="NAME",
        help="abs, tree (SGQuant's regression tree), random, tpe, nsga2, milp or exhaustive (default: abs)",
    )
    parser.add_argument(
        "--storage",
        metavar="WHERE",
        help="a journal file, postgresql://user@host/database or grpc://host:port "
        "(default: study.log in the output)",
    )
    parser.add_argument(
        "--study", default="bits", metavar="NAME", help="its name in the storage (default: bits)"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with the study in the storage, or join it"
    )
    parser.add_argument(
        "--workers", type=integer_from(1), default=1, metavar="N", help="processes (default: 1)"
    )
    add_quiet(parser)


def run(arguments: argparse.Namespace) -> int:
    """Search, confirm, apply the best and write everything; 4 when no assignment holds the limits."""
    from sgq.bits.samplers import check_sampler
    from sgq.cli.bits_limits import parse_limits
    from sgq.recipe import load_recipe
    from sgq.report.files import writable_folder

    recipe = load_recipe(arguments.space)
    limits = parse_limits(arguments.limit, recipe.recipe.limits)
    check_sampler(arguments.sampler)
    folder = writable_folder(arguments.output)
    from sgq.bits.deferred import DeferredAccuracy
    from sgq.bits.results import REFUTED
    from sgq.bits.selection import select_bits
    from sgq.cli.bits_results import print_selection, write_selection
    from sgq.data import is_factory_path
    from sgq.report.progress import counting

    if arguments.checkpoint is None and not is_factory_path(arguments.model):
        raise UsageError(
            f"expected --checkpoint with the trained {arguments.model}; make one with "
            f"sgq train --model {arguments.model} --data {arguments.data} -o {arguments.model}.safetensors"
        )
    others = [argparse.Namespace(**{**vars(arguments), "checkpoint": file}) for file in arguments.also]
    deferred = DeferredAccuracy(
        partial(build_accuracy, arguments), [partial(build_accuracy, other) for other in others]
    )
    evaluation = deferred.built
    note(
        f"{len(evaluation.space.space.axes)} axes, {_rounded(evaluation.space.space.size)} assignments; "
        f"{arguments.trials} trials by {arguments.sampler}, {arguments.workers} "
        f"worker{'s' if arguments.workers > 1 else ''}",
        quiet=arguments.quiet,
    )
    with counting(arguments.trials, description="search", quiet=arguments.quiet) as show:
        selection = select_bits(
            deferred,
            trials=arguments.trials,
            limits=limits,
            sampler=arguments.sampler,
            storage=arguments.storage or folder / "study.log",
            study=arguments.study,
            resume=arguments.resume,
            workers=arguments.workers,
            on_progress=show,
        )
    written = write_selection(folder, selection, evaluation, arguments)
    print_selection(written, folder, as_json=arguments.json)
    if selection.result.interrupted or written.interrupted:
        note("interrupted: what was found by then is written; go on with --resume")
        return INTERRUPTED
    if not selection.result.feasible:
        note(f"limit not met: {selection.result.remark}")
        return LimitError.exit_code
    if selection.refuted:
        note(f"limit not met: {REFUTED.format(len(selection.confirmations))}")
        return LimitError.exit_code
    return 0


def _rounded(count: int) -> str:
    """Return a count of any size: a space has more assignments than a float can count."""
    digits = str(count)
    return digits if len(digits) < 7 else f"{digits[0]}.{digits[1:3]}e{len(digits) - 1}"


def build_accuracy(arguments: argparse.Namespace) -> FinetunedAccuracy:
    """Build the evaluation that the arguments describe, in this process or in a worker's."""
    import os

    import torch

    from sgq.bits.finetuned import FinetunedAccuracy
    from sgq.bits.memo import Memo
    from sgq.bits.planned_space import planned_space
    from sgq.cli.bits_limits import parse_limits
    from sgq.cli.subject import resolve_subject
    from sgq.pipeline.evaluation import accuracy

    if arguments.workers > 1:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // arguments.workers))
    subject = resolve_subject(arguments)
    space = planned_space(subject.model, arguments.space, subject.task)
    limits = parse_limits(arguments.limit, space.recipe.recipe.limits)
    return FinetunedAccuracy(
        subject.model,
        space,
        subject.task,
        training=subject.training,
        least_accuracy=limits.least_accuracy(accuracy(subject.model, subject.task, "val")),
        seed=subject.seed,
        memo=Memo(Path(arguments.output) / "memo.jsonl"),
    )
