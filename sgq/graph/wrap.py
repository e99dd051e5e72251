"""Put a plan's quantizers into a model: class swap of every module that has a site."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from quantizers import Quantizer, QuantizerSpec, create
from sgq.errors import PlanError, nearest_name
from sgq.graph.sites import Site
from sgq.graph.swap import ROOT_BUCKETS, SiteQuantizers, is_swapped, slots_of, swap


@dataclass(frozen=True)
class Assignment:
    """One site and the spec that it gets."""

    site: Site
    spec: QuantizerSpec


def wrap_sites(
    model: nn.Module, assignments: Iterable[Assignment], *, bucket: Tensor | None = None
) -> nn.Module:
    """Return a copy of `model` in which every assigned site passes through a new quantizer.

    `bucket` [nodes] holds the whole graph's bucket ids and becomes a buffer of the result; a mini-batch
    overrides it for one call with `model(..., bucket=ids)`. The quantizers observe until they are frozen.
    """
    if any(is_swapped(module) for module in model.modules()):
        raise PlanError("the model is already quantized: wrap the float model")
    wrapped = copy.deepcopy(model)
    by_module: dict[str, list[Assignment]] = {}
    for assignment in assignments:
        by_module.setdefault(assignment.site.place.module, []).append(assignment)
    by_module.setdefault("", [])
    modules = dict(wrapped.named_modules())
    reference = next(iter(wrapped.parameters()), torch.empty(0))
    for path, here in by_module.items():
        if path not in modules:
            raise PlanError(
                f'the plan names module "{path}", which the model lacks.{nearest_name(path, modules)}'
            )
        quantizers = SiteQuantizers(
            {a.site.place.slot: create(a.spec, channel_shape=a.site.channel_shape) for a in here}
        )
        # In half precision a zero point of more than 8 bits would be rounded, and 0 would not stay 0.
        quantizers.to(reference.device, torch.promote_types(reference.dtype, torch.float32))
        quantizers.train(modules[path].training)
        swap(modules[path], quantizers, root=path == "")
    if bucket is not None:
        wrapped.register_buffer(ROOT_BUCKETS, bucket.to(reference.device))
    return wrapped


def quantizer_at(model: nn.Module, site: Site) -> Quantizer:
    """Return the quantizer of a site in a wrapped model; raise PlanError where it has none."""
    try:
        quantizer = slots_of(model.get_submodule(site.place.module))[site.place.slot]
    except (AttributeError, KeyError):
        raise PlanError(
            f"expected a quantizer for {site.name} in {type(model).__name__} (got none): wrap the model with "
            "the plan that it is used with"
        ) from None
    assert isinstance(quantizer, Quantizer)
    return quantizer


def quantizers_of(model: nn.Module) -> Mapping[str, Quantizer]:
    """Return every quantizer of a wrapped model by its module path."""
    return {path: module for path, module in model.named_modules() if isinstance(module, Quantizer)}
