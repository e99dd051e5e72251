"""Find the sites of any model: run it once on real data and watch which tensors pass which slots.

The probe swaps every module of a copy, lets the float tensors through unchanged and records them. Two
slots that saw the very same tensor are one site with two names; a message that is a gather of node
features (times one coefficient an edge) is quantized before the gather, any other on the edges.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn.conv import MessagePassing

from sgq.errors import ModelError, PlanError
from sgq.graph.adjacency import is_sparse
from sgq.graph.recording import SINKS, Recorder, Slot, TensorKey, Trace, has_matrix, tensor_key
from sgq.graph.sites import Component, FloatParameter, KeptBuffer, Place, Rows, Site, SiteTable, Workload
from sgq.graph.swap import ARGUMENT, ATTENTION, EDGE_MESSAGE, PARAMETER, RESULT, is_swapped, swap

_PRECEDENCE: Mapping[Component, int] = {
    "weight": 0,
    "attention": 1,
    "input": 2,
    "message": 3,
    "aggregate": 4,
    "output": 5,
}


def find_sites(model: nn.Module, run: Callable[[nn.Module], Any], workload: Workload) -> SiteTable:
    """Return every site of `model` that one call of `run(model)` reaches, in order of execution.

    `run` calls the model on data (see `sgq.graph.inputs.call`); `workload` says how many nodes, edges and
    graphs that data has. The model itself is left as it was.
    """
    if any(is_swapped(module) for module in model.modules()):
        raise PlanError("the model is already quantized: plan on the float model")
    probed = copy.deepcopy(model).eval()
    trace = Trace()
    for path, module in list(probed.named_modules()):
        if isinstance(module, MessagePassing) or has_matrix(module) or not list(module.children()):
            swap(module, Recorder(trace, path, module))
    inputs: list[Tensor] = []
    handle = probed.register_forward_pre_hook(
        lambda _, args, kwargs: inputs.extend(_float_tensors((args, kwargs))), with_kwargs=True
    )
    try:
        with torch.no_grad():
            outputs = run(probed)
    except (RuntimeError, TypeError, ValueError, LookupError, AttributeError, AssertionError) as error:
        reason = str(error) or type(error).__name__
        raise ModelError(f"{type(model).__name__} does not run on this data: {reason}") from error
    finally:
        handle.remove()
    return _table(model, trace, inputs, _float_tensors(outputs), workload)


def _table(
    model: nn.Module, trace: Trace, inputs: list[Tensor], outputs: list[Tensor], workload: Workload
) -> SiteTable:
    input_keys = {tensor_key(tensor) for tensor in inputs}
    output_keys = {tensor_key(tensor) for tensor in outputs}
    sites = []
    for group in _groups(list(trace.slots.values())):
        shown = [slot for slot in group if not slot.transparent]
        if shown and not _is_vector(model, shown[0]) and not _is_edge_weight(shown[0], input_keys, workload):
            sites.append(_site(model, group, shown, inputs, output_keys, workload))
    covered = {
        f"{site.place.module}.{site.place.slot.removeprefix(PARAMETER)}".lstrip(".")
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
        if (isinstance(module, MessagePassing) or has_matrix(module)) and path not in reached
    )
    return SiteTable(tuple(sites), parameters, unreached, workload, kept_buffers(model))


def kept_buffers(model: nn.Module) -> tuple[KeptBuffer, ...]:
    """Return the buffers that are in a float model's state dict, in its order."""
    return tuple(
        KeptBuffer(
            f"{path}.{name}".lstrip("."),
            buffer.numel(),
            str(buffer.dtype).removeprefix("torch."),
            buffer.element_size(),
        )
        for path, module in model.named_modules()
        for name, buffer in module._buffers.items()
        if buffer is not None and name not in module._non_persistent_buffers_set
    )


def _groups(slots: list[Slot]) -> list[list[Slot]]:
    """Group slots by tensor: a slot joins a group that saw all its tensors and hands its own on to it."""
    groups: list[list[Slot]] = []
    for slot in slots:
        for group in groups:
            if slot.keys <= group[0].keys and any(_feeds(member, slot, group) for member in group):
                group.append(slot)
                break
        else:
            groups.append([slot])
    return groups


def _feeds(earlier: Slot, later: Slot, group: list[Slot]) -> bool:
    """Whether what `earlier` puts in its tensor's place is what `later` then sees."""
    if later.slot.startswith(PARAMETER) or earlier.slot.startswith(SINKS):
        return False
    if not earlier.slot.startswith(ARGUMENT):
        return True
    inside = (
        later.module == earlier.module or later.module.startswith(f"{earlier.module}.") or not earlier.module
    )
    return inside or _passed(earlier, group)


def _passed(slot: Slot, group: list[Slot]) -> bool:
    """Whether the tensor entered a module at `slot` and left it unchanged, as with a dropout in eval mode."""
    return slot.transparent and any(other.module == slot.module and other.slot == RESULT for other in group)


def _site(
    model: nn.Module,
    group: list[Slot],
    shown: list[Slot],
    inputs: list[Tensor],
    outputs: set[TensorKey],
    workload: Workload,
) -> Site:
    owner = min(
        shown,
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
    aliases = [slot.name for slot in shown if slot is not owner]
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
        notes=_notes(group, owner, place),
    )


def _place(group: list[Slot], owner: Slot) -> Slot:
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


def _notes(group: list[Slot], owner: Slot, place: Slot) -> tuple[str, ...]:
    notes = []
    if owner.slot == EDGE_MESSAGE:
        notes.append("the message is not a gather of node features: quantized on the edges")
    if any(slot.hides_attention for slot in group):
        notes.append("the attention is computed inside message: not separable, it has no site of its own")
    if place.transparent:
        notes.append(f'quantized before "{place.module}", a dropout')
    return tuple(notes)


def _rows(slot: Slot, tensor: Tensor, workload: Workload) -> Rows:
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


def _channel_shape(model: nn.Module, slot: Slot, tensor: Tensor, rows: Rows) -> tuple[int, ...]:
    """Return one value a column of node or edge rows, or an output of a weight: dim 0, or last if raw."""
    if rows in ("node", "edge", "graph"):
        return (1, *tensor.shape[1:])
    if rows == "parameter" and not isinstance(model.get_submodule(slot.module), MessagePassing):
        return (tensor.size(0), *[1] * (tensor.dim() - 1))
    return (*[1] * (tensor.dim() - 1), tensor.size(-1))


def _is_vector(model: nn.Module, slot: Slot) -> bool:
    """Whether the slot is a parameter with one value a channel: like a bias, it stays in float."""
    if slot.name.component != "weight":
        return False
    tensor = slot.tensors[0]
    return tensor.numel() == prod(_channel_shape(model, slot, tensor, "parameter"))


def _is_edge_weight(slot: Slot, inputs: set[TensorKey], workload: Workload) -> bool:
    """Whether the slot reads one number an edge that comes with the data: part of the graph, as in a CSR."""
    tensor = slot.tensors[0]
    return tensor.dim() == 1 and tensor.size(0) == workload.edges and bool(slot.keys & inputs)


def _is_input(slot: Slot, tensor: Tensor, inputs: list[Tensor]) -> bool:
    """Whether the slot reads the model's own input, in whichever layout the model has turned it into."""
    if any(tensor_key(given) in slot.keys for given in inputs):
        return True
    return any(
        is_sparse(given) and given.shape == tensor.shape and torch.equal(given.to_dense(), tensor.to_dense())
        for given in inputs
    )


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
