"""Tracing a model's forward into a graph of its layers, by torch.fx."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import fx, nn
from torch_geometric.nn.conv import MessagePassing

from sgq.errors import ModelError
from sgq.graph.swap import slots_of
from sgq.models.dropout import densify


class _LayerTracer(fx.Tracer):
    """Stops at layers: convolutions, modules without children, and modules with quantizers of their own."""

    def is_leaf_module(self, module: nn.Module, path: str) -> bool:
        """Whether a module is one operation of the graph."""
        if isinstance(module, (MessagePassing, nn.Sequential)) or slots_of(module):
            return True
        return not list(module.children()) or super().is_leaf_module(module, path)


def trace(model: nn.Module, given: frozenset[str]) -> fx.Graph:
    """Return the graph of a model's layers, called with the arguments named in `given`; others are defaults.

    Raises ModelError where the forward cannot be traced: its control flow reads tensors, say.
    """
    parameters = inspect.signature(model.forward).parameters
    absent = {
        name: parameter.default
        for name, parameter in parameters.items()
        if name not in given and parameter.default is not inspect.Parameter.empty
    }
    tracer = _LayerTracer(autowrap_functions=(densify,))
    # Functions are found where they are used: in the modules that the model's classes are written in.
    homes = {inspect.getmodule(kind) for module in model.modules() for kind in type(module).__mro__[:-1]}
    tracer._autowrap_search.extend(home for home in homes if home is not None)
    try:
        graph: Any = tracer.trace(model, concrete_args=absent)
    except Exception as error:  # a forward may do anything with a proxy
        raise ModelError(f"its forward cannot be traced ({type(error).__name__}: {error})") from error
    _without_checks(graph)
    return graph


def _without_checks(graph: fx.Graph) -> None:
    """Take out what only asserts that arguments are those that were traced in."""
    for node in reversed(list(graph.nodes)):
        if is_check(node):
            sources = node.all_input_nodes
            graph.erase_node(node)
            for source in sources:
                if not source.users and source.op == "call_function":
                    graph.erase_node(source)


def is_check(node: fx.Node) -> bool:
    """Whether a node only asserts what was traced in."""
    name = getattr(node.target, "__name__", str(node.target))
    return node.op == "call_function" and (name.startswith("_assert") or node.target is torch._assert)
