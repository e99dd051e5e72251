"""What kernels exchange besides packed tensors, and the three places where they are implemented."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from quantizers.spec import FLOAT_BITS
from sgq.runtime.packed import VECTOR, PackedTensor
from sgq.runtime.quantization import Quantization

Reduction = Literal["sum", "mean", "max", "min"]
AttentionKind = Literal["additive", "dynamic", "cosine"]
Implementation = Literal["torch", "numba", "triton"]


@dataclass(frozen=True)
class EdgeAttention:
    """Attention of each edge and head, in the order of a Csr's edges: codes [edges, heads] uint8, or fp32.

    A coefficient is (code − zero point) · scale; fp32 ones have scale 1 and zero point 0.
    """

    codes: Tensor
    scale: float
    zero_point: float

    @classmethod
    def within(cls, room: Tensor, edges: int, heads: int, quantization: Quantization | None) -> EdgeAttention:
        """Return coefficients in the room for them: `room_for` numbers, codes or fp32 without a rule."""
        codes = room[: edges * heads].view(edges, heads)
        if quantization is None or quantization.parameters is None:
            return cls(codes, 1.0, 0.0)
        scale, zero_point = quantization.parameters[0].tolist()
        return cls(codes, scale, zero_point)

    @classmethod
    def empty(
        cls, edges: int, heads: int, device: torch.device, quantization: Quantization | None
    ) -> EdgeAttention:
        """Return room for coefficients; without a rule they are fp32."""
        numbers, dtype = cls.room_for(edges, heads, quantization)
        return cls.within(torch.empty(numbers, dtype=dtype, device=device), edges, heads, quantization)

    @staticmethod
    def room_for(edges: int, heads: int, quantization: Quantization | None) -> tuple[int, torch.dtype]:
        """Return how many numbers coefficients take, a vector past the last one, and of which type."""
        in_float = quantization is None or quantization.parameters is None
        return edges * heads + VECTOR, torch.float32 if in_float else torch.uint8

    @property
    def heads(self) -> int:
        """How many heads there are."""
        return self.codes.size(1)

    def values(self) -> Tensor:
        """Return the coefficients in fp32, [edges, heads]."""
        return (self.codes.float() - self.zero_point) * self.scale

    def tensors(self) -> Iterator[Tensor]:
        """Yield what it holds in memory."""
        yield self.codes


@dataclass(frozen=True)
class Scores:
    """Room for what a product also gives: dot products of its sums with vectors, head by head.

    `vectors` [vectors, width] fp32; `values` [vectors, rows, heads] fp32 is filled: the dot product over the
    channels of a head, of sums scaled but without bias or activation.
    """

    vectors: Tensor
    values: Tensor
    heads: int


@dataclass(frozen=True)
class Term:
    """Rows times a factor, to be summed up: packed ones, or fp32 [rows, width]."""

    rows: PackedTensor | Tensor
    factor: float = 1.0

    @property
    def width(self) -> int:
        """Channels of a row."""
        return self.rows.layout.width if isinstance(self.rows, PackedTensor) else self.rows.size(1)

    @property
    def count(self) -> int:
        """How many rows there are."""
        return self.rows.layout.rows if isinstance(self.rows, PackedTensor) else self.rows.size(0)

    def values(self) -> Tensor:
        """Return factor · rows in fp32."""
        values = self.rows.values() if isinstance(self.rows, PackedTensor) else self.rows
        return values * self.factor


Blocks = tuple[tuple[Term, ...], ...]
"""Blocks of channels side by side, each a sum of terms."""

LARGEST_SUM = 2**31 - 1
"""Of squared differences of codes, in 32 bits."""


def exact_distances(x: PackedTensor) -> bool:
    """Return whether distances of rows are whole numbers times one scale, and sums of squares fit in 32 bits.

    All rows then are codes of at most 8 bits that share their parameters. Other distances are in fp32.
    """
    segments = x.layout.segments
    if x.per != "segment" or len(segments) != 1 or segments[0].bits == FLOAT_BITS:
        return False
    return bool((2 ** segments[0].bits - 1) ** 2 * x.layout.width <= LARGEST_SUM)
