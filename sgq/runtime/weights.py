"""Weights as the kernels read them: whole numbers, laid out for the product that they take part in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sgq.errors import ModelError
from sgq.runtime.packed import BYTE_BITS, PackedTensor, layout_of, pack_rows

TILE_COLUMNS = 16
"""Columns of a register block of the packed product."""
TABLE_COLUMNS = 64
"""Columns of a table of partial sums."""
NIBBLE = 4
WORD_BITS = 32
"""Bits that are looked up together: rows of bits are whole words."""
LARGEST_CODE = 255
LARGEST_SUM = 2**15 - 1
LARGEST_PRODUCT_SUM = 2**31 - 1

Form = Literal["tiles", "tables", "rows", "float"]


@dataclass(frozen=True)
class IntegerWeight:
    """A weight [inputs, outputs] as whole numbers times a scale an output, in one of four forms.

    "tiles" int16 [tiles, pairs of inputs, 16, 2] for packed rows; "tables" int16 [tiles, half bytes, 16, 64],
    the sums of every four inputs, for rows of bits; "rows" packed rows of 4 or 8 bits for sparse features;
    "float" fp32 [tiles, inputs, 16], with the scale in it, for what integers cannot hold. `largest` bounds
    the whole numbers.
    """

    form: Form
    data: Tensor
    scale: Tensor
    inputs: int
    outputs: int
    largest: int
    packed: PackedTensor | None = None

    def tensors(self) -> Iterator[Tensor]:
        """Yield what it holds in memory."""
        if self.packed is None:
            yield self.data
        else:
            yield from self.packed.tensors()
        yield self.scale

    def values(self) -> Tensor:
        """Return the weight in fp32, [inputs, outputs]."""
        return self.integers() * self.scale

    def integers(self) -> Tensor:
        """Return the whole numbers as fp32 [inputs, outputs] (the values themselves in form "float")."""
        if self.form == "float":
            return self.data.permute(1, 0, 2).reshape(self.inputs, -1)[:, : self.outputs]
        if self.packed is not None:
            pairs = self.packed.parameters
            zero_point = pairs[:, 1] if self.packed.per == "channel" else pairs[0, 1]
            return self.packed.code_values() - zero_point
        if self.form == "tiles":
            spread = self.data.permute(1, 3, 0, 2).reshape(-1, self.data.size(0) * TILE_COLUMNS)
        else:
            powers = self.data[:, :, [1, 2, 4, 8]]
            spread = powers.permute(1, 2, 0, 3).reshape(-1, self.data.size(0) * TABLE_COLUMNS)
        return spread[: self.inputs, : self.outputs].float()


def tiled(integers: Tensor, scale: Tensor) -> IntegerWeight:
    """Return whole numbers [inputs, outputs] in the form for packed rows.

    Raise ModelError where sums of products with 8-bit codes might not fit in 32 bits.
    """
    inputs, outputs = integers.shape
    largest = int(integers.abs().max()) if integers.numel() else 0
    if largest * LARGEST_CODE * inputs > LARGEST_PRODUCT_SUM:
        raise ModelError(f"expected narrower weights or fewer inputs (got {largest} times {inputs} inputs)")
    tiles, pairs = -(-outputs // TILE_COLUMNS), -(-inputs // 2)
    padded = torch.nn.functional.pad(integers, (0, tiles * TILE_COLUMNS - outputs, 0, 2 * pairs - inputs))
    data = padded.view(pairs, 2, tiles, TILE_COLUMNS).permute(2, 0, 3, 1).to(torch.int16).contiguous()
    return IntegerWeight("tiles", data, scale, inputs, outputs, largest)


def tabled(integers: Tensor, scale: Tensor) -> IntegerWeight:
    """Return whole numbers [inputs, outputs] as sums of every four inputs, for rows of bits.

    Raise ModelError where the sums of a word of bits might not fit in 16 bits.
    """
    inputs, outputs = integers.shape
    largest = int(integers.abs().max()) if integers.numel() else 0
    if largest * WORD_BITS > LARGEST_SUM:
        raise ModelError(f"expected weights of at most {LARGEST_SUM // WORD_BITS} (got {largest})")
    tiles, bits = -(-outputs // TABLE_COLUMNS), -(-inputs // WORD_BITS) * WORD_BITS
    padded = torch.nn.functional.pad(integers, (0, tiles * TABLE_COLUMNS - outputs, 0, bits - inputs))
    quads = padded.view(bits // NIBBLE, NIBBLE, tiles, TABLE_COLUMNS).float()
    chosen = torch.arange(16, device=integers.device).unsqueeze(1) >> torch.arange(
        NIBBLE, device=integers.device
    )
    sums = torch.einsum("ek,gktc->tgec", (chosen & 1).float(), quads)
    return IntegerWeight("tables", sums.to(torch.int16).contiguous(), scale, inputs, outputs, largest)


def as_rows(integers: Tensor, scale: Tensor) -> IntegerWeight:
    """Return whole numbers [inputs, outputs], a range of at most 255 each, as rows for sparse features.

    They are held at 4 bits where their range is at most 15, else at 8.
    """
    inputs, outputs = integers.shape
    least = integers.amin(0)
    zero_point = -least.float()
    same = bool((zero_point == zero_point.amax()).all()) or int(integers.max()) + int(zero_point.max()) <= 255
    if same:
        shift = zero_point.amax()
        pairs = torch.stack([torch.ones_like(shift), shift]).view(1, 2)
        codes = integers + shift
    else:
        pairs = torch.stack([torch.ones_like(zero_point), zero_point], dim=1)
        codes = integers + zero_point
    layout = layout_of((inputs,), outputs, (NIBBLE if int(codes.max()) < 2**NIBBLE else BYTE_BITS,))
    packed = PackedTensor(
        pack_rows(codes, layout), pairs.contiguous(), "segment" if same else "channel", layout
    )
    return IntegerWeight(
        "rows", packed.codes, scale, inputs, outputs, int(integers.abs().max()), packed=packed
    )


def in_float(values: Tensor) -> IntegerWeight:
    """Return a weight [inputs, outputs] in fp32."""
    inputs, outputs = values.shape
    padded = torch.nn.functional.pad(values.float(), (0, -outputs % TILE_COLUMNS))
    data = padded.view(inputs, -1, TILE_COLUMNS).permute(1, 0, 2).contiguous()
    return IntegerWeight("float", data, data.new_ones(1), inputs, outputs, 0)


def table_chunk(weight: IntegerWeight) -> int:
    """Return how many bytes of a row of bits may be summed in 16 bits without overflow."""
    return max(1, LARGEST_SUM // (8 * max(weight.largest, 1)))


def padded_outputs(weight: IntegerWeight) -> int:
    """Return the channels that a row of sums needs in tiles or tables, padding included."""
    columns = TABLE_COLUMNS if weight.form == "tables" else TILE_COLUMNS
    return weight.data.size(0) * columns
