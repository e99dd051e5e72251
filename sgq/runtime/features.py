"""Quantized input features that are mostly zero, or of one level: what the first product reads.

Zeros are exact in affine codes, so only non-zeros count: their codes, or their places alone where all of a
row's are one level, as bits where that is smaller than as indices.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sgq.errors import ModelError
from sgq.runtime.csr import COLUMN_PADDING

SHORT_INDEX = 2**16
WORD_BYTES = 4
"""Rows of bits are whole 32-bit words."""


@dataclass(frozen=True)
class SparseFeatures:
    """Features [rows, channels] at their non-zeros: form "sparse" with codes, "pattern" without.

    `pointers` [rows + 1] int32, `columns` [non-zeros + 64] int16 (read as unsigned) or int32, `codes`
    [non-zeros] uint8 or one code for all. A value is (code − zero point) · scale with its row's `parameters`
    [rows, 2], or those of all rows [1, 2].
    """

    pointers: Tensor
    columns: Tensor
    codes: Tensor
    parameters: Tensor
    rows: int
    channels: int

    @property
    def form(self) -> str:
        """The name of the form."""
        return "pattern" if self.codes.numel() == 1 and self.nonzeros != 1 else "sparse"

    @property
    def nonzeros(self) -> int:
        """How many values are kept."""
        return self.columns.numel() - COLUMN_PADDING

    def tensors(self) -> Iterator[Tensor]:
        """Yield what it holds in memory."""
        yield from (self.pointers, self.columns, self.codes, self.parameters)

    def values(self) -> Tensor:
        """Return the features in fp32, dense [rows, channels]."""
        counts = self.pointers.long().diff()
        row = torch.repeat_interleave(torch.arange(self.rows, device=counts.device), counts)
        columns = self.columns[: self.nonzeros].long()
        if self.columns.dtype == torch.int16:
            columns = columns & (SHORT_INDEX - 1)
        codes = self.codes.float().expand(self.nonzeros) if self.codes.numel() == 1 else self.codes.float()
        pairs = self.parameters.expand(self.rows, 2)[row]
        dense = torch.zeros(self.rows, self.channels, device=counts.device)
        # Added, as a matrix product would: a place that stands twice counts twice.
        return dense.index_put((row, columns), (codes - pairs[:, 1]) * pairs[:, 0], accumulate=True)


@dataclass(frozen=True)
class BitFeatures:
    """Features [rows, channels] of one level a row: `bits` [rows, bytes] uint8, `levels` [rows] fp32.

    A row's bytes are whole 32-bit words.
    """

    bits: Tensor
    levels: Tensor
    rows: int
    channels: int

    def __post_init__(self) -> None:
        """Raise ModelError where rows are not whole words, which kernels read."""
        words = -(-self.channels // (8 * WORD_BYTES))
        if tuple(self.bits.shape) != (self.rows, words * WORD_BYTES):
            raise ModelError(
                f"expected bits of shape {(self.rows, words * WORD_BYTES)} (got {tuple(self.bits.shape)})"
            )

    @property
    def form(self) -> str:
        """The name of the form."""
        return "bits"

    def tensors(self) -> Iterator[Tensor]:
        """Yield what it holds in memory."""
        yield from (self.bits, self.levels)

    def values(self) -> Tensor:
        """Return the features in fp32, dense [rows, channels]."""
        shifts = torch.arange(8, device=self.bits.device)
        spread = (self.bits.unsqueeze(2) >> shifts) & 1
        return spread.flatten(1)[:, : self.channels].float() * self.levels.unsqueeze(1)


def sparse_features(
    pointers: Tensor,
    columns: Tensor,
    codes: Tensor,
    parameters: Tensor,
    channels: int,
    *,
    as_bits: bool = True,
) -> SparseFeatures | BitFeatures:
    """Return features in their smallest form, of CSR codes (uint8 [non-zeros]) and (scale, zero point) pairs.

    `parameters` are [rows, 2], or [1, 2] for all rows; `as_bits` allows rows of bits.
    """
    rows, nonzeros = pointers.numel() - 1, columns.numel()
    pairs = parameters.expand(rows, 2).contiguous()
    counts = pointers.long().diff()
    row = torch.repeat_interleave(torch.arange(rows, device=counts.device), counts)
    least = torch.full((rows,), 255, device=codes.device).scatter_reduce(0, row, codes.long(), "amin")
    most = torch.zeros(rows, dtype=torch.long, device=codes.device).scatter_reduce(
        0, row, codes.long(), "amax"
    )
    one_level = bool(((least == most) | (counts == 0)).all())
    row_bytes = -(-channels // (8 * WORD_BYTES)) * WORD_BYTES
    index_bytes = 2 if channels <= SHORT_INDEX else 4
    smaller = rows * row_bytes < nonzeros * index_bytes
    if as_bits and one_level and smaller and _unique(row, columns, channels):
        flat = torch.zeros(rows, row_bytes * 8, dtype=torch.uint8, device=codes.device)
        flat[row, columns.long()] = 1
        powers = (1 << torch.arange(8, device=codes.device)).to(torch.uint8)
        bits = (flat.view(rows, row_bytes, 8) * powers).sum(2).to(torch.uint8)
        levels = torch.where(counts > 0, (most - pairs[:, 1]) * pairs[:, 0], 0.0)
        return BitFeatures(bits, levels.float().contiguous(), rows, channels)
    padded = torch.zeros(nonzeros + COLUMN_PADDING, dtype=torch.int32, device=codes.device)
    padded[:nonzeros] = columns.to(torch.int32)
    short = padded.to(torch.int16) if index_bytes == 2 else padded
    if one_level:
        # One code for all rows: what differs between rows goes into their scales.
        levels = torch.where(counts > 0, (most - pairs[:, 1]) * pairs[:, 0], 0.0)
        pairs = torch.stack([levels, torch.zeros_like(levels)], dim=1).float().contiguous()
        codes = torch.ones(1, dtype=torch.uint8, device=codes.device)
    filled = pairs[counts > 0]
    if filled.size(0) and bool((filled == filled[0]).all()):
        pairs = filled[:1].contiguous()
    return SparseFeatures(
        pointers.to(torch.int32).contiguous(), short, codes.contiguous(), pairs, rows, channels
    )


def _unique(row: Tensor, columns: Tensor, channels: int) -> bool:
    places = row * channels + columns.long()
    return places.unique().numel() == places.numel()
