"""Affine quantization as plain tensor arithmetic: codes = clamp(round(x / scale + zero_point)).

Quantization with integer zero points as in Jacob et al., "Quantization and Training of Neural Networks
for Efficient Integer-Arithmetic-Only Inference" (arXiv 1712.05877), section 2.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from quantizers.errors import QuantizerError
from quantizers.spec import FLOAT_BITS, MAX_BITS


@dataclass(frozen=True)
class AffineParameters:
    """Everything that maps values to codes and back; each field broadcasts to the values.

    `float_rows` is a mask of what stays in float, bit by bit (32 bits in a mix of widths), or None when
    nothing does.
    """

    scale: Tensor
    zero_point: Tensor
    quant_min: Tensor | float
    quant_max: Tensor | float
    float_rows: Tensor | None = None


def code_bounds(bits: int, *, symmetric: bool, signed: bool) -> tuple[float, float]:
    """Return the least and the greatest code of a width; infinite at 32 bits."""
    if bits == FLOAT_BITS:
        return -torch.inf, torch.inf
    if symmetric and signed:
        return (0.0, 1.0) if bits == 1 else (1.0 - 2 ** (bits - 1), 2 ** (bits - 1) - 1.0)
    least = -(2.0 ** (bits - 1)) if signed and not symmetric else 0.0
    return least, least + 2**bits - 1.0


def affine_parameters(
    lower: Tensor, upper: Tensor, *, bits: Tensor | int, symmetric: bool, signed: bool
) -> AffineParameters:
    """Return scale, zero point and code bounds for ranges of any shape, widened to include 0.

    `bits` is 1 to 16, or an integer tensor of widths (32 marks what stays in float) that broadcasts with
    the ranges. A range of nothing but 0 gets scale 1. Zero points are integers, so that 0 stays exactly
    0, with one exception: one-bit symmetric signed codes {0, 1} stand for {-s, +s}, with scale 2s and
    zero point 0.5.
    """
    lower, upper = lower.clamp(max=0.0), upper.clamp(min=0.0)
    least: Tensor | float
    greatest: Tensor | float
    float_rows = None
    if isinstance(bits, int):
        if not 1 <= bits <= MAX_BITS:
            raise QuantizerError(f"expected bits in 1 to {MAX_BITS} (got {bits})")
        least, greatest = code_bounds(bits, symmetric=symmetric, signed=signed)
        one_bit = torch.full_like(lower, bits == 1, dtype=torch.bool)
    else:
        bits = bits.long()
        float_rows = bits == FLOAT_BITS
        one_bit = bits == 1
        least, greatest = _code_bound_tensors(bits, lower.dtype, symmetric=symmetric, signed=signed)
    if symmetric:
        largest = torch.maximum(-lower, upper) if signed else upper
        offset = one_bit.to(lower.dtype) * 0.5 if signed else torch.zeros_like(lower)
        scale = largest / (greatest - offset)
    else:
        offset = torch.zeros_like(lower)
        scale = (upper - lower) / (greatest - least)
    usable = scale >= torch.finfo(scale.dtype).tiny
    if float_rows is not None:
        usable = usable & ~float_rows
    scale = torch.where(usable, scale, 1.0)
    if symmetric:
        zero_point = torch.where(usable, offset, 0.0)
    else:
        rounded = torch.round(-lower / scale) + least
        zero_point = torch.clamp(rounded, _tensor(least, rounded), _tensor(greatest, rounded))
    if float_rows is not None:
        zero_point = torch.where(float_rows, 0.0, zero_point)
        least = torch.where(float_rows, -torch.inf, cast(Tensor, least))
        greatest = torch.where(float_rows, torch.inf, cast(Tensor, greatest))
    return AffineParameters(scale, zero_point, least, greatest, float_rows)


def quantize(x: Tensor, parameters: AffineParameters) -> Tensor:
    """Return integer codes as a float tensor of x's dtype (float32 for half precision)."""
    wide = widened(x)
    codes = _clamped(_rounded(wide, parameters), parameters)
    return codes if parameters.float_rows is None else torch.where(parameters.float_rows, wide, codes)


def dequantize(codes: Tensor, parameters: AffineParameters) -> Tensor:
    """Return the values that codes stand for."""
    return (codes - parameters.zero_point) * parameters.scale


def fake_quantize(x: Tensor, parameters: AffineParameters) -> Tensor:
    """Return x rounded to the values that its codes stand for, with a straight-through gradient.

    The gradient is 1 where the code is inside its bounds and 0 where it was clipped (Bengio et al.,
    arXiv 1308.3432). Eager, compiled and gradient-free calls give the same values.
    """
    if working_dtype(x) is not x.dtype:
        return fake_quantize(widened(x), parameters).to(x.dtype)
    if not (x.requires_grad and torch.is_grad_enabled()):
        value = _clamped(_rounded(x, parameters), parameters)
        value = value.sub_(parameters.zero_point).mul_(parameters.scale)
    elif torch.compiler.is_compiling():
        rounded = torch.round(x / parameters.scale + parameters.zero_point)
        codes = _clamped(rounded, parameters)
        passing = torch.where(rounded == codes, x, 0.0)
        value = (passing - passing.detach()) + dequantize(codes, parameters).detach()
    else:
        value = cast(Tensor, _StraightThrough.apply(x, parameters))  # type: ignore[no-untyped-call]
    return value if parameters.float_rows is None else torch.where(parameters.float_rows, x, value)


class _StraightThrough(torch.autograd.Function):
    """Fake-quantize in seven vectorised passes, five of them in place.

    The mask is kept in x's dtype: on CPU, comparing into and multiplying by bool tensors is not
    vectorised and costs more than all other passes together.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, parameters: AffineParameters) -> Tensor:
        rounded = _rounded(x, parameters)
        codes = _clamped(rounded, parameters, keep=True)
        ctx.save_for_backward(rounded.eq_(codes))
        return codes.sub_(parameters.zero_point).mul_(parameters.scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (mask,) = ctx.saved_tensors
        return gradients[0] * mask, None


def _rounded(x: Tensor, parameters: AffineParameters) -> Tensor:
    return (x / parameters.scale).add_(parameters.zero_point).round_()


def _clamped(rounded: Tensor, parameters: AffineParameters, *, keep: bool = False) -> Tensor:
    """Clamp to the code bounds, in place unless `rounded` is still needed or the graph is traced."""
    least, greatest = parameters.quant_min, parameters.quant_max
    if isinstance(least, Tensor) or isinstance(greatest, Tensor):
        # torch.clamp with tensor bounds is not vectorised over rows; maximum and minimum are.
        codes = torch.maximum(rounded, _tensor(least, rounded))
        return codes.clamp_max_(_tensor(greatest, rounded))
    if keep or torch.compiler.is_compiling():
        return torch.clamp(rounded, least, greatest)
    return rounded.clamp_(least, greatest)


def _code_bound_tensors(
    bits: Tensor, dtype: torch.dtype, *, symmetric: bool, signed: bool
) -> tuple[Tensor, Tensor]:
    half = torch.bitwise_left_shift(torch.ones_like(bits), bits - 1).to(dtype)
    if symmetric and signed:
        one_bit = bits == 1
        return torch.where(one_bit, 0.0, 1.0 - half), torch.where(one_bit, 1.0, half - 1.0)
    least = -half if signed and not symmetric else torch.zeros_like(half)
    return least, least + (2.0 * half - 1.0)


def _tensor(bound: Tensor | float, like: Tensor) -> Tensor:
    return bound if isinstance(bound, Tensor) else torch.full((), bound, dtype=like.dtype, device=like.device)


def widened(x: Tensor) -> Tensor:
    """Return x in the dtype that codes are computed in: float32 for half precision, else x itself."""
    return x.to(working_dtype(x))


def working_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype that x's codes are computed in: float32 for half precision, else x's own."""
    return torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else x.dtype
