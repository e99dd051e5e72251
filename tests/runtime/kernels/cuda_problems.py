"""Tiny problems for the Triton kernels, and how their results are held to the reference's."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from torch import Tensor

from quantizers import QuantizerSpec
from quantizers.spec import FLOAT_BITS
from sgq.runtime.csr import Csr, csr_of
from sgq.runtime.finish import Finish
from sgq.runtime.kernels import reference
from sgq.runtime.packed import PackedTensor
from sgq.runtime.quantization import Quantization, code_ranges

DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"
WIDTHS = (1, 2, 3, 4, 8, 12, 32, (4, 1, 8), (8, 32, 2))
EXAMPLES = settings(
    max_examples=8, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
)


@dataclass(frozen=True)
class Setting:
    """A tiny problem, drawn: everything else follows from `seed`."""

    seed: int
    bits: int | tuple[int, ...] = 8
    granularity: str = "tensor"
    symmetric: bool = False
    signed: bool = False
    heads: int = 1
    channels: int = 5
    nodes: int = 7
    edges: int = 14

    @property
    def spec(self) -> QuantizerSpec:
        granularity: Any = "bucket" if isinstance(self.bits, tuple) else "tensor"
        if self.granularity == "node" or (self.granularity == "channel" and granularity == "tensor"):
            granularity = self.granularity
        return QuantizerSpec(self.bits, granularity=granularity, symmetric=self.symmetric, signed=self.signed)

    @property
    def rows(self) -> tuple[int, ...]:
        """Rows of each segment; the middle one may be empty."""
        if not isinstance(self.bits, tuple):
            return (self.nodes,)
        first = self.nodes // 2
        middle = min(self.seed % 3, self.nodes - first)
        return first, middle, self.nodes - first - middle


@st.composite
def drawn(draw: Any) -> Setting:
    """Any setting."""
    setting = Setting(
        draw(st.integers(0, 10**6)),
        draw(st.sampled_from(WIDTHS)),
        draw(st.sampled_from(("tensor", "channel", "node"))),
        draw(st.booleans()),
        draw(st.booleans()),
        draw(st.sampled_from((1, 1, 3))),
        draw(st.integers(1, 21)),
        draw(st.integers(1, 9)),
        draw(st.integers(0, 24)),
    )
    if setting.symmetric and setting.signed and min(setting.spec.widths) == 1:
        # None of these codes is 0. The padding of heads is not, either, though the reference leaves it out.
        setting = replace(setting, channels=8)
    return setting


def rule(setting: Setting, width: int | None = None) -> Quantization:
    """A calibrated rule for values of a normal distribution."""
    spec = setting.spec
    if spec.granularity == "node":
        return Quantization(spec, None)
    generator = torch.Generator().manual_seed(setting.seed + 1)
    least, levels = (torch.tensor(numbers) for numbers in code_ranges(spec))
    count = len(spec.widths)
    if spec.granularity == "channel":
        width = width or -(-setting.channels // 8) * 8 * setting.heads
        least, levels, count = least.expand(width), levels.expand(width), width
    scale = (3.0 + torch.rand(count, generator=generator)) / levels.clamp(min=1)
    zero_point = torch.round(levels * torch.rand(count, generator=generator))
    if setting.symmetric:
        half = 0.5 if setting.signed else 0.0
        zero_point = torch.where(levels == 1, half, 0.0) - least
    return Quantization(spec, torch.stack([scale, zero_point], dim=1))


def packed(setting: Setting, *, channels: int | None = None, heads: int | None = None) -> PackedTensor:
    """Rows of a normal distribution as codes."""
    channels, heads = channels or setting.channels, heads or setting.heads
    setting = replace(setting, channels=channels, heads=heads)
    width = channels if heads == 1 else None
    values = torch.randn(
        setting.nodes, heads * channels, generator=torch.Generator().manual_seed(setting.seed)
    )
    return reference.quantize(values, rule(setting, width), setting.rows, heads)


def graph_of(setting: Setting) -> Csr:
    """Random edges with self-loops, multi-edges and a hub; the last node is isolated."""
    generator = torch.Generator().manual_seed(setting.seed + 2)
    edges = setting.edges if setting.nodes > 1 else 0
    source = torch.randint(0, setting.nodes, (edges,), generator=generator)
    target = torch.randint(0, max(setting.nodes - 1, 1), (edges,), generator=generator)
    if edges > 4:
        target[::2] = 0
        source[1], target[1] = source[3], target[3]
        source[2] = target[2]
    weights = torch.rand(edges, generator=generator)
    segments = setting.rows if isinstance(setting.bits, tuple) else None
    return csr_of(source, target, weights, rows=setting.nodes, segments=segments)


def finishes(setting: Setting, width: int) -> list[Finish]:
    """Sums as they are, and sums scaled, shifted, activated and rounded to codes of heads 8 · k wide."""
    generator = torch.Generator().manual_seed(setting.seed + 3)
    activation: Any = ("none", "relu", "leaky_relu", "elu")[setting.seed % 4]
    numbers = torch.rand(2, width, generator=generator)
    quantization = rule(replace(setting, bits=(8, 4, 2, 1, 32)[setting.seed % 5]), width)
    if setting.seed % 2 and isinstance(setting.bits, tuple):
        quantization = rule(setting, width)
    return [
        Finish(),
        Finish(numbers[0], numbers[1] - 0.5, activation, 0.3, quantization, setting.rows),
    ]


def moved(value: Any) -> Any:
    """Anything, with its tensors where the kernels run."""
    if isinstance(value, Tensor):
        return value.to(DEVICE)
    if isinstance(value, tuple):
        return tuple(moved(one) for one in value)
    if is_dataclass(value) and not isinstance(value, (type, QuantizerSpec)):
        made = [one for one in fields(value) if one.init]
        return replace(value, **{one.name: moved(getattr(value, one.name)) for one in made})
    return value


def close(found: Tensor, expected: Tensor) -> Tensor:
    """Where two tensors agree within 1e-5 of the largest number."""
    expected, found = expected.float(), found.cpu().float()
    assert found.shape == expected.shape
    largest = float(expected.abs().max()) if expected.numel() else 0.0
    return torch.isclose(found, expected, rtol=1e-5, atol=1e-5 * largest)


def few(wrong: Tensor) -> bool:
    """Whether at most 0.1 % are wrong; one always may be."""
    return int(wrong.sum()) <= max(1, wrong.numel() // 1000)


def assert_same(found: Tensor | PackedTensor, expected: Tensor | PackedTensor) -> None:
    """Hold a result to the reference's: numbers within 1e-5, codes but for a few that are off by one."""
    if isinstance(expected, Tensor):
        assert bool(close(found, expected).all())
        return
    assert isinstance(found, PackedTensor)
    found = replace(found, codes=found.codes.cpu(), parameters=found.parameters.cpu())
    assert found.layout == expected.layout
    assert found.per == expected.per
    assert bool(close(found.parameters, expected.parameters).all())
    one, other = found.code_values(), expected.code_values()
    for segment in expected.layout.segments:
        here = slice(segment.first_row, segment.first_row + segment.rows)
        if segment.bits == FLOAT_BITS:
            assert few(~close(one[here], other[here]))
        else:
            difference = (one[here] - other[here]).abs()
            assert few(difference > 0)
            assert bool((difference <= 1).all())
