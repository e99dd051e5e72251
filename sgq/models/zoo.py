"""The models known by name, and how a user's own model is found."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sgq.data.dataset import GraphDataset
from sgq.data.factory import import_factory, is_factory_path
from sgq.errors import ModelError, SgqError, nearest_name
from sgq.models.options import ModelOptions

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class ModelRecord:
    """One zoo model: the module and class that make it, its default options and its use of edge weights."""

    module: str
    class_name: str
    options: ModelOptions
    edge_weights: bool = False


@dataclass(frozen=True)
class ZooArguments:
    """What `build` made a zoo model of: the model keeps it as `built_of` and a checkpoint names it."""

    name: str
    in_channels: int
    out_channels: int
    options: ModelOptions


_RECORDS: Mapping[str, ModelRecord] = {
    "gcn": ModelRecord("sgq.models.gcn", "GCN", ModelOptions(hidden=16), edge_weights=True),
    "sage": ModelRecord("sgq.models.sage", "SAGE", ModelOptions(hidden=16)),
    "gin": ModelRecord("sgq.models.gin", "GIN", ModelOptions(hidden=64)),
    "gat": ModelRecord("sgq.models.gat", "GAT", ModelOptions(hidden=8, heads=8, dropout=0.6)),
    "gat-256": ModelRecord("sgq.models.gat", "GAT", ModelOptions(hidden=32, heads=8, dropout=0.6)),
    "gatv2": ModelRecord("sgq.models.gat", "GATv2", ModelOptions(hidden=8, heads=8, dropout=0.6)),
    "agnn": ModelRecord("sgq.models.agnn", "AGNN", ModelOptions(hidden=16)),
}

_GRAPH_OPTIONS: Mapping[str, ModelOptions] = {
    # Degree-Quant's GIN for REDDIT-BINARY (arXiv 2008.05000): 5 layers, 64 wide.
    "gin": ModelOptions(hidden=64, layers=5, readout="sum"),
}


def model_names() -> tuple[str, ...]:
    """Return the names of the zoo's models."""
    return tuple(_RECORDS)


def default_options(name: str, *, task: str = "node") -> ModelOptions:
    """Return the options that `build` takes for a zoo model by default; for a "graph" task with a readout."""
    options = _record(name).options
    if task == "node":
        return options
    return _GRAPH_OPTIONS.get(name.lower()) or replace(options, readout="mean")


def build(
    name: str, *, in_channels: int, out_channels: int, options: ModelOptions | None = None
) -> nn.Module:
    """Return a new zoo model with logits out; raise ModelError for an unknown name.

    Initialised from torch's global random state. Without `options` it has the paper's sizes; change some
    with `dataclasses.replace(default_options(name), hidden=64)`.
    """
    record = _record(name)
    builder = getattr(importlib.import_module(record.module), record.class_name)
    chosen = options or record.options
    model: nn.Module = builder(in_channels, out_channels, options=chosen)
    object.__setattr__(model, "built_of", ZooArguments(name.lower(), in_channels, out_channels, chosen))
    return model


def resolve_model(
    spec: Any, *, dataset: GraphDataset, options: ModelOptions | None = None
) -> tuple[nn.Module, str]:
    """Return a model for the data set and its name, of a zoo name, `package.module:factory` or a module.

    A factory is called with those of in_channels and out_channels that its signature takes. `options` are
    for zoo models. Raise ModelError for an unknown model or one that cannot be built, UsageError for a bad
    import path.
    """
    from torch import nn

    if isinstance(spec, nn.Module):
        return spec, type(spec).__name__
    if not isinstance(spec, str):
        raise ModelError(
            f"expected a model name, package.module:factory or a module (got {type(spec).__name__})"
        )
    if is_factory_path(spec):
        return _call_factory(import_factory(spec), spec, dataset=dataset), spec
    name = spec.lower()
    record = _record(name)
    _check_features(dataset, name)
    options = options or default_options(name, task=dataset.task)
    if dataset.normalised_adjacency:
        if not record.edge_weights:
            raise ModelError(f"{name} does not take the normalised edges of {dataset.name}; only gcn does")
        options = replace(options, normalise=False)
    model = build(name, in_channels=dataset.num_features, out_channels=dataset.num_classes, options=options)
    return model, name


def _record(name: str) -> ModelRecord:
    record = _RECORDS.get(name.lower())
    if record is None:
        known = model_names()
        raise ModelError(
            f'unknown model "{name}".{nearest_name(name.lower(), known)} Known: {", ".join(known)}, '
            "or package.module:factory for your own"
        )
    return record


def _check_features(dataset: GraphDataset, name: str) -> None:
    """Raise ModelError for features of another type than the zoo's weights."""
    import torch

    types = {member.x.dtype for member in dataset.members}
    if types != {torch.float32}:
        got = ", ".join(sorted(map(str, types)))
        raise ModelError(
            f"expected float32 node features in {dataset.name} for {name} (got {got}); "
            "convert them with data.x.float()"
        )


def _call_factory(factory: Any, spec: str, *, dataset: GraphDataset) -> nn.Module:
    from torch import nn

    if isinstance(factory, nn.Module):
        return factory
    if not callable(factory):
        raise ModelError(f"expected {spec} to be callable (got {type(factory).__name__})")
    channels = {"in_channels": dataset.num_features, "out_channels": dataset.num_classes}
    try:
        parameters = inspect.signature(factory).parameters.values()
        takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
        names = {parameter.name for parameter in parameters}
        model = factory(**{key: value for key, value in channels.items() if takes_all or key in names})
    except SgqError:
        raise
    except Exception as error:  # a user's factory may raise anything
        raise ModelError(f"{spec} failed: {type(error).__name__}: {error}") from error
    if not isinstance(model, nn.Module):
        raise ModelError(f"expected {spec} to return a torch.nn.Module (got {type(model).__name__})")
    return model
