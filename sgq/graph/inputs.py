"""Call any model on any graph: the arguments of its forward are found by name in the data."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor, nn

from sgq.errors import ModelError

ADJACENCY_ARGUMENTS = ("edge_index", "adj_t", "adj")
DATA_ARGUMENTS = ("data", "graph", "inputs")
BUCKET = "bucket"


def arguments_of(model: nn.Module, data: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return (args, kwargs) for `model.forward` taken from a graph.

    A tuple or list is taken as the arguments and a dict as keyword arguments; of a PyG `Data` or `Batch`
    each parameter of forward takes the attribute of its name, `edge_index` and `adj_t` stand in for each
    other, and a parameter called `data` takes the graph itself. A parameter that has no default and no
    attribute is a ModelError that names both sides.
    """
    if isinstance(data, (tuple, list)):
        return tuple(data), {}
    if isinstance(data, dict):
        return (), dict(data)
    keywords: dict[str, Any] = {}
    for parameter in inspect.signature(model.forward).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) or parameter.name == BUCKET:
            continue
        value = _attribute(data, parameter.name)
        if value is not None:
            keywords[parameter.name] = value
        elif parameter.default is parameter.empty:
            raise ModelError(
                f'{type(model).__name__}.forward needs "{parameter.name}", which the data does not have '
                f"(it has: {', '.join(sorted(map(str, data.keys())))})"
            )
    return (), keywords


def call(model: nn.Module, data: Any, *, bucket: Tensor | None = None) -> Any:
    """Return `model(...)` on a graph; `bucket` ids [nodes] are passed on when given."""
    args, kwargs = arguments_of(model, data)
    return model(*args, **kwargs) if bucket is None else model(*args, bucket=bucket, **kwargs)


def _attribute(data: Any, name: str) -> Any:
    if name in DATA_ARGUMENTS and getattr(data, name, None) is None:
        return data
    candidates = ADJACENCY_ARGUMENTS if name in ADJACENCY_ARGUMENTS else (name,)
    for candidate in (name, *candidates):
        value = getattr(data, candidate, None)
        if value is not None and not inspect.ismethod(value):  # "size" is a method of every Data
            return value
    return getattr(data, "num_graphs", None) if name == "batch_size" else None
