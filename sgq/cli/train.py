"""`sgq train`: a float model to start from."""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sgq.cli.arguments import add_quiet, add_subject, add_verb, integer_from
from sgq.cli.output import print_json
from sgq.errors import UsageError

if TYPE_CHECKING:
    from sgq.cli.arguments import Verbs


def add(verbs: Verbs) -> None:
    """Add the verb."""
    parser = add_verb(
        verbs, "train", run=run, text="train a float model and keep its best epoch on validation"
    )
    add_subject(parser, checkpoint=False)
    parser.add_argument(
        "--epochs", type=integer_from(0), metavar="N", help="default: as in the model's paper"
    )
    parser.add_argument("--lr", type=float, metavar="RATE", help="learning rate of Adam")
    parser.add_argument("--weight-decay", type=float, metavar="RATE", help="weight decay of Adam")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="checkpoint, FILE.safetensors")
    add_quiet(parser)


def run(arguments: argparse.Namespace) -> int:
    """Train and save; print accuracies, epochs and seconds."""
    from sgq.report.files import writable_folder

    path = Path(arguments.output)
    if path.suffix != ".safetensors" or path.is_dir():
        raise UsageError(f"expected an output file that ends in .safetensors (got {path})")
    writable_folder(path.parent)
    import torch

    from sgq.cli.subject import resolve_subject
    from sgq.pipeline.checkpoint import save
    from sgq.pipeline.evaluation import accuracy
    from sgq.pipeline.training import TrainingSettings, fit

    subject = resolve_subject(arguments)
    given = {key: getattr(arguments, key) for key in ("epochs", "lr", "weight_decay")}
    training = replace(subject.training, **{key: value for key, value in given.items() if value is not None})
    if not (0 < training.lr < math.inf and 0 <= training.weight_decay < math.inf):
        raise UsageError(
            f"expected a finite, positive --lr and a finite --weight-decay of at least 0 "
            f"(got {training.lr:g} and {training.weight_decay:g})"
        )
    start = time.perf_counter()
    history = fit(
        subject.model,
        subject.task,
        optimiser=torch.optim.Adam(training.parameter_groups(subject.model)),
        settings=TrainingSettings(training.epochs, seed=subject.seed),
        quiet=arguments.quiet,
    )
    seconds = time.perf_counter() - start
    result = {
        "model": subject.model_name,
        "data": subject.data_name,
        "split": subject.dataset.split,
        "seed": subject.seed,
        "val_accuracy": accuracy(subject.model, subject.task, "val"),
        "test_accuracy": accuracy(subject.model, subject.task, "test"),
        "epochs": training.epochs,
        "chosen_epoch": history.chosen_epoch,
        "train_s": seconds,
        "checkpoint": str(path),
    }
    figures = {key: str(result[key]) for key in ("val_accuracy", "test_accuracy", "epochs", "chosen_epoch")}
    save(path, subject.model, metadata=subject.metadata | figures)
    if arguments.json:
        print_json(result)
    else:
        print(
            f"{subject.model_name} on {subject.data_name}: test accuracy {result['test_accuracy']:.1%}, "
            f"validation {result['val_accuracy']:.1%} at epoch {history.chosen_epoch} of {training.epochs}, "
            f"{seconds:.1f} s; wrote {path}"
        )
    return 0
