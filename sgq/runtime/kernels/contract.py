"""What kernels exchange besides packed tensors, and the three places where they are implemented."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sgq.runtime.quantization import Quantization

Reduction = Literal["sum", "mean", "max"]
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
    def empty(
        cls, edges: int, heads: int, device: torch.device, quantization: Quantization | None
    ) -> EdgeAttention:
        """Return room for coefficients; without a rule they are fp32."""
        if quantization is None or quantization.parameters is None:
            return cls(torch.empty(edges, heads, device=device), 1.0, 0.0)
        scale, zero_point = quantization.parameters[0].tolist()
        codes = torch.empty(edges, heads, dtype=torch.uint8, device=device)
        return cls(codes, scale, zero_point)

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

    `vectors` [vectors, width] fp32; `values` [rows, vectors · heads] fp32 is filled: the dot product over the
    channels of a head, of sums scaled but without bias or activation.
    """

    vectors: Tensor
    values: Tensor
    heads: int
