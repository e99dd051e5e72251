"""What a program asks of the nodes of a traced model."""

from __future__ import annotations

import copy
from typing import Any

from torch import fx, nn

from quantizers import Quantizer
from sgq.graph.swap import SLOTS, SiteQuantizers, slots_of
from sgq.runtime.lowering.building import CannotLower, Value


def is_sole(node: Any, value: Value) -> bool:
    """Whether a node's value has one reader, under whatever name."""
    return len(node.users) == 1 and not value.shared


def check_in_place(node: fx.Node, sole: bool) -> None:
    """Raise CannotLower for an operation that changes a value which others read, too."""
    name = str(getattr(node.target, "__name__", node.target))
    changes = node.kwargs.get("inplace") is True or (name.endswith("_") and not name.endswith("__"))
    if changes and (not sole or not node.users):
        raise CannotLower("it changes in place what is read elsewhere")


def keyword(node: fx.Node, names: tuple[str, ...]) -> Any:
    """Return the first of some keyword arguments that a node has; None without."""
    return next((node.kwargs[name] for name in names if name in node.kwargs), None)


def is_idle_dropout(node: fx.Node) -> bool:
    """Whether a node is a functional dropout in evaluation."""
    if node.target is not nn.functional.dropout:
        return False
    training = node.kwargs.get("training", node.args[2] if len(node.args) > 2 else True)
    return training is False


def without_argument(module: nn.Module, quantizer: Quantizer) -> nn.Module:
    """Return a shallow copy of a layer without the quantizer of its input, which has been applied."""
    bare = copy.copy(module)
    bare._modules = dict(module._modules)
    kept = {name: one for name, one in slots_of(module).items() if one is not quantizer}
    bare._modules[SLOTS] = SiteQuantizers(kept)
    return bare


def attribute_of(model: nn.Module, path: str) -> Any:
    """Return what is at a dotted path of a model."""
    for name in path.split("."):
        model = getattr(model, name)
    return model


def channels_of(module: nn.Module | None) -> int:
    """Return how many channels a module makes; 0 where it does not say."""
    return int(getattr(module, "out_channels", 0) or getattr(module, "out_features", 0) or 0)
