"""Class swap: make a module pass its tensors through quantizers, without touching its code.

A module's class becomes a generated subclass that overrides `forward` and, for PyG convolutions, the
places where messages are made: `propagate` (arguments before they are lifted to edges), `edge_updater`
(attention) and `message`. Parameters of two or more dimensions become properties. Each of these *slots*
asks the module's `site_quantizers` what to do with its tensor. Nothing is a hook: hooks vanish under
torch.compile and torch.export, overridden methods do not; state-dict keys stay as they were.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any, Protocol

from torch import Tensor, nn
from torch_geometric.nn.conv import MessagePassing

from quantizers import Quantizer
from sgq.errors import PlanError
from sgq.graph.buckets import bound_buckets, current_buckets
from sgq.graph.sites import Component

SLOTS = "site_quantizers"
ROOT_BUCKETS = "degree_bucket"

ARGUMENT = "argument_"
PARAMETER = "parameter_"
MESSAGE_ARGUMENT = "message_"
EDGE_UPDATE_ARGUMENT = "edge_update_"
"""Slots of forward's arguments, of parameters, and of the arguments of propagate and edge_updater."""
RESULT = "result"
AGGREGATE = "aggregate"
ATTENTION = "attention"
EDGE_MESSAGE = "edge_message"
"""Slots of what forward, propagate, edge_updater and message return."""

_RESULTS: Mapping[str, tuple[Component, str]] = {
    RESULT: ("output", ""),
    AGGREGATE: ("aggregate", ""),
    ATTENTION: ("attention", ""),
    EDGE_MESSAGE: ("message", "edges"),
}
_ARGUMENTS: tuple[tuple[str, Component, tuple[str, ...]], ...] = (
    (PARAMETER, "weight", ("weight",)),
    (ARGUMENT, "input", ("x", "input", "0")),
    (MESSAGE_ARGUMENT, "message", ("x",)),
    (EDGE_UPDATE_ARGUMENT, "message", ()),
)
"""Prefix of a slot -> its component, and the argument that is the main one of its kind."""

_state_dicts = threading.local()


class SlotVisitor(Protocol):
    """What a swapped module consults about its tensors, and tells about its messages."""

    def visit(self, slot: str, tensor: Tensor) -> Tensor:
        """Return the tensor to go on with in the place of the slot's own."""
        ...

    def on_edges(self, module: MessagePassing, adjacency: Any) -> None:
        """Note the edges that the following messages run along."""
        ...

    def on_lifted(self, arguments: Mapping[str, Any]) -> None:
        """Note the arguments of `message` or `edge_update`, their node tensors lifted to edges."""
        ...

    def on_message(self, arguments: Mapping[str, Any], result: Any) -> None:
        """Note what `message` made of its arguments, before the result is visited."""
        ...


class SiteQuantizers(nn.ModuleDict):
    """The quantizers of one swapped module, by slot."""

    def visit(self, slot: str, tensor: Tensor) -> Tensor:
        """Return the tensor fake-quantized if the slot has a quantizer, else as it is."""
        if slot not in self._modules or tensor.numel() == 0:
            return tensor
        quantizer = self._modules[slot]
        assert isinstance(quantizer, Quantizer)
        if not quantizer.spec.bucketed:
            return quantizer(tensor)
        bucket = current_buckets()
        if bucket is None or bucket.size(0) != tensor.size(0):
            rows = "no bucket ids" if bucket is None else f"{bucket.size(0)} bucket ids"
            raise PlanError(
                f"a quantizer with degree buckets got {tensor.size(0)} rows and {rows}. Apply "
                "sgq.DegreeBuckets(edges) to the whole graph before sampling, call the wrapped model itself "
                "(not a part of it), and for a mini-batch pass model(..., bucket=batch.bucket)"
            )
        return quantizer(tensor, bucket)

    def on_edges(self, module: MessagePassing, adjacency: Any) -> None:
        """Do nothing: quantizers do not depend on the edges."""

    def on_lifted(self, arguments: Mapping[str, Any]) -> None:
        """Do nothing."""

    def on_message(self, arguments: Mapping[str, Any], result: Any) -> None:
        """Do nothing."""

    def summary(self) -> str:
        """Return `weight=4 channel, message=8/4/4/2 bucket`, for the module's repr."""
        specs = ((slot, module.spec) for slot, module in self.items() if isinstance(module, Quantizer))
        return ", ".join(f"{'.'.join(filter(None, named(slot)))}={spec}" for slot, spec in specs)


def named(slot: str) -> tuple[Component, str]:
    """Return what recipes call a slot's tensor: its component, and its name beside the main one ("")."""
    if slot in _RESULTS:
        return _RESULTS[slot]
    for prefix, component, main in _ARGUMENTS:
        if slot.startswith(prefix):
            argument = slot.removeprefix(prefix)
            return component, "" if argument in main else argument
    raise ValueError(f"expected a slot (got {slot!r})")


def swap(module: nn.Module, visitor: SlotVisitor, *, root: bool = False) -> None:
    """Make `module` pass its tensors through `visitor`. `root` lets its forward take `bucket=`."""
    parameters = frozenset(
        name
        for name, parameter in module._parameters.items()
        if parameter is not None and parameter.dim() >= 2
    )
    module.__class__ = swapped_class(type(module), parameters, root)  # type: ignore[arg-type]
    if isinstance(visitor, nn.Module) and not list(visitor.children()):
        # Not registered: a container such as nn.Sequential calls every module that is registered in it.
        object.__setattr__(module, SLOTS, visitor)
    else:
        setattr(module, SLOTS, visitor)


def is_swapped(module: nn.Module) -> bool:
    """Whether the module's class is a generated one."""
    return issubclass(type(module), Swapped)


class Swapped:
    """Marks generated classes; `swapped_from` is the class that the user wrote."""

    swapped_from: type[nn.Module]


@functools.cache
def swapped_class(base: type[nn.Module], parameters: frozenset[str], root: bool) -> type[nn.Module]:
    """Return the subclass of `base` with slots; the same one for the same arguments."""
    members: dict[str, Any] = {
        "forward": _root_forward(base) if root else _forward(base),
        "swapped_from": base,
        "__module__": base.__module__,
        "__qualname__": f"Quant{base.__name__}",
        "__repr__": _representation(base),
    }
    if parameters:
        members |= {name: _parameter(name) for name in parameters}
        state_dict_methods = ("_save_to_state_dict", "_load_from_state_dict")
        members |= {name: _with_raw_parameters(getattr(base, name)) for name in state_dict_methods}
    if issubclass(base, MessagePassing):
        members |= {
            "propagate": _propagate(base),
            "edge_updater": _edge_updater(base),
            "message": _message(base),
            "edge_update": _edge_update(base),
            # deepcopy regenerates PyG's templates on the object's class; ours inherits the base's.
            "_set_jittable_templates": lambda self, raise_on_error=False: None,
        }
    return type(f"Quant{base.__name__}", (Swapped, base), members)


def _visit(module: nn.Module, slot: str, value: Any) -> Any:
    if isinstance(value, Tensor) and value.is_floating_point():
        visitor: SlotVisitor = getattr(module, SLOTS)
        return visitor.visit(slot, value)
    return value


def _visit_pair(module: MessagePassing, slots: tuple[str, str], value: Any) -> Any:
    """Visit the two sides of a bipartite argument: `slots` are the gathered side's and the other's."""
    gathered = 0 if module.flow == "source_to_target" else 1
    sides = list(value)
    shared = sides[0] is sides[1]
    sides[gathered] = _visit(module, slots[0], sides[gathered])
    sides[1 - gathered] = sides[gathered] if shared else _visit(module, slots[1], sides[1 - gathered])
    return tuple(sides)


def _forward(base: type[nn.Module]) -> Callable[..., Any]:
    names = _argument_names(base)

    @functools.wraps(base.forward)
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        args = tuple(
            _visit_argument(self, names[k] if k < len(names) else str(k), value)
            for k, value in enumerate(args)
        )
        kwargs = {name: _visit_argument(self, name, value) for name, value in kwargs.items()}
        result = base.forward(self, *args, **kwargs)
        if isinstance(result, tuple) and result and not hasattr(result, "_fields"):
            return (_visit(self, RESULT, result[0]), *result[1:])
        return _visit(self, RESULT, result)

    return forward


def _visit_argument(module: nn.Module, name: str, value: Any) -> Any:
    if isinstance(value, tuple) and len(value) == 2 and isinstance(module, MessagePassing):
        return _visit_pair(module, (f"{ARGUMENT}{name}", f"{ARGUMENT}{name}_dst"), value)
    return _visit(module, f"{ARGUMENT}{name}", value)


def _argument_names(base: type[nn.Module]) -> tuple[str, ...]:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(base.forward).parameters.values()
    return tuple(parameter.name for parameter in parameters if parameter.kind in kinds)[1:]


def _root_forward(base: type[nn.Module]) -> Callable[..., Any]:
    inner = _forward(base)

    @functools.wraps(base.forward)
    def forward(self: nn.Module, *args: Any, bucket: Tensor | None = None, **kwargs: Any) -> Any:
        own = self._buffers.get(ROOT_BUCKETS)
        if bucket is not None and own is None:
            raise PlanError("bucket ids were passed to a model whose plan has no degree buckets")
        bound = own if bucket is None else bucket
        with nullcontext() if bound is None else bound_buckets(bound):
            return inner(self, *args, **kwargs)

    return forward


def _propagate(base: type[MessagePassing]) -> Callable[..., Any]:
    def propagate(self: MessagePassing, edge_index: Any, size: Any = None, **kwargs: Any) -> Any:
        getattr(self, SLOTS).on_edges(self, edge_index)
        for name, value in kwargs.items():
            if isinstance(value, (tuple, list)) and len(value) == 2:
                kwargs[name] = _visit_pair(
                    self, (f"{MESSAGE_ARGUMENT}{name}", f"{MESSAGE_ARGUMENT}{name}_dst"), value
                )
            else:
                kwargs[name] = _visit(self, f"{MESSAGE_ARGUMENT}{name}", value)
        return _visit(self, AGGREGATE, base.propagate(self, edge_index, size=size, **kwargs))

    return propagate


def _edge_updater(base: type[MessagePassing]) -> Callable[..., Any]:
    drops = _drops_attention(base)

    def edge_updater(self: MessagePassing, edge_index: Any, size: Any = None, **kwargs: Any) -> Any:
        getattr(self, SLOTS).on_edges(self, edge_index)
        for name, value in kwargs.items():
            if isinstance(value, (tuple, list)) and len(value) == 2:
                slots = (f"{EDGE_UPDATE_ARGUMENT}{name}_src", f"{EDGE_UPDATE_ARGUMENT}{name}_dst")
                kwargs[name] = _visit_pair(self, slots, value)
            else:
                kwargs[name] = _visit(self, f"{EDGE_UPDATE_ARGUMENT}{name}", value)
        result = base.edge_updater(self, edge_index, size=size, **kwargs)
        share = getattr(self, "dropout", 0.0) if drops and self.training else 0.0
        if isinstance(result, Tensor) and isinstance(share, float) and 0.0 < share < 1.0:
            # Dropout has scaled what it kept; q(0) is 0, so undoing the scale quantizes before dropout.
            kept = 1.0 - share
            return _visit(self, ATTENTION, result * kept) / kept
        return _visit(self, ATTENTION, result)

    return edge_updater


def _drops_attention(base: type[MessagePassing]) -> bool:
    """Whether a convolution drops attention coefficients where it makes them, as PyG's GAT layers do.

    Told by the names in the compiled code: a class that was typed in at a prompt has no source.
    """
    code = getattr(inspect.unwrap(base.edge_update), "__code__", None)
    return code is not None and "dropout" in code.co_names


def _message(base: type[MessagePassing]) -> Callable[..., Any]:
    @functools.wraps(base.message)
    def message(self: MessagePassing, *args: Any, **kwargs: Any) -> Any:
        visitor: SlotVisitor = getattr(self, SLOTS)
        visitor.on_lifted(kwargs)
        result = base.message(self, *args, **kwargs)
        visitor.on_message(kwargs, result)
        return _visit(self, EDGE_MESSAGE, result)

    return message


def _edge_update(base: type[MessagePassing]) -> Callable[..., Any]:
    @functools.wraps(base.edge_update)
    def edge_update(self: MessagePassing, *args: Any, **kwargs: Any) -> Any:
        getattr(self, SLOTS).on_lifted(kwargs)
        return base.edge_update(self, *args, **kwargs)

    return edge_update


def _parameter(name: str) -> property:
    slot = f"{PARAMETER}{name}"

    def read(self: nn.Module) -> Any:
        parameter = self._parameters[name]
        return parameter if getattr(_state_dicts, "busy", False) else _visit(self, slot, parameter)

    return property(read)


def _with_raw_parameters(method: Callable[..., None]) -> Callable[..., None]:
    """Let a state-dict method read parameters as they are: PyG's Linear reads them as attributes there."""

    @functools.wraps(method)
    def run(self: nn.Module, *args: Any, **kwargs: Any) -> None:
        _state_dicts.busy = True
        try:
            method(self, *args, **kwargs)
        finally:
            _state_dicts.busy = False

    return run


def _representation(base: type[nn.Module]) -> Callable[[nn.Module], str]:
    def representation(self: nn.Module) -> str:
        text = base.__repr__(self)
        visitor = getattr(self, SLOTS, None)
        specs = visitor.summary() if isinstance(visitor, SiteQuantizers) else ""
        if not specs or "\n" in text or not text.endswith(")"):
            return text
        return f"{text[:-1]}{'' if text.endswith('()') else ', '}{specs})"

    return representation


def slots_of(module: nn.Module) -> Mapping[str, nn.Module]:
    """Return the quantizers of a wrapped module by slot; empty when it has none."""
    visitor = module._modules.get(SLOTS)
    return dict(visitor.items()) if isinstance(visitor, SiteQuantizers) else {}
