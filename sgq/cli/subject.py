"""What a verb works on: a model, its data and how both are trained, from the shared arguments."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from sgq.cli.arguments import OPTIONS
from sgq.errors import CheckpointError, UsageError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from sgq.data import GraphDataset
    from sgq.models import ModelOptions, TrainingDefaults
    from sgq.pipeline.checkpoint import CheckpointContents
    from sgq.pipeline.tasks import Task


@dataclass(frozen=True)
class Subject:
    """A float model on its device, its task, and what a checkpoint's header says of both.

    `options` is None for a model that is not of the zoo. `split_seed` made the split.
    """

    model: nn.Module
    model_name: str
    options: ModelOptions | None
    data_name: str
    dataset: GraphDataset
    task: Task
    training: TrainingDefaults
    seed: int
    split_seed: int

    @property
    def metadata(self) -> dict[str, str]:
        """The header of a checkpoint, from which `resolve_subject` rebuilds the model."""
        header = {
            "model": self.model_name,
            "data": self.data_name,
            "split": self.dataset.split,
            "seed": str(self.split_seed),
        }
        if self.options is not None:
            header["options"] = json.dumps(asdict(self.options))
        return header


def resolve_subject(arguments: argparse.Namespace) -> Subject:
    """Return the subject that `--model`, `--data`, `--checkpoint` and the model options name.

    A checkpoint of `sgq train` brings its model options and the seed of its split; an option that
    contradicts it is a UsageError. The model has the checkpoint's weights where there is one.
    """
    import torch

    from sgq.data import is_factory_path, one_spelling, resolve_data
    from sgq.models import GRAPH_TRAINING, default_options, model_names, resolve_model, training_defaults
    from sgq.pipeline.checkpoint import load_tensors, read
    from sgq.pipeline.tasks import as_task

    device = _device(arguments.device)
    path = getattr(arguments, "checkpoint", None)
    contents = None if path is None else read(path)
    stored = {} if contents is None else contents.metadata
    if contents is not None:
        _check_header(arguments, contents, zoo=model_names())
    seed = 0 if arguments.seed is None else arguments.seed
    same_data = one_spelling(stored.get("data", "")) == one_spelling(arguments.data)
    split_seed = int(stored["seed"]) if same_data and stored.get("seed", "").isdigit() else seed
    if not is_factory_path(arguments.model):
        default_options(arguments.model)  # an unknown model is told before data are loaded
    if arguments.adjacency != "edge_index" and is_factory_path(arguments.data):
        raise UsageError(f"--adjacency is for data sets known by name; {arguments.data} brings its own edges")
    dataset = _moved(resolve_data(arguments.data, seed=split_seed, adjacency=arguments.adjacency), device)
    options = None
    if not is_factory_path(arguments.model):
        options = _options(arguments, stored, default=default_options(arguments.model, task=dataset.task))
    elif any(getattr(arguments, name) is not None for name in OPTIONS):
        raise UsageError(f"--{' --'.join(OPTIONS)} are for zoo models; {arguments.model} builds its own")
    torch.manual_seed(seed)
    model, name = resolve_model(arguments.model, dataset=dataset, options=options)
    if contents is not None:
        load_tensors(model, contents.tensors, arguments.checkpoint)
    return Subject(
        model=model.to(device),
        model_name=name,
        options=options,
        data_name=arguments.data,
        dataset=dataset,
        task=as_task(dataset),
        training=GRAPH_TRAINING if dataset.task == "graph" else training_defaults(name),
        seed=seed,
        split_seed=split_seed,
    )


def _check_header(
    arguments: argparse.Namespace, contents: CheckpointContents, *, zoo: tuple[str, ...]
) -> None:
    """Refuse a quantized checkpoint, and one of another model of the zoo."""
    if contents.plan is not None:
        raise CheckpointError(
            f'expected the checkpoint of a float model (got "{arguments.checkpoint}", which is quantized by '
            f"{contents.plan.recipe})"
        )
    trained = contents.metadata.get("model", "")
    given = arguments.model.lower()
    if trained in zoo and given in zoo and trained != given:
        raise CheckpointError(
            f'checkpoint "{arguments.checkpoint}" does not fit the model: it is of {trained} '
            f"(got --model {arguments.model})"
        )


def _options(arguments: argparse.Namespace, stored: dict[str, str], *, default: ModelOptions) -> ModelOptions:
    from sgq.models import ModelOptions

    given: dict[str, Any] = {
        name: getattr(arguments, name) for name in OPTIONS if getattr(arguments, name) is not None
    }
    if "options" not in stored:
        return replace(default, **given)
    try:
        trained = ModelOptions(**json.loads(stored["options"]))
    except (ValueError, TypeError) as error:
        raise CheckpointError(
            f'checkpoint "{arguments.checkpoint}" has model options that cannot be read: {error}'
        ) from error
    for name, value in given.items():
        if getattr(trained, name) != value:
            raise UsageError(
                f'checkpoint "{arguments.checkpoint}" was trained with {name} {getattr(trained, name)} '
                f"(got --{name} {value}); leave --{name} out"
            )
    return trained


def _device(name: str) -> torch.device:
    import torch

    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # a meta tensor can be made, but has no values
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"expected a torch device that works here, such as cpu (got {name}: {reason})"
        ) from error
    return device


def _moved(dataset: GraphDataset, device: torch.device) -> GraphDataset:
    if device.type == "cpu":
        return dataset
    data = None if dataset.data is None else dataset.data.to(device)
    return replace(dataset, data=data, graphs=[graph.to(device) for graph in dataset.graphs])
