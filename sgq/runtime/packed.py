"""Packed tensors: rows of low-bit codes that the integer kernels read as they lie in memory.

Codes are unsigned (a signed code minus the least code of its width) and *planar*: a row of B bytes holds
8 / bits planes, and plane p of byte k is channel `p * B + k`. Unpacking a plane is one shift and one mask
over whole vectors, never an interleave. Widths 1, 2, 4 and 8 are computed as they are; 3 is held as 4, 5 to 7
as 8; wider ones, and the 32 bits of a mix, are rows of fp32 values.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate
from typing import Literal

import torch
from torch import Tensor

from quantizers.spec import FLOAT_BITS

VECTOR = 8
"""Lanes of the kernels' vectors; a row has a multiple of so many bytes, a head of so many channels."""
BYTE_BITS = 8

Sharing = Literal["segment", "row", "channel"]
"""What shares a scale and a zero point."""


def held_bits(bits: int) -> int:
    """Return the width that codes of `bits` are held and computed at: 1, 2, 4, 8, or 32 (values in fp32)."""
    return next((width for width in (1, 2, 4, 8) if bits <= width), FLOAT_BITS)


@dataclass(frozen=True)
class Segment:
    """Consecutive rows of one width: their number, held bits, bytes a row, and where they begin."""

    rows: int
    bits: int
    row_bytes: int
    first_row: int
    first_byte: int


@dataclass(frozen=True)
class Layout:
    """How [rows, heads, channels] lie in memory.

    `segments` follow one another: a single one, or one a degree bucket where the nodes are numbered by
    bucket. Each head takes `head_channels` channels, a multiple of 8 where there are several heads. `table`
    are the segments as kernels read them, int64 [segments, 5], in the order of their fields.
    """

    rows: int
    channels: int
    heads: int
    segments: tuple[Segment, ...]
    table: Tensor = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Lay the segments out once: kernels hold the table's address as long as they hold the layout."""
        fields = [(s.rows, s.bits, s.row_bytes, s.first_row, s.first_byte) for s in self.segments]
        object.__setattr__(self, "table", torch.tensor(fields, dtype=torch.int64).view(-1, 5))

    @property
    def head_channels(self) -> int:
        """Channels that a head takes, padding included."""
        return self.channels if self.heads == 1 else -(-self.channels // VECTOR) * VECTOR

    @property
    def width(self) -> int:
        """Channels of a row over all heads, with the padding of heads, without that of bytes."""
        return self.heads * self.head_channels

    @property
    def nbytes(self) -> int:
        """Bytes of all codes."""
        return sum(segment.rows * segment.row_bytes for segment in self.segments)


def row_bytes(width: int, bits: int) -> int:
    """Return the bytes of a row of `width` channels at held `bits`: a multiple of 8."""
    planes = 1 if bits == FLOAT_BITS else BYTE_BITS // bits
    lanes = -(-width // (planes * VECTOR)) * VECTOR
    return lanes * (4 if bits == FLOAT_BITS else 1)


@lru_cache(maxsize=256)
def layout_of(rows: tuple[int, ...], channels: int, bits: tuple[int, ...], *, heads: int = 1) -> Layout:
    """Return the layout of segments of so many rows, each at its own width in `bits`."""
    total = sum(rows)
    width = Layout(total, channels, heads, ()).width
    held = [held_bits(one) for one in bits]
    sizes = [row_bytes(width, one) for one in held]
    first_rows = accumulate(rows, initial=0)
    first_bytes = accumulate((n * size for n, size in zip(rows, sizes, strict=True)), initial=0)
    fields = zip(rows, held, sizes, first_rows, first_bytes, strict=False)
    return Layout(total, channels, heads, tuple(Segment(*one) for one in fields))


@dataclass(frozen=True)
class PackedTensor:
    """Codes [bytes] uint8 in a layout, and the numbers that make them values.

    `parameters` are (scale, zero point) pairs, fp32, zero points counted from code 0: [segments, 2] where
    a segment shares them, [rows, 2], or [width, 2] a channel; `per` says which. A value is (code − zero
    point) · scale; rows held at 32 bits are values.
    """

    codes: Tensor
    parameters: Tensor
    per: Sharing
    layout: Layout

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the tensor that it stands for: [rows, channels] or [rows, heads, channels]."""
        layout = self.layout
        if layout.heads == 1:
            return (layout.rows, layout.channels)
        return (layout.rows, layout.heads, layout.channels)

    @property
    def device(self) -> torch.device:
        """Where the codes are."""
        return self.codes.device

    def tensors(self) -> Iterator[Tensor]:
        """Yield what it holds in memory."""
        yield self.codes
        yield self.parameters

    @property
    def nbytes(self) -> int:
        """Bytes in memory, padding and parameters included."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors())

    def values(self) -> Tensor:
        """Return the tensor that it stands for, fp32."""
        stored = unpacked(self)
        pairs = self.parameters
        if self.per == "channel":
            scale, zero_point = pairs[:, 0], pairs[:, 1]
        else:
            if self.per == "segment":
                counts = torch.tensor([s.rows for s in self.layout.segments], device=pairs.device)
                pairs = pairs.repeat_interleave(counts, dim=0)
            scale, zero_point = pairs[:, :1], pairs[:, 1:]
        dense = (stored - zero_point) * scale
        for segment in self.layout.segments:
            if segment.bits == FLOAT_BITS:
                here = slice(segment.first_row, segment.first_row + segment.rows)
                dense[here] = stored[here]
        return self._shaped(dense)

    def code_values(self) -> Tensor:
        """Return the codes (values in rows of 32 bits) as fp32, in the same shape."""
        return self._shaped(unpacked(self))

    def _shaped(self, stored: Tensor) -> Tensor:
        layout = self.layout
        if layout.heads > 1:
            stored = stored.view(layout.rows, layout.heads, layout.head_channels)[..., : layout.channels]
        return stored.contiguous()


def unpacked(packed: PackedTensor) -> Tensor:
    """Return codes (or fp32 values) as fp32 [rows, width], the padding of heads included."""
    layout = packed.layout
    parts = []
    for segment in layout.segments:
        size = segment.rows * segment.row_bytes
        block = packed.codes[segment.first_byte : segment.first_byte + size]
        block = block.view(segment.rows, segment.row_bytes)
        if segment.bits == FLOAT_BITS:
            parts.append(block.view(torch.float32)[:, : layout.width])
            continue
        mask = (1 << segment.bits) - 1
        planes = [(block >> shift) & mask for shift in range(0, BYTE_BITS, segment.bits)]
        parts.append(torch.cat(planes, dim=1)[:, : layout.width].float())
    return torch.cat(parts) if len(parts) != 1 else parts[0].clone()


def pack_rows(stored: Tensor, layout: Layout) -> Tensor:
    """Return the bytes of codes (or fp32 values) [rows, width]; `unpacked` is the inverse."""
    parts = []
    for segment in layout.segments:
        rows = stored[segment.first_row : segment.first_row + segment.rows]
        lanes = segment.row_bytes // (4 if segment.bits == FLOAT_BITS else 1)
        if segment.bits == FLOAT_BITS:
            padded = torch.nn.functional.pad(rows.float(), (0, lanes - layout.width))
            fresh = padded.contiguous() if lanes != layout.width else padded.clone()
            parts.append(fresh.view(torch.uint8).reshape(-1))
            continue
        planes = BYTE_BITS // segment.bits
        padded = torch.nn.functional.pad(rows, (0, planes * lanes - layout.width))
        joined = torch.zeros(segment.rows, lanes, dtype=torch.uint8, device=stored.device)
        for plane in range(planes):
            codes = padded[:, plane * lanes : (plane + 1) * lanes].to(torch.uint8)
            joined |= codes << (plane * segment.bits)
        parts.append(joined.reshape(-1))
    if len(parts) == 1:
        return parts[0]
    return torch.cat(parts) if parts else torch.empty(0, dtype=torch.uint8, device=stored.device)


def with_head_padding(values: Tensor, layout: Layout) -> Tensor:
    """Return [rows, width] of values [rows, channels] or [rows, heads, channels]; padding is 0."""
    if layout.heads == 1:
        return values.reshape(layout.rows, layout.channels)
    padding = layout.head_channels - layout.channels
    spread = values.reshape(layout.rows, layout.heads, layout.channels)
    return torch.nn.functional.pad(spread, (0, padding)).reshape(layout.rows, layout.width)
