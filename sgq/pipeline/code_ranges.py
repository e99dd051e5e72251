"""Scales and zero points as a file holds them, and codes of values under them; all exact.

A scale takes 4 bytes. A zero point of asymmetric codes is an integer of their width; that of symmetric ones
is 0 and not held. One-bit symmetric signed codes stand for -s and +s, with zero point 1/2 -- but for a range
of nothing but 0, whose zero point is 0: there the scale is held negative.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from quantizers import FLOAT_BITS
from quantizers.affine import code_bounds
from quantizers.spec import QuantizerSpec
from sgq.errors import CheckpointError
from sgq.pipeline.packed_layout import zero_point_dtype


@dataclass(frozen=True)
class CodeRanges:
    """Scale, zero point (both fp32) and width of each group, [groups] each."""

    scale: Tensor
    zero_point: Tensor
    widths: Tensor


def group_widths(spec: QuantizerSpec, groups: int) -> Tensor:
    """Return the width of each group, [groups]: one a bucket, or the same for all."""
    widths = torch.tensor(spec.widths)
    return widths if spec.granularity == "bucket" else widths[:1].expand(groups)


def to_stored(ranges: CodeRanges, spec: QuantizerSpec, *, owner: str) -> tuple[Tensor, Tensor | None]:
    """Return scale (fp32) and zero point (None for symmetric codes) as a file holds them, [groups] each.

    Raises CheckpointError where they cannot be held exactly.
    """
    scale, zero_point = ranges.scale.detach().cpu().reshape(-1), ranges.zero_point.detach().cpu().reshape(-1)
    stored = scale.float()
    stored_point = None
    if spec.symmetric:
        stored = torch.where(_halved(spec, ranges.widths) & (zero_point == 0), -stored, stored)
    else:
        dtype = zero_point_dtype(spec)
        limits = torch.iinfo(dtype)
        stored_point = zero_point.nan_to_num().clamp(limits.min, limits.max).to(dtype)
    back = from_stored(stored, stored_point, spec, ranges.widths)
    if not (torch.equal(back.scale.to(scale.dtype), scale) and bool(torch.isfinite(scale).all())):
        raise CheckpointError(f"{owner}: expected finite scales that fp32 holds exactly (got {scale.dtype})")
    if not torch.equal(back.zero_point.to(zero_point.dtype), zero_point):
        raise CheckpointError(f"{owner}: expected zero points that are codes of {spec} (got others)")
    return stored, stored_point


def from_stored(scale: Tensor, zero_point: Tensor | None, spec: QuantizerSpec, widths: Tensor) -> CodeRanges:
    """Return what `to_stored` took, as copies."""
    found = scale.float().clone()
    if zero_point is not None:
        return CodeRanges(found, zero_point.float(), widths)
    halved = _halved(spec, widths)
    point = torch.where(halved & (found > 0), 0.5, 0.0)
    return CodeRanges(torch.where(halved, found.abs(), found), point, widths)


def _halved(spec: QuantizerSpec, widths: Tensor) -> Tensor:
    """Return for which groups codes are {-s, +s}, [groups] bool."""
    return (widths == 1) & (spec.symmetric and spec.signed)


def observed_range(ranges: CodeRanges, spec: QuantizerSpec) -> tuple[Tensor, Tensor, Tensor]:
    """Return lower and upper end of each group's values and which are known (not those of 32 bits)."""
    least, greatest = bounds_of(ranges.widths, spec)
    known = (ranges.widths != FLOAT_BITS) & (ranges.scale != 0)
    lower = torch.where(known, (least - ranges.zero_point) * ranges.scale, 0.0)
    upper = torch.where(known, (greatest - ranges.zero_point) * ranges.scale, 0.0)
    return lower, upper, known


def bounds_of(widths: Tensor, spec: QuantizerSpec) -> tuple[Tensor, Tensor]:
    """Return the least and the greatest code of each width, fp32 of the same shape; infinite at 32 bits."""
    least, greatest = torch.empty(widths.shape), torch.empty(widths.shape)
    for width in set(spec.widths):
        here = widths == width
        low, high = code_bounds(width, symmetric=spec.symmetric, signed=spec.signed)
        least, greatest = torch.where(here, low, least), torch.where(here, high, greatest)
    return least, greatest
