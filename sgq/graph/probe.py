"""Find the sites of any model: run it once on real data and watch which tensors pass which slots.

The probe swaps every module of a copy, lets the float tensors through unchanged and records them. Two
slots that saw the very same tensor are one site with two names; a message that is a gather of node
features (times one coefficient an edge) is quantized before the gather, any other on the edges.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn.conv import MessagePassing

from sgq.errors import ModelError, PlanError
from sgq.graph.adjacency import edge_count, is_sparse
from sgq.graph.inputs import ADJACENCY_ARGUMENTS
from sgq.graph.sites import Component, FloatParameter, Place, Rows, Site, SiteName, SiteTable, Workload
from sgq.graph.swap import (
    AGGREGATE,
    ARGUMENT,
    ATTENTION,
    EDGE_MESSAGE,
    EDGE_UPDATE_ARGUMENT,
    MESSAGE_ARGUMENT,
    PARAMETER,
    RESULT,
    is_swapped,
    swap,
)

_PRECEDENCE: Mapping[Component, int] = {
    "weight": 0,
    "attention": 1,
    "input": 2,
    "message": 3,
    "aggregate": 4,
    "output": 5,
}
_GATHER_TOLERANCE = 1e-4
_SINKS = (MESSAGE_ARGUMENT, EDGE_UPDATE_ARGUMENT)
"""Slots whose tensors go nowhere but into the messages."""

TensorKey = tuple[int, int, int]


@dataclass
class _Slot:
    """What one slot of one module saw during the probe."""

    module: str
    slot: str
    name: SiteName
    tensors: list[Tensor] = field(default_factory=list)
    keys: set[TensorKey] = field(default_factory=set)
    messages: int = 0
    gathered: bool = False
    transparent: bool = False


def find_sites(model: nn.Module, run: Callable[[nn.Module], Any], workload: Workload) -> SiteTable:
    """Return every site of `model` that one call of `run(model)` reaches, in order of execution.

    `run` calls the model on data (see `sgq.graph.inputs.call`); `workload` says how many nodes, edges and
    graphs that data has. The model itself is left as it was.
    """
    if any(is_swapped(module) for module in model.modules()):
        raise PlanError("the model is already quantized: plan on the float model")
    probed = copy.deepcopy(model).eval()
    trace = _Trace()
    for path, module in list(probed.named_modules()):
        if isinstance(module, MessagePassing) or _has_matrix(module) or not list(module.children()):
            swap(module, _Recorder(trace, path, module))
    inputs: list[Tensor] = []
    handle = probed.register_forward_pre_hook(
        lambda _, args, kwargs: inputs.extend(_float_tensors((args, kwargs))), with_kwargs=True
    )
    try:
        with torch.no_grad():
            outputs = run(probed)
    except (RuntimeError, TypeError, ValueError, IndexError, AttributeError, KeyError) as error:
        raise ModelError(f"{type(model).__name__} does not run on this data: {error}") from error
    finally:
        handle.remove()
    return _table(model, trace, inputs, _float_tensors(outputs), workload)


class _Trace:
    """Slots in the order of their first execution, and the edge copies that PyG made of node tensors."""

    def __init__(self) -> None:
        self.slots: dict[tuple[str, str], _Slot] = {}
        self.copies: dict[TensorKey, Tensor] = {}

    def slot(self, module: str, slot: str, name: SiteName) -> _Slot:
        return self.slots.setdefault((module, slot), _Slot(module, slot, name))


class _Recorder:
    """Stands in for the quantizers of one module and writes down what they would have seen."""

    def __init__(self, trace: _Trace, path: str, module: nn.Module) -> None:
        self.trace, self.path = trace, path
        self.convolution = isinstance(module, MessagePassing)
        self.transparent = not self.convolution and not _has_matrix(module)
        self.edges = 0
        self.lifted: dict[str, frozenset[str]] = {}

    def on_edges(self, module: MessagePassing, adjacency: Any) -> None:
        self.edges = edge_count(adjacency)
        self.lifted = {
            MESSAGE_ARGUMENT: frozenset(module._user_args),
            EDGE_UPDATE_ARGUMENT: frozenset(module._edge_user_args),
        }

    def on_lifted(self, arguments: Mapping[str, Any]) -> None:
        lifted = (value for name, value in arguments.items() if name.endswith(("_i", "_j")))
        self.trace.copies |= {_key(value): value for value in lifted if isinstance(value, Tensor)}

    def on_message(self, arguments: Mapping[str, Any], result: Any) -> None:
        self.pure_gather = isinstance(result, Tensor) and any(
            isinstance(value, Tensor) and name.endswith("_j") and _is_gather(result, value)
            for name, value in arguments.items()
        )

    def visit(self, slot: str, tensor: Tensor) -> Tensor:
        name = self._name(slot, tensor)
        if name is None:
            return tensor
        record = self.trace.slot(self.path, slot, name)
        record.tensors.append(tensor)  # kept alive, so that no other tensor gets its address
        record.keys.add(_key(tensor))
        record.transparent = self.transparent
        copies = self._copies(slot)
        record.gathered |= copies > 0
        record.messages += copies * self.edges
        return tensor

    def _name(self, slot: str, tensor: Tensor) -> SiteName | None:
        if slot.startswith(PARAMETER):
            argument = slot.removeprefix(PARAMETER)
            return SiteName(self.path, "weight", "" if argument == "weight" else argument)
        if tensor.dim() == 0 or tensor.numel() == 0 or _key(tensor) in self.trace.copies:
            return None  # a copy of node rows on the edges is as quantized as the rows are
        if slot == RESULT:
            return SiteName(self.path, "output")
        if slot == ATTENTION:
            return SiteName(self.path, "attention")
        if slot == AGGREGATE:
            return SiteName(self.path, "aggregate")
        if slot == EDGE_MESSAGE:
            return None if self.pure_gather else SiteName(self.path, "message", "edges")
        if slot.startswith(ARGUMENT):
            argument = slot.removeprefix(ARGUMENT)
            if argument in ADJACENCY_ARGUMENTS or (is_sparse(tensor) and tensor.size(0) == tensor.size(1)):
                return None
            return SiteName(self.path, "input", "" if argument in ("x", "input", "0") else argument)
        if not self._copies(slot) and (tensor.dim() < 2 or tensor.size(0) != self.edges):
            return None  # edge weights belong to the graph; an unused side of a pair is never read
        argument = slot.removeprefix(MESSAGE_ARGUMENT).removeprefix(EDGE_UPDATE_ARGUMENT)
        return SiteName(self.path, "message", "" if slot == f"{MESSAGE_ARGUMENT}x" else argument)

    def _copies(self, slot: str) -> int:
        """Return how many copies of the slot's tensor are gathered along the edges: of `x_i` and `x_j`."""
        prefix = next((prefix for prefix in _SINKS if slot.startswith(prefix)), None)
        if prefix is None:
            return 0
        argument, lifted = slot.removeprefix(prefix), self.lifted[prefix]
        base, _, side = argument.rpartition("_")
        if (side == "dst" and f"{base}_i" in lifted) or (side == "src" and f"{base}_j" in lifted):
            return 1
        return (f"{argument}_i" in lifted) + (f"{argument}_j" in lifted)


def _table(
    model: nn.Module, trace: _Trace, inputs: list[Tensor], outputs: list[Tensor], workload: Workload
) -> SiteTable:
    output_keys = {_key(tensor) for tensor in outputs}
    sites = []
    for group in _groups(list(trace.slots.values())):
        named = [slot for slot in group if not slot.transparent]
        if named and not _is_vector(model, named[0]):
            sites.append(_site(model, group, named, inputs, output_keys, workload))
    covered = {
        f"{site.place.module}.{site.place.slot.removeprefix('parameter_')}".lstrip(".")
        for site in sites
        if site.name.component == "weight"
    }
    parameters = tuple(
        FloatParameter(name, parameter.numel())
        for name, parameter in model.named_parameters()
        if name not in covered
    )
    reached = {module for module, _ in trace.slots}
    unreached = tuple(
        path
        for path, module in model.named_modules()
        if (isinstance(module, MessagePassing) or _has_matrix(module)) and path not in reached
    )
    return SiteTable(tuple(sites), parameters, unreached, workload)


def _groups(slots: list[_Slot]) -> list[list[_Slot]]:
    """Group slots by tensor: a slot joins a group that saw all its tensors and hands its own on to it."""
    groups: list[list[_Slot]] = []
    for slot in slots:
        for group in groups:
            if slot.keys <= group[0].keys and any(_feeds(member, slot, group) for member in group):
                group.append(slot)
                break
        else:
            groups.append([slot])
    return groups


def _feeds(earlier: _Slot, later: _Slot, group: list[_Slot]) -> bool:
    """Whether what `earlier` puts in its tensor's place is what `later` then sees."""
    if later.slot.startswith(PARAMETER) or earlier.slot.startswith(_SINKS):
        return False
    if not earlier.slot.startswith(ARGUMENT):
        return True
    inside = (
        later.module == earlier.module or later.module.startswith(f"{earlier.module}.") or not earlier.module
    )
    return inside or _passed(earlier, group)


def _passed(slot: _Slot, group: list[_Slot]) -> bool:
    """Whether the tensor entered a module at `slot` and left it unchanged, as with a dropout in eval mode."""
    return slot.transparent and any(other.module == slot.module and other.slot == RESULT for other in group)


def _site(
    model: nn.Module,
    group: list[_Slot],
    named: list[_Slot],
    inputs: list[Tensor],
    outputs: set[TensorKey],
    workload: Workload,
) -> Site:
    owner = min(
        named,
        key=lambda slot: (
            _PRECEDENCE[slot.name.component],
            slot.name.module.count("."),
            slot.name.tensor != "",
        ),
    )
    component = owner.name.component
    place = _place(group, owner)
    tensor = max(owner.tensors, key=Tensor.numel)
    rows: Rows = "parameter" if component == "weight" else _rows(owner, tensor, workload)
    aliases = [slot.name for slot in named if slot is not owner]
    features = component == "input" and _is_input(owner, tensor, inputs)
    return Site(
        name=owner.name,
        place=Place(place.module, place.slot),
        rows=rows,
        shape=tuple(tensor.shape),
        # The place may see the tensor before it is reshaped into heads.
        channel_shape=_channel_shape(model, owner, max(place.tensors, key=Tensor.numel), rows),
        aliases=tuple(dict.fromkeys(aliases)),
        messages=max(slot.messages for slot in group),
        stored=component in ("weight", "attention", "input", "message") or bool(owner.keys & outputs),
        features=features,
        nonzeros=_nonzeros(tensor) if features else None,
        notes=_notes(owner, place),
    )


def _place(group: list[_Slot], owner: _Slot) -> _Slot:
    """Return the slot to quantize at: the owner's, unless an earlier one does better.

    Where the tensor passes a dropout on its way to the owner, it is quantized before it: that keeps the
    dropped zeros out of the range and costs less accuracy (design decision 3). Where the owner is not all
    that reads the tensor, it is quantized where it is made.
    """
    position = group.index(owner)
    for slot in group[:position]:
        if slot.slot.startswith(ARGUMENT) and _passed(slot, group):
            return slot
    reaches_all = all(_feeds(slot, owner, group) for slot in group[:position]) and all(
        _feeds(owner, slot, group) for slot in group[position + 1 :]
    )
    return owner if reaches_all else group[0]


def _notes(owner: _Slot, place: _Slot) -> tuple[str, ...]:
    notes = []
    if owner.slot == EDGE_MESSAGE:
        notes.append("the message is not a gather of node features: quantized on the edges")
    if place.transparent:
        notes.append(f'quantized before "{place.module}", a dropout')
    return tuple(notes)


def _rows(slot: _Slot, tensor: Tensor, workload: Workload) -> Rows:
    size = tensor.size(0)
    if slot.slot in (ATTENTION, EDGE_MESSAGE):
        return "edge"
    if size == workload.nodes:
        return "node"
    if slot.name.component == "message" and not slot.gathered:
        return "edge"
    if size == workload.graphs:
        return "graph"
    return "edge" if size == workload.edges or size == workload.edges + workload.nodes else "other"


def _channel_shape(model: nn.Module, slot: _Slot, tensor: Tensor, rows: Rows) -> tuple[int, ...]:
    """Return one value a column of node or edge rows, or an output of a weight: dim 0, or last if raw."""
    if rows in ("node", "edge", "graph"):
        return (1, *tensor.shape[1:])
    if rows == "parameter" and not isinstance(model.get_submodule(slot.module), MessagePassing):
        return (tensor.size(0), *[1] * (tensor.dim() - 1))
    return (*[1] * (tensor.dim() - 1), tensor.size(-1))


def _is_vector(model: nn.Module, slot: _Slot) -> bool:
    """Whether the slot is a parameter with one value a channel: like a bias, it stays in float."""
    if slot.name.component != "weight":
        return False
    tensor = slot.tensors[0]
    return tensor.numel() == prod(_channel_shape(model, slot, tensor, "parameter"))


def _is_input(slot: _Slot, tensor: Tensor, inputs: list[Tensor]) -> bool:
    """Whether the slot reads the model's own input, in whichever layout the model has turned it into."""
    if any(_key(given) in slot.keys for given in inputs):
        return True
    return any(
        is_sparse(given) and given.shape == tensor.shape and torch.equal(given.to_dense(), tensor)
        for given in inputs
    )


def _is_gather(result: Tensor, source: Tensor) -> bool:
    """Whether every row of `result` is the row of `source` times one number (an edge's, or a head's)."""
    if result.shape != source.shape:
        return False
    result, source = result.double(), source.double()
    share = (result * source).sum(-1, keepdim=True) / (source * source).sum(-1, keepdim=True).clamp(min=1e-30)
    return bool((result - share * source).norm() <= _GATHER_TOLERANCE * result.norm())


def _has_matrix(module: nn.Module) -> bool:
    return any(parameter is not None and parameter.dim() >= 2 for parameter in module._parameters.values())


def _key(tensor: Tensor) -> TensorKey:
    """Return what two views of the same numbers have in common."""
    if tensor.layout != torch.strided:
        return (id(tensor), tensor._nnz(), 0)
    return (tensor.data_ptr(), tensor.numel(), tensor._version)


def _nonzeros(tensor: Tensor) -> int:
    return int(tensor._nnz()) if tensor.layout != torch.strided else int(tensor.count_nonzero())


def _float_tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value] if value.is_floating_point() else []
    if isinstance(value, Mapping):
        value = list(value.values())
    return (
        [tensor for part in value for tensor in _float_tensors(part)]
        if isinstance(value, (tuple, list))
        else []
    )
