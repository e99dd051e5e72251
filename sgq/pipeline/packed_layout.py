"""What a packed checkpoint holds for a plan: the name, dtype and size of every tensor, known from the plan.

A quantized site has `<site>/codes` (parameters only), `<site>/scale` and `<site>/zero_point`; what stays in
float has its own name. Scales read off the rows while the model runs (granularity `node`) are not kept,
but for those of parameters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from quantizers import packed_nbytes
from quantizers.spec import QuantizerSpec
from sgq.cost.memory import bucket_id_bits, scale_count, zero_point_bytes
from sgq.errors import PlanError
from sgq.graph.buckets import check_edges
from sgq.graph.sites import Site
from sgq.graph.swap import PARAMETER, ROOT_BUCKETS
from sgq.recipe.plan import Plan, PlanEntry

FEATURES = "features"
"""The prefix of the tensors of quantized input features."""


@dataclass(frozen=True)
class Part:
    """One tensor of a checkpoint; None for a shape that the plan does not tell."""

    name: str
    values: int
    dtype: torch.dtype
    shape: tuple[int, ...] | None = None


@dataclass(frozen=True)
class SiteParts:
    """The names of a quantized site's tensors."""

    codes: str
    scale: str
    zero_point: str

    @classmethod
    def of(cls, owner: object) -> SiteParts:
        """Return the names for a site's name."""
        return cls(f"{owner}/codes", f"{owner}/scale", f"{owner}/zero_point")


def parameter_name(site: Site) -> str:
    """Return the name that a parameter's site has in the float model's state dict."""
    return f"{site.place.module}.{site.place.slot.removeprefix(PARAMETER)}".lstrip(".")


def is_parameter(entry: PlanEntry) -> bool:
    """Whether an entry's site is a parameter of the model."""
    return entry.site.rows == "parameter"


def has_buckets(plan: Plan) -> bool:
    """Whether any site needs bucket ids."""
    return any(entry.spec is not None and entry.spec.bucketed for entry in plan.quantized)


def zero_point_dtype(spec: QuantizerSpec) -> torch.dtype:
    """Return the dtype that holds a zero point of asymmetric codes."""
    if zero_point_bytes(spec) == 1:
        return torch.int8 if spec.signed else torch.uint8
    return torch.int16 if spec.signed else torch.uint16


def layout_of(plan: Plan, *, bucket_ids: int) -> tuple[Part, ...]:
    """Return the parts of a plan's checkpoint without features; `bucket_ids` counts the ids in it."""
    return tuple(_parts(plan, bucket_ids))


def _parts(plan: Plan, bucket_ids: int) -> Iterator[Part]:
    for entry in plan.entries:
        site, spec = entry.site, entry.spec
        if spec is None or spec.is_float:
            if is_parameter(entry):
                yield _float_part(parameter_name(site), site.values, site.shape)
            continue
        names = SiteParts.of(site.name)
        if is_parameter(entry):
            size = packed_nbytes(site.values, spec.widths[0])
            yield Part(names.codes, size, torch.uint8, (size,))
        elif spec.granularity == "node":
            continue
        count = scale_count(site, spec)
        yield _float_part(names.scale, count, (count,))
        if not spec.symmetric:
            yield Part(names.zero_point, count, zero_point_dtype(spec), (count,))
    for parameter in plan.float_parameters:
        yield _float_part(parameter.name, parameter.values, None)
    for buffer in plan.buffers:
        yield Part(buffer.name, buffer.values, getattr(torch, buffer.dtype))
    if has_buckets(plan) and bucket_ids:
        size = packed_nbytes(bucket_ids, bucket_id_bits(plan))
        yield Part(ROOT_BUCKETS, size, torch.uint8, (size,))


def _float_part(name: str, values: int, shape: tuple[int, ...] | None) -> Part:
    return Part(name, values, torch.float32, shape)


def misfits(parts: tuple[Part, ...], tensors: Mapping[str, Tensor]) -> list[str]:
    """Return what is wrong with the tensors of a checkpoint without features, a line a fault."""
    wanted = {part.name: part for part in parts}
    faults = [f'tensor "{name}" is missing' for name in wanted if name not in tensors]
    faults += [f'tensor "{name}" is in no site of the plan' for name in tensors if name not in wanted]
    for name, part in wanted.items():
        tensor = tensors.get(name)
        if tensor is None:
            continue
        if tensor.dtype != part.dtype:
            faults.append(f'tensor "{name}" dtype: expected {part.dtype} (got {tensor.dtype})')
        elif tensor.numel() != part.values or part.shape not in (None, tuple(tensor.shape)):
            size = f"{part.values} values" if part.shape is None else str(list(part.shape))
            faults.append(f'tensor "{name}" shape: expected {size} (got {list(tensor.shape)})')
    return faults


def check_plan(plan: Plan) -> None:
    """Raise PlanError for a plan that contradicts itself, as only a forged file's does."""
    if plan.bucket_edges:
        check_edges(plan.bucket_edges)
    names = [str(entry.site.name) for entry in plan.entries]
    names += [parameter.name for parameter in plan.float_parameters]
    names += [buffer.name for buffer in plan.buffers]
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise PlanError(f'expected one entry a tensor (got several of "{twice}")')
    counts = (plan.workload.nodes, plan.workload.edges, plan.workload.graphs, *plan.workload.bucket_nodes)
    kept = (parameter.values for parameter in plan.float_parameters)
    sizes = (size for buffer in plan.buffers for size in (buffer.values, buffer.value_bytes))
    if min((*counts, *kept, *sizes)) < 0:
        raise PlanError("expected sizes of at least 0 (got a negative one)")
    for buffer in plan.buffers:
        dtype = getattr(torch, buffer.dtype, None)
        if not isinstance(dtype, torch.dtype) or dtype.itemsize != buffer.value_bytes:
            raise PlanError(f'buffer "{buffer.name}": expected a dtype of torch (got "{buffer.dtype[:40]}")')
    for entry in plan.entries:
        _check_entry(entry, plan)


def _check_entry(entry: PlanEntry, plan: Plan) -> None:
    site, spec = entry.site, entry.spec
    if not site.shape or min((*site.shape, *site.channel_shape, site.messages, site.nonzeros or 0)) < 0:
        raise PlanError(f"{site.name}: expected a shape of sizes of at least 0 (got {list(site.shape)[:8]})")
    if is_parameter(entry) and not site.place.slot.startswith(PARAMETER):
        raise PlanError(f'{site.name}: expected the slot of a parameter (got "{site.place.slot}")')
    if spec is None:
        return
    if spec.bucketed and len(spec.widths) != plan.buckets:
        raise PlanError(f"{site.name}: expected {plan.buckets} widths (got {len(spec.widths)})")
    if spec.bucketed and (site.rows != "node" or len(plan.workload.bucket_nodes) != plan.buckets):
        raise PlanError(f"{site.name}: expected rows of nodes with a count a bucket for bits by bucket")
    if spec.granularity != "channel":
        return
    channels = site.channel_shape
    fits = len(channels) == len(site.shape) and all(
        channel in (1, size) for channel, size in zip(channels, site.shape, strict=True)
    )
    if (is_parameter(entry) and not fits) or prod(channels) > max(1, site.values):
        raise PlanError(f"{site.name}: expected channels within its shape (got {list(channels)[:8]})")
