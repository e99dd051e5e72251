"""Ranges with the least squared quantization error, for any number of groups at once."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from quantizers.affine import AffineParameters, affine_parameters, dequantize, quantize
from quantizers.groups import GroupedValues
from quantizers.spec import QuantizerSpec

AT_ONCE = 10
"""How many ranges of each group have their parameters computed together."""


def best_range(
    data: GroupedValues,
    spec: QuantizerSpec,
    *,
    bits: Tensor | int,
    candidates: int,
    sample: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the ranges, [groups] each, that suit a spec's codes best in squared error.

    One-bit symmetric codes use their closed form, all others a search over `candidates` clippings on
    about `sample` of the values (None: all of them). `bits` is one width or one a group.
    """
    binary = spec.symmetric and spec.signed and 1 in spec.widths
    if binary and set(spec.widths) == {1}:
        return closed_form_range(data)
    sampled = data if sample is None else data.sample(sample)
    lower, upper = least_error_range(
        sampled,
        data.range(),
        bits=bits,
        symmetric=spec.symmetric,
        signed=spec.signed,
        candidates=candidates,
    )
    if binary and isinstance(bits, Tensor):
        one_bit_lower, one_bit_upper = closed_form_range(data)
        lower = torch.where(bits == 1, one_bit_lower, lower)
        upper = torch.where(bits == 1, one_bit_upper, upper)
    return lower, upper


def least_error_range(
    data: GroupedValues,
    widest: tuple[Tensor, Tensor],
    *,
    bits: Tensor | int,
    symmetric: bool,
    signed: bool,
    candidates: int,
) -> tuple[Tensor, Tensor]:
    """Return the ranges, [groups] each, whose codes have the least squared error on `data`.

    Tried are `widest` shrunk, at both ends together, by 1, 1 - 1/candidates, … 1/candidates; of equal
    errors the wider range wins. `bits` is one width or one a group.
    """
    best_lower, best_upper = widest
    least_error = torch.full_like(best_lower, torch.inf)
    shares = [step / candidates for step in range(candidates, 0, -1)]
    for first in range(0, candidates, AT_ONCE):
        some = shares[first : first + AT_ONCE]
        lower, upper = (torch.stack([share * end for share in some]) for end in widest)
        parameters = affine_parameters(lower, upper, bits=bits, symmetric=symmetric, signed=signed)
        for place in range(len(some)):
            tried = replace(
                parameters, scale=parameters.scale[place], zero_point=parameters.zero_point[place]
            )
            error = squared_error(data, tried)
            better = error < least_error
            best_lower = torch.where(better, lower[place], best_lower)
            best_upper = torch.where(better, upper[place], best_upper)
            least_error = torch.minimum(error, least_error)
    return best_lower, best_upper


def closed_form_range(data: GroupedValues) -> tuple[Tensor, Tensor]:
    """Return [-s, +s] with s = mean |x| of each group: the best scale of one-bit symmetric codes.

    XNOR-Net (arXiv 1603.05279), section 3.1, equation 6.
    """
    counts = data.value_counts().clamp(min=1)
    scale = data.sums(data.values.abs()) / counts
    return -scale, scale


def squared_error(data: GroupedValues, parameters: AffineParameters) -> Tensor:
    """Return the squared quantization error of each group, [groups], with parameters by group."""
    spread = AffineParameters(
        data.spread(parameters.scale),
        data.spread(parameters.zero_point),
        _spread(data, parameters.quant_min),
        _spread(data, parameters.quant_max),
        None if parameters.float_rows is None else data.spread(parameters.float_rows),
    )
    return data.sums((dequantize(quantize(data.values, spread), spread) - data.values).square_())


def _spread(data: GroupedValues, bound: Tensor | float) -> Tensor | float:
    return data.spread(bound) if isinstance(bound, Tensor) else bound
