"""What one run of a model shows of its slots: the tensors that pass them, and how messages are made.

A `Recorder` stands in for the quantizers of every module of the probed copy; `sgq.graph.probe` makes
sites of what they wrote down.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn.conv import MessagePassing

from sgq.graph.adjacency import edge_count, is_sparse
from sgq.graph.inputs import ADJACENCY_ARGUMENTS
from sgq.graph.sites import SiteName
from sgq.graph.swap import ARGUMENT, EDGE_MESSAGE, EDGE_UPDATE_ARGUMENT, MESSAGE_ARGUMENT, PARAMETER, named

_GATHER_TOLERANCE = 1e-4
SINKS = (MESSAGE_ARGUMENT, EDGE_UPDATE_ARGUMENT)
"""Slots whose tensors go nowhere but into the messages."""

TensorKey = tuple[int, int, int]


@dataclass
class Slot:
    """What one slot of one module saw during the probe.

    `messages` counts the edges that gather its rows. A `transparent` module (an activation, a dropout) is
    no layer of its own. `hides_attention`: the factor of its messages is made inside `message`.
    """

    module: str
    slot: str
    name: SiteName
    tensors: list[Tensor] = field(default_factory=list)
    keys: set[TensorKey] = field(default_factory=set)
    messages: int = 0
    gathered: bool = False
    transparent: bool = False
    hides_attention: bool = False


class Trace:
    """Slots in the order of their first execution, and the edge copies that PyG made of node tensors."""

    def __init__(self) -> None:
        self.slots: dict[tuple[str, str], Slot] = {}
        self.copies: dict[TensorKey, Tensor] = {}

    def slot(self, module: str, slot: str, name: SiteName) -> Slot:
        """Return the record of a module's slot, a new one at its first execution."""
        return self.slots.setdefault((module, slot), Slot(module, slot, name))


class Recorder:
    """Stands in for the quantizers of one module and writes down what they would have seen."""

    def __init__(self, trace: Trace, path: str, module: nn.Module) -> None:
        self.trace, self.path = trace, path
        self.transparent = not is_layer(module)
        self.edges = 0
        self.pure_gather = False
        self.lifted: dict[str, frozenset[str]] = {}

    def on_edges(self, module: MessagePassing, adjacency: Any) -> None:
        """Note how many edges there are, and which arguments the convolution lifts to them."""
        self.edges = edge_count(adjacency)
        self.lifted = {
            MESSAGE_ARGUMENT: frozenset(module._user_args),
            EDGE_UPDATE_ARGUMENT: frozenset(module._edge_user_args),
        }

    def on_lifted(self, arguments: Mapping[str, Any]) -> None:
        """Note the edge copies of node tensors."""
        lifted = (value for name, value in arguments.items() if name.endswith(("_i", "_j")))
        self.trace.copies |= {tensor_key(value): value for value in lifted if isinstance(value, Tensor)}

    def on_message(self, arguments: Mapping[str, Any], result: Any) -> None:
        """Note whether the message is a gather, and whether its factor is attention made in `message`."""
        floats = {
            name: value
            for name, value in arguments.items()
            if isinstance(value, Tensor) and value.is_floating_point()
        }
        gathered = [
            name
            for name, value in floats.items()
            if name.endswith("_j") and isinstance(result, Tensor) and _is_gather(result, value)
        ]
        self.pure_gather = bool(gathered)
        lifted = [name for name in floats if name.endswith(("_i", "_j"))]
        for name in gathered:
            argument = name.removesuffix("_j")
            record = self.trace.slots.get((self.path, f"{MESSAGE_ARGUMENT}{argument}"))
            # A factor of what else both ends bring; a single other node tensor is a norm (HypergraphConv).
            made_here = len(lifted) > 2 or f"{argument}_i" in lifted
            if record is not None and made_here and not torch.equal(result, floats[name]):
                record.hides_attention = True

    def visit(self, slot: str, tensor: Tensor) -> Tensor:
        """Write the tensor down, unless it is no site, and return it as it is."""
        name = self._name(slot, tensor)
        if name is None:
            return tensor
        record = self.trace.slot(self.path, slot, name)
        record.tensors.append(tensor)  # kept alive, so that no other tensor gets its address
        record.keys.add(tensor_key(tensor))
        record.transparent = self.transparent
        copies = self._copies(slot)
        record.gathered |= copies > 0
        record.messages += copies * self.edges
        return tensor

    def _name(self, slot: str, tensor: Tensor) -> SiteName | None:
        if not slot.startswith(PARAMETER):
            if tensor.dim() == 0 or tensor.numel() == 0 or tensor_key(tensor) in self.trace.copies:
                return None  # a copy of node rows on the edges is as quantized as the rows are
            if slot == EDGE_MESSAGE and self.pure_gather:
                return None
            if slot.startswith(ARGUMENT) and _is_adjacency(slot.removeprefix(ARGUMENT), tensor):
                return None
            unread = tensor.dim() < 2 or tensor.size(0) != self.edges
            if slot.startswith(SINKS) and unread and not self._copies(slot):
                return None  # edge weights belong to the graph; an unused side of a pair is never read
        return SiteName(self.path, *named(slot))

    def _copies(self, slot: str) -> int:
        """Return how many copies of the slot's tensor are gathered along the edges: of `x_i` and `x_j`."""
        prefix = next((prefix for prefix in SINKS if slot.startswith(prefix)), None)
        if prefix is None:
            return 0
        argument, lifted = slot.removeprefix(prefix), self.lifted[prefix]
        base, _, side = argument.rpartition("_")
        if (side == "dst" and f"{base}_i" in lifted) or (side == "src" and f"{base}_j" in lifted):
            return 1
        return (f"{argument}_i" in lifted) + (f"{argument}_j" in lifted)


def _is_adjacency(argument: str, tensor: Tensor) -> bool:
    return argument in ADJACENCY_ARGUMENTS or (is_sparse(tensor) and tensor.size(0) == tensor.size(1))


def _is_gather(result: Tensor, source: Tensor) -> bool:
    """Whether every row of `result` is the row of `source` times one number (an edge's, or a head's)."""
    if result.shape != source.shape:
        return False
    result, source = result.double(), source.double()
    share = (result * source).sum(-1, keepdim=True) / (source * source).sum(-1, keepdim=True).clamp(min=1e-30)
    return bool((result - share * source).norm() <= _GATHER_TOLERANCE * result.norm())


def has_matrix(module: nn.Module) -> bool:
    """Return whether the module itself has a parameter of two or more dimensions."""
    return any(parameter is not None and parameter.dim() >= 2 for parameter in module._parameters.values())


def is_layer(module: nn.Module) -> bool:
    """Whether what enters a module is a site: of a convolution, one with a matrix, or with `reads_rows`.

    An activation or a dropout is none. A module of no parameters whose kernel reads rows one by one (nearest
    neighbours, pooling) sets `reads_rows = True` on its class.
    """
    return isinstance(module, MessagePassing) or has_matrix(module) or getattr(module, "reads_rows", False)


def tensor_key(tensor: Tensor) -> TensorKey:
    """Return what two views of the same numbers have in common."""
    if tensor.layout != torch.strided:
        return (id(tensor), tensor._nnz(), 0)
    return (tensor.data_ptr(), tensor.numel(), tensor._version)
