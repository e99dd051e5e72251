"""How far quantization moves the tensors of a model: relative error, clipped share and limits by site."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from quantizers import Quantizer
from sgq.graph.wrap import quantizer_at
from sgq.pipeline.evaluation import evaluating
from sgq.pipeline.tasks import Task
from sgq.recipe.plan import Plan

KEPT_VALUES = 2**18
"""At most so many values of a site are kept for its histogram, evenly spaced."""


@dataclass(frozen=True, eq=False)
class SiteError:
    """What quantization does to one site on sample data.

    `error` is the L2 norm of the difference over that of the tensor that enters the quantizer,
    `clip_share` the share (0 to 1) of its values outside the range. `values` is an even sample of them;
    `lower` and `upper` are the clip limits, with several scales the widest.
    """

    site: str
    error: float
    clip_share: float
    values: Tensor
    lower: float
    upper: float


def site_errors(model: nn.Module, plan: Plan, task: Task) -> tuple[SiteError, ...]:
    """Return the error of every quantized site, in the plan's order, from one forward over the sample.

    `model` is wrapped, calibrated and frozen; it runs eagerly in eval mode and is left as it was. `task`
    gets the plan's bucket ids here. A site that the sample does not reach is left out.
    """
    if plan.bucket_edges:
        task = task.with_buckets(plan.bucket_edges)
    tallies = {str(entry.site.name): _Tally() for entry in plan.quantized}
    with ExitStack() as stack:
        for entry in plan.quantized:
            hook = _recorder(tallies[str(entry.site.name)])
            handle = quantizer_at(model, entry.site).register_forward_hook(hook)
            stack.callback(handle.remove)
        stack.enter_context(evaluating(model))
        task.forward(model, task.sample())
    return tuple(tally.result(site) for site, tally in tallies.items() if tally.count)


class _Tally:
    """Sums over all calls of one quantizer; the values and limits are of the first call."""

    def __init__(self) -> None:
        self.count = self.clipped = 0
        self.squared_error = self.squared_value = 0.0
        self.values = torch.empty(0)
        self.limits = (0.0, 0.0)

    def add(self, quantizer: Quantizer, x: Tensor, bucket: Tensor | None, quantized: Tensor) -> None:
        parameters = quantizer.parameters_of(x, bucket)
        before, after = (_stored_values(tensor).double() for tensor in (x, quantized))
        codes = torch.round(before / parameters.scale + parameters.zero_point)
        outside = (codes < parameters.quant_min) | (codes > parameters.quant_max)
        if self.count == 0:
            flat = before.flatten()
            self.values = flat[:: -(-flat.numel() // KEPT_VALUES)].float().cpu()
            self.limits = (
                _limit(parameters.quant_min, parameters.zero_point, parameters.scale, least=True),
                _limit(parameters.quant_max, parameters.zero_point, parameters.scale, least=False),
            )
        self.count += before.numel()
        self.clipped += int(outside.sum())
        self.squared_error += float((after - before).square().sum())
        self.squared_value += float(before.square().sum())

    def result(self, site: str) -> SiteError:
        error = (self.squared_error / self.squared_value) ** 0.5 if self.squared_value else 0.0
        return SiteError(site, error, self.clipped / self.count, self.values, *self.limits)


def _recorder(tally: _Tally) -> Callable[..., None]:
    def record(quantizer: Quantizer, arguments: tuple[Any, ...], quantized: Tensor) -> None:
        x, bucket = arguments[0], arguments[1] if len(arguments) > 1 else None
        if x.numel():
            tally.add(quantizer, x, bucket, quantized)

    return record


def _stored_values(tensor: Tensor) -> Tensor:
    return tensor.values() if tensor.layout is torch.sparse_csr else tensor


def _limit(code: Tensor | float, zero_point: Tensor, scale: Tensor, *, least: bool) -> float:
    """Return the widest finite value that a bound of the codes stands for."""
    values = ((code - zero_point) * scale).flatten()
    finite = values[torch.isfinite(values)]
    return float(finite.min() if least else finite.max()) if finite.numel() else 0.0
