"""The rule by which an integer kernel turns fp32 results into codes, read off a calibrated quantizer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import isinf

import torch
from torch import Tensor

from quantizers import Quantizer, code_bounds
from quantizers.affine import AffineParameters, affine_parameters, quantize
from quantizers.clipping import best_range
from quantizers.groups import GroupedValues
from quantizers.row_fake_quantize import ROW_CANDIDATES
from quantizers.spec import FLOAT_BITS, QuantizerSpec
from sgq.runtime.packed import (
    VECTOR,
    Layout,
    PackedTensor,
    Sharing,
    layout_of,
    pack_rows,
    with_head_padding,
)


@dataclass(frozen=True)
class Quantization:
    """How rows become codes: a calibrated quantizer without its module.

    `parameters` are what `PackedTensor` keeps, [segments, 2] or [width, 2]; None where each row has a range
    of its own (granularity `node`).
    """

    spec: QuantizerSpec
    parameters: Tensor | None

    @property
    def per(self) -> Sharing:
        """Which rows or channels share parameters, as `PackedTensor` says it."""
        sharing: dict[str, Sharing] = {"node": "row", "channel": "channel"}
        return sharing.get(self.spec.granularity, "segment")

    @property
    def clips_rows(self) -> bool:
        """Whether the range of each row is searched for, rather than its minimum and maximum."""
        return self.spec.granularity == "node" and self.spec.observer.kind == "mse"

    @cached_property
    def range_table(self) -> Tensor:
        """Least code, levels, whether in float, symmetric, signed, scale and zero point of each width."""
        least, levels = code_ranges(self.spec)
        table = torch.zeros(len(self.spec.widths), 7)
        table[:, 0], table[:, 1] = torch.tensor(least), torch.tensor(levels)
        table[:, 2] = torch.tensor([float(bits == FLOAT_BITS) for bits in self.spec.widths])
        table[:, 3], table[:, 4] = float(self.spec.symmetric), float(self.spec.signed)
        if self.parameters is not None and self.per == "segment":
            table[:, 5:] = self.parameters.cpu()
        return table

    def stored_parameters(self, layout: Layout) -> Tensor | None:
        """Return what a packed result keeps: the parameters, (1, 0) where it holds values; None by row."""
        if self.parameters is None or all(segment.bits != FLOAT_BITS for segment in layout.segments):
            return self.parameters
        neutral = self.parameters.new_tensor([1.0, 0.0])
        if self.per == "channel":
            return neutral.expand_as(self.parameters).contiguous()
        held = torch.tensor([segment.bits == FLOAT_BITS for segment in layout.segments])
        return torch.where(held.to(neutral.device).unsqueeze(1), neutral, self.parameters)

    def layout(self, rows: tuple[int, ...], channels: int, *, heads: int = 1) -> Layout:
        """Return the layout of results whose segments have so many rows; one segment where widths are one."""
        if not self.spec.bucketed:
            rows = (sum(rows),)
        return layout_of(rows, channels, self.spec.widths, heads=heads)


def quantization_of(quantizer: Quantizer, *, heads: int = 1, channels: int | None = None) -> Quantization:
    """Return the rule of a calibrated quantizer.

    A quantizer by channel needs the shape that its rows have, [heads, channels], to pad its scales.
    """
    spec = quantizer.spec
    if spec.granularity == "node":
        return Quantization(spec, None)
    scale = quantizer.get_buffer("scale").detach().float().reshape(-1)
    zero_point = quantizer.get_buffer("zero_point").detach().float().reshape(-1)
    least = scale.new_tensor(code_ranges(spec)[0])
    pairs = torch.stack([scale, zero_point - least], dim=1)
    if spec.granularity == "channel" and heads > 1:
        head_channels = -(-(channels or 1) // VECTOR) * VECTOR
        spread = pairs.view(heads, -1, 2)
        ones = pairs.new_tensor([1.0, 0.0]).expand(heads, head_channels - spread.size(1), 2)
        pairs = torch.cat([spread, ones], dim=1).reshape(-1, 2)
    return Quantization(spec, pairs.contiguous())


def code_ranges(spec: QuantizerSpec) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the least code of each width, and how many codes there are above it; 0 and 0 at 32 bits."""
    bounds = [code_bounds(bits, symmetric=spec.symmetric, signed=spec.signed) for bits in spec.widths]
    finite = [(0.0, 0.0) if isinf(least) else (least, most) for least, most in bounds]
    return tuple(least for least, _ in finite), tuple(most - least for least, most in finite)


def row_parameters(values: Tensor, quantization: Quantization, rows: tuple[int, ...]) -> AffineParameters:
    """Return the parameters of each row of values [rows, columns], read off the row itself, [rows, 1] each.

    `rows` counts the rows of each segment.
    """
    spec = quantization.spec
    grouped = GroupedValues(values, values.size(0))
    bits: Tensor | int = spec.widths[0]
    if spec.is_float:
        bits = torch.full((values.size(0),), FLOAT_BITS, device=values.device)
    elif spec.bucketed:
        counts = torch.tensor(rows, device=values.device)
        bits = torch.tensor(spec.widths, device=values.device).repeat_interleave(counts)
    if quantization.clips_rows:
        lower, upper = best_range(grouped, spec, bits=bits, candidates=ROW_CANDIDATES)
    else:
        lower, upper = grouped.range()
    found = affine_parameters(lower, upper, bits=bits, symmetric=spec.symmetric, signed=spec.signed)

    def column(numbers: Tensor | float) -> Tensor | float:
        return numbers.unsqueeze(1) if isinstance(numbers, Tensor) else numbers

    return AffineParameters(
        found.scale.unsqueeze(1),
        found.zero_point.unsqueeze(1),
        column(found.quant_min),
        column(found.quant_max),
        None if found.float_rows is None else found.float_rows.unsqueeze(1),
    )


def quantized(values: Tensor, quantization: Quantization, rows: tuple[int, ...]) -> PackedTensor:
    """Return values [rows, channels] or [rows, heads, channels] as a packed tensor, by torch operations.

    The codes are those of the quantizer that the rule was read off. `rows` counts the rows of each
    segment; their sum is the number of rows.
    """
    spec = quantization.spec
    heads, channels = (values.size(1), values.size(2)) if values.dim() == 3 else (1, values.size(1))
    layout = quantization.layout(rows, channels, heads=heads)
    flat = with_head_padding(values.float(), layout)
    least, levels = (flat.new_tensor(numbers) for numbers in code_ranges(spec))
    wide = flat.new_tensor(spec.widths) == FLOAT_BITS
    exact = flat.new_tensor([segment.bits for segment in layout.segments]) == FLOAT_BITS
    counts = torch.tensor([segment.rows for segment in layout.segments], device=flat.device)

    def by_row(numbers: Tensor) -> Tensor:
        return numbers.repeat_interleave(counts).unsqueeze(1)

    if quantization.parameters is None:
        rows_of_values = values.flatten(1).float()
        if values.size(1) == 0:
            rows_of_values = flat.new_zeros(values.size(0), 1)
        found = row_parameters(rows_of_values, quantization, rows)
        scale, zero_point = found.scale, found.zero_point - by_row(least)
        parameters = torch.cat([scale, zero_point], dim=1)
    else:
        parameters = quantization.parameters.to(flat.device)
        if quantization.per == "channel":
            scale, zero_point = parameters[:, 0], parameters[:, 1]
        else:
            scale, zero_point = by_row(parameters[:, 0]), by_row(parameters[:, 1])
    offset = by_row(least)
    bounds = AffineParameters(scale, zero_point + offset, offset, offset + by_row(levels))
    # Rounded with the quantizer's own zero point: an odd shift would round ties the other way.
    codes = quantize(flat, bounds) - offset
    held = torch.where(by_row(exact) > 0, (codes - zero_point) * scale, codes)
    held = torch.where(by_row(wide) > 0, flat, held)
    kept = quantization.stored_parameters(layout)
    if kept is None:
        kept = torch.where(by_row(exact) > 0, parameters.new_tensor([1.0, 0.0]), parameters)
    kept = kept.to(flat.device).contiguous()
    return PackedTensor(pack_rows(held, layout), kept, quantization.per, layout)
