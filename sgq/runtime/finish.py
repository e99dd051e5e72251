"""What a kernel does with its sums before it lets go of them: scale, bias, activation, codes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from sgq.errors import ModelError
from sgq.runtime.packed import PackedTensor
from sgq.runtime.quantization import Quantization, quantized

Activation = Literal["none", "relu", "leaky_relu", "elu"]


@dataclass(frozen=True)
class Finish:
    """y = activation(sums · multiply + add), then codes by `quantization`, or fp32 without one.

    `multiply` and `add` [width] are one number a channel, or None. `slope` is LeakyReLU's for negative
    values, or ELU's alpha. `rows` counts the rows of each segment that codes with bits by bucket go to;
    `heads` is how many heads the channels are, each a multiple of 8 wide where there are several. Raises
    ModelError for a LeakyReLU that is no maximum: its slope is between 0 and 1.
    """

    multiply: Tensor | None = None
    add: Tensor | None = None
    activation: Activation = "none"
    slope: float = 0.0
    quantization: Quantization | None = None
    rows: tuple[int, ...] = ()
    heads: int = 1

    def __post_init__(self) -> None:
        """Refuse slopes that kernels have no form for."""
        if self.activation == "leaky_relu" and not 0.0 <= self.slope <= 1.0:
            raise ModelError(f"expected a slope of LeakyReLU between 0 and 1 (got {self.slope:g})")

    def scaled(self, scale: Tensor) -> Finish:
        """Return the finish of sums that are still to be multiplied by `scale` [width]."""
        return replace(self, multiply=scale if self.multiply is None else self.multiply * scale)

    def in_float(self) -> Finish:
        """Return the finish without its codes."""
        return replace(self, quantization=None)

    def tensors(self) -> list[Tensor]:
        """Return what it holds in memory."""
        kept = [self.multiply, self.add, self.quantization.parameters if self.quantization else None]
        return [tensor for tensor in kept if tensor is not None]


def finished(sums: Tensor, finish: Finish) -> Tensor | PackedTensor:
    """Return sums [rows, width] finished by torch operations, on any device."""
    values = sums
    if finish.multiply is not None:
        values = values * finish.multiply
    if finish.add is not None:
        values = values + finish.add
    values = activated(values, finish.activation, finish.slope)
    if finish.quantization is None:
        return values
    if finish.heads > 1:
        values = values.unflatten(1, (finish.heads, -1))
    return quantized(values, finish.quantization, finish.rows or (values.size(0),))


def activated(values: Tensor, activation: Activation, slope: float) -> Tensor:
    """Return an activation's values."""
    if activation == "relu":
        return torch.relu(values)
    if activation == "leaky_relu":
        return torch.nn.functional.leaky_relu(values, slope)
    if activation == "elu":
        return torch.nn.functional.elu(values, slope)
    return values
