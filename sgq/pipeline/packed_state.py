"""From a quantized model to the tensors of a packed checkpoint, and back into a freshly built float model."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from quantizers import Phase, Quantizer, pack, packed_nbytes, unpack
from quantizers import names as quantizer_names
from quantizers.affine import dequantize, quantize
from quantizers.observed_fake_quantize import FakeQuantize, ObservedQuantizer
from quantizers.spec import QuantizerSpec
from sgq.cost.memory import bucket_id_bits, scale_count
from sgq.errors import CheckpointError, QuantizerError, nearest_name
from sgq.graph.probe import kept_buffers
from sgq.graph.sites import Site
from sgq.graph.swap import PARAMETER, ROOT_BUCKETS, SLOTS
from sgq.graph.wrap import quantizer_at, quantizers_of
from sgq.pipeline.code_ranges import CodeRanges, from_stored, group_widths, observed_range, to_stored
from sgq.pipeline.fingerprint import is_float_name
from sgq.pipeline.packed_layout import (
    SiteParts,
    has_buckets,
    is_parameter,
    layout_of,
    misfits,
    parameter_name,
)
from sgq.pipeline.stored_range import StoredRange
from sgq.pipeline.wrapping import set_phase, wrap
from sgq.recipe.plan import Plan, PlanEntry

MOST_SHOWN = 20
"""How many faults a message lists; no other's nearest name is looked for."""
_CHUNK_CODES = 2**20


@torch.no_grad()
def packed_tensors(model: nn.Module, plan: Plan) -> tuple[dict[str, Tensor], int]:
    """Return a quantized model's tensors as a packed checkpoint holds them, and how many bucket ids.

    Raises CheckpointError where the model is not calibrated, was not wrapped with this plan, or holds
    what the file could not give back exactly.
    """
    _check_calibrated(model, plan)
    tensors: dict[str, Tensor] = {}
    for entry in plan.quantized:
        tensors |= _site_tensors(model, entry)
    state = {name: tensor.detach() for name, tensor in model.state_dict().items() if is_float_name(name)}
    kept = [parameter_name(entry.site) for entry in plan.entries if is_parameter(entry)]
    coded = {parameter_name(entry.site) for entry in plan.quantized if is_parameter(entry)}
    kept = [name for name in kept if name not in coded]
    for name in (*kept, *(parameter.name for parameter in plan.float_parameters)):
        if name in state:
            tensors[name] = _exact(state[name], owner=f'parameter "{name}"')
    tensors |= {buffer.name: state[buffer.name].cpu() for buffer in plan.buffers if buffer.name in state}
    ids = getattr(model, ROOT_BUCKETS, torch.empty(0)) if has_buckets(plan) else torch.empty(0)
    if ids.numel():
        tensors[ROOT_BUCKETS] = pack(ids.cpu(), bucket_id_bits(plan))
    faults = misfits(layout_of(plan, bucket_ids=ids.numel()), tensors)
    if faults:
        raise CheckpointError(f"the model does not fit the plan: {'; '.join(faults)}")
    return {name: tensor.contiguous() for name, tensor in tensors.items()}, ids.numel()


def stored_bucket(plan: Plan, tensors: Mapping[str, Tensor], count: int) -> Tensor | None:
    """Return the whole graph's bucket ids, [nodes] uint8; None where the checkpoint has none.

    Raises CheckpointError for an id that is no bucket.
    """
    if ROOT_BUCKETS not in tensors:
        return None
    bits = bucket_id_bits(plan)
    ids = torch.empty(count, dtype=torch.uint8)
    # In chunks of whole bytes: `unpack` widens every code to 8 bytes.
    chunks = tensors[ROOT_BUCKETS].split(packed_nbytes(_CHUNK_CODES, bits))
    for part, into in zip(chunks, ids.split(_CHUNK_CODES), strict=True):
        into.copy_(unpack(part, bits, into.numel()))
    greatest = int(ids.max())
    if greatest >= plan.buckets:
        raise CheckpointError(f'tensor "{ROOT_BUCKETS}": expected ids below {plan.buckets} (got {greatest})')
    return ids


def restored_model(
    model: nn.Module, plan: Plan, tensors: Mapping[str, Tensor], bucket: Tensor | None
) -> nn.Module:
    """Return a quantized copy of a float model with a packed checkpoint's tensors, frozen and in eval mode.

    The parameters of the result are what the codes stand for. Call `model_misfits` first.
    """
    if bucket is None and plan.buckets:
        bucket = torch.empty(0, dtype=torch.uint8)
    wrapped = wrap(model, plan, bucket=bucket)
    parameters = dict(wrapped.named_parameters(remove_duplicate=False))
    buffers = dict(wrapped.named_buffers(remove_duplicate=False))
    with torch.no_grad():
        for name, tensor in tensors.items():
            if name in parameters:
                parameters[name].copy_(tensor)
            elif name in buffers and name != ROOT_BUCKETS:
                buffers[name].copy_(tensor)
        values = {}
        for entry in plan.quantized:
            ranges = _stored_ranges(entry, tensors)
            if ranges is not None:
                _install(wrapped, entry, ranges)
            if is_parameter(entry) and ranges is not None:
                name = parameter_name(entry.site)
                values[name] = _values(entry, tensors, ranges)
                parameters[name].copy_(values[name])
        _untie(wrapped, parameters, values)
    set_phase(wrapped, Phase.FROZEN)
    return wrapped.eval()


def model_misfits(model: nn.Module, plan: Plan, tensors: Mapping[str, Tensor]) -> list[str]:
    """Return why a float model cannot take a packed checkpoint, a line a fault; empty where it can."""
    shapes = {entry_name: entry.site.shape for entry_name, entry in _coded(plan).items()}
    names = {str(entry.site.name) for entry in plan.quantized}
    shapes |= {
        name: tuple(tensor.shape)
        for name, tensor in tensors.items()
        if name != ROOT_BUCKETS and name.rpartition("/")[0] not in names
    }
    wanted = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    wanted |= {buffer.name: tuple(model.get_buffer(buffer.name).shape) for buffer in kept_buffers(model)}
    tied = dict(model.named_parameters(remove_duplicate=False))
    faults = [f'"{name}" is missing' for name in wanted if name not in shapes]
    faults += [
        f'"{name}" is not in the model.{nearest_name(name, wanted) if index < MOST_SHOWN else ""}'
        for index, name in enumerate(name for name in shapes if name not in wanted and name not in tied)
    ]
    faults += [
        f'"{name}" has shape {list(shapes[name])} where the model has {list(wanted[name])}'
        for name in wanted
        if name in shapes and shapes[name] != wanted[name]
    ]
    modules = dict(model.named_modules())
    lacking = (entry.site for entry in plan.quantized if entry.site.place.module not in modules)
    faults += [
        f'site "{site.name}" is in module "{site.place.module}", which the model lacks.'
        f"{nearest_name(site.place.module, modules) if index < MOST_SHOWN else ''}"
        for index, site in enumerate(lacking)
    ]
    known = quantizer_names()
    unknown = {entry.spec.quantizer for entry in plan.quantized if entry.spec is not None} - set(known)
    faults += [
        f'unknown quantizer "{name}".{nearest_name(name, known) if index < MOST_SHOWN else ""}'
        for index, name in enumerate(sorted(unknown))
    ]
    return faults


def _coded(plan: Plan) -> dict[str, PlanEntry]:
    return {parameter_name(entry.site): entry for entry in plan.quantized if is_parameter(entry)}


def _check_calibrated(model: nn.Module, plan: Plan) -> None:
    planned = {quantizer_at(model, entry.site): entry for entry in plan.quantized}
    extra = [path for path, quantizer in quantizers_of(model).items() if quantizer not in planned]
    if extra:
        raise CheckpointError(
            f'expected a model wrapped with the plan of the call (got one with "{extra[0]}" besides)'
        )
    for quantizer, entry in planned.items():
        if quantizer.spec != entry.spec:
            raise CheckpointError(
                f"{entry.site.name}: expected {entry.spec} as planned (got {quantizer.spec})"
            )
        if quantizer.phase is Phase.OBSERVE or not quantizer.has_range:
            raise CheckpointError(
                f"{entry.site.name}: expected a calibrated quantizer (got one that still observes): "
                "run sgq.calibrate(model, plan, data) before sgq.save"
            )


def _site_tensors(model: nn.Module, entry: PlanEntry) -> dict[str, Tensor]:
    site, spec, owner = entry.site, entry.spec, str(entry.site.name)
    assert spec is not None
    quantizer, names = quantizer_at(model, site), SiteParts.of(site.name)
    tensors: dict[str, Tensor] = {}
    if is_parameter(entry):
        raw = _raw(model, site)
        ranges, codes = _codes(quantizer, raw, scale_count(site, spec), owner=owner)
        tensors[names.codes] = pack(codes.cpu(), spec.widths[0])
    elif isinstance(quantizer, ObservedQuantizer):
        scale, zero_point = quantizer.scale.view(-1), quantizer.zero_point.view(-1)
        ranges = CodeRanges(scale, zero_point, group_widths(spec, scale.numel()))
    elif spec.granularity == "node" and not quantizer.state_dict():
        return {}
    else:
        raise CheckpointError(
            f'{owner}: expected a quantizer that keeps a scale and a zero point only (got "{spec.quantizer}")'
        )
    scale_stored, zero_point_stored = to_stored(ranges, spec, owner=owner)
    tensors[names.scale] = scale_stored
    if zero_point_stored is not None:
        tensors[names.zero_point] = zero_point_stored
    return tensors


def _codes(quantizer: Quantizer, raw: Tensor, groups: int, *, owner: str) -> tuple[CodeRanges, Tensor]:
    """Return a parameter's ranges and integer codes; raise where they do not give the quantizer's values."""
    if not bool(torch.isfinite(raw).all()):
        raise CheckpointError(f"{owner}: expected finite values (got infinite ones or NaN)")
    parameters = quantizer.parameters_of(raw)
    codes = quantize(raw, parameters)
    phase = quantizer.phase
    quantizer.freeze()
    wanted = quantizer(raw)
    quantizer.phase = phase
    if parameters.scale.numel() != groups or not torch.equal(
        dequantize(codes, parameters).to(raw.dtype), wanted
    ):
        raise CheckpointError(
            f"{owner}: expected values that are codes with {groups} scales (got others from "
            f'quantizer "{quantizer.spec.quantizer}")'
        )
    zero_point = parameters.zero_point.expand_as(parameters.scale)
    widths = group_widths(quantizer.spec, groups)
    return CodeRanges(parameters.scale.reshape(-1), zero_point.reshape(-1), widths), codes.long()


def _exact(tensor: Tensor, *, owner: str) -> Tensor:
    stored = tensor.float().cpu()
    if not torch.equal(stored.to(tensor.dtype), tensor.cpu()):
        raise CheckpointError(
            f"{owner}: expected values that fp32 holds exactly (got {tensor.dtype}): save model.float()"
        )
    return stored


def _raw(model: nn.Module, site: Site) -> Tensor:
    """Return a parameter as it is, not through its quantizer."""
    parameter = model.get_submodule(site.place.module)._parameters[site.place.slot.removeprefix(PARAMETER)]
    assert parameter is not None
    return parameter.detach()


def _stored_ranges(entry: PlanEntry, tensors: Mapping[str, Tensor]) -> CodeRanges | None:
    spec, names = entry.spec, SiteParts.of(entry.site.name)
    assert spec is not None
    if names.scale not in tensors:
        return None
    scale = tensors[names.scale]
    return from_stored(scale, tensors.get(names.zero_point), spec, group_widths(spec, scale.numel()))


def _values(entry: PlanEntry, tensors: Mapping[str, Tensor], ranges: CodeRanges) -> Tensor:
    site, spec = entry.site, entry.spec
    assert spec is not None
    signed = spec.signed and not (spec.symmetric and spec.widths == (1,))
    codes = unpack(tensors[SiteParts.of(site.name).codes], spec.widths[0], site.values, signed=signed)
    shape = _range_shape(site, spec)
    return (codes.float().view(site.shape) - ranges.zero_point.view(shape)) * ranges.scale.view(shape)


def _range_shape(site: Site, spec: QuantizerSpec) -> tuple[int, ...]:
    if spec.granularity == "node":
        return (site.shape[0], *[1] * (len(site.shape) - 1))
    return site.channel_shape if spec.granularity == "channel" else ()


def _install(wrapped: nn.Module, entry: PlanEntry, ranges: CodeRanges) -> None:
    """Give a site's quantizer its stored range, or a parameter's another quantizer that keeps to it."""
    site, spec = entry.site, entry.spec
    assert spec is not None
    quantizer = quantizer_at(wrapped, site)
    if is_parameter(entry) and not isinstance(quantizer, FakeQuantize):
        shape, like = _range_shape(site, spec), _raw(wrapped, site)
        pinned = StoredRange(spec, ranges.scale.view(shape), ranges.zero_point.view(shape)).to(like.device)
        slots = getattr(wrapped.get_submodule(site.place.module), SLOTS)
        slots[site.place.slot] = pinned
        return
    if not isinstance(quantizer, ObservedQuantizer):
        raise QuantizerError(f'{site.name}: expected a quantizer with a range (got "{spec.quantizer}")')
    quantizer.scale.copy_(ranges.scale.view(quantizer.scale.shape))
    quantizer.zero_point.copy_(ranges.zero_point.view(quantizer.zero_point.shape))
    quantizer.has_range = bool((ranges.scale != 0).any())
    lower, upper, known = observed_range(ranges, spec)
    if spec.observer.kind != "fixed":
        quantizer.observer.lower.copy_(lower)
        quantizer.observer.upper.copy_(upper)
        quantizer.observer.seen.copy_(known)


def _untie(wrapped: nn.Module, parameters: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Give every site whose parameter has a second name a parameter of its own: their codes may differ."""
    names_of: dict[int, int] = {}
    for parameter in parameters.values():
        names_of[id(parameter)] = names_of.get(id(parameter), 0) + 1
    for name, value in values.items():
        parameter = parameters[name]
        if names_of[id(parameter)] > 1:
            path, _, own = name.rpartition(".")
            fresh = nn.Parameter(value.to(parameter), requires_grad=parameter.requires_grad)
            wrapped.get_submodule(path)._parameters[own] = fresh
