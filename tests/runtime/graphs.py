"""Random graphs and packed rows for the kernels' tests, and how close two results have to be."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor

from quantizers import Quantizer, QuantizerSpec, create
from sgq.runtime.csr import Csr, csr_of
from sgq.runtime.packed import PackedTensor, held_bits
from sgq.runtime.quantization import Quantization, quantization_of, quantized

RELATIVE = 1e-5
"""How far two sums may differ, relative to the magnitude of what is summed."""
OFF_BY_ONE = 1e-3
"""The share of codes that may differ by one."""
BUCKETS = 4


@dataclass(frozen=True)
class Edges:
    """Edges of a graph whose nodes lie in `segments`, with a weight each."""

    source: Tensor
    target: Tensor
    weights: Tensor
    segments: tuple[int, ...]

    @property
    def rows(self) -> int:
        return sum(self.segments)

    @property
    def bucket(self) -> Tensor:
        """The segment of each node."""
        return torch.arange(len(self.segments)).repeat_interleave(torch.tensor(self.segments))

    def csr(self, *, weighted: bool = True, segmented: bool = False) -> Csr:
        return csr_of(
            self.source,
            self.target,
            self.weights if weighted else None,
            rows=self.rows,
            segments=self.segments if segmented else None,
        )

    def dense(self, numbers: Tensor) -> Tensor:
        """Return the matrix [targets, sources], float64, of one number an edge; multi-edges add up."""
        matrix = torch.zeros(self.rows, self.rows, dtype=torch.float64)
        return matrix.index_put((self.target, self.source), numbers.double(), accumulate=True)

    def sizes(self) -> Tensor:
        return torch.bincount(self.target, minlength=self.rows)


def random_edges(seed: int, segments: tuple[int, ...], edges: int) -> Edges:
    """Return a graph with isolated nodes, self-loops, multi-edges, and a hub that all nodes point to."""
    generator = torch.Generator().manual_seed(seed)
    rows = sum(segments)
    if rows == 0 or edges == 0:
        nothing = torch.empty(0, dtype=torch.int64)
        return Edges(nothing, nothing, torch.empty(0), segments)
    # The last fifth gets no edges; where the nodes are one, it is its own hub.
    ends = torch.randint(rows, (2, edges), generator=generator)
    source, target = ends[0], ends[1] % max(1, rows - rows // 5)
    nodes = torch.arange(rows)
    hub = int(torch.randint(rows, (1,), generator=generator))
    loops = nodes[: rows // 3]
    source = torch.cat([source, source[: edges // 4], loops, nodes])
    target = torch.cat([target, target[: edges // 4], loops, torch.full_like(nodes, hub)])
    order = torch.randperm(source.numel(), generator=generator)
    weights = torch.randn(source.numel(), generator=generator)
    return Edges(source[order], target[order], weights, segments)


@st.composite
def graphs(draw: st.DrawFn, *, most_nodes: int = 60, most_edges: int = 300) -> Edges:
    """Graphs of 0 to `most_nodes` nodes in four segments, of which some are empty."""
    sizes = st.integers(0, most_nodes // BUCKETS)
    segments = draw(st.tuples(*[sizes] * BUCKETS))
    return random_edges(draw(seeds), segments, draw(st.integers(0, most_edges)))


seeds = st.integers(0, 2**31 - 1)
channel_counts = st.sampled_from((1, 3, 8, 13, 64, 77, 130))
uniform_widths = st.integers(1, 16) | st.just(32)
mixed_widths = st.tuples(*[st.integers(1, 16) | st.just(32)] * BUCKETS)


@st.composite
def specs(draw: st.DrawFn, *, channel: bool = True, widest: int = 32) -> QuantizerSpec:
    """Quantizers of every granularity, width and kind of codes; one width in two goes by bucket."""
    kind = {"symmetric": draw(st.booleans()), "signed": draw(st.booleans())}
    widths = st.integers(1, min(16, widest)) | st.just(widest)
    if draw(st.booleans()):
        mixed = draw(st.tuples(*[widths] * BUCKETS))
        return QuantizerSpec(mixed, granularity=draw(st.sampled_from(("bucket", "node"))), **kind)
    granularities = ("tensor", "node", "channel") if channel else ("tensor", "node")
    return QuantizerSpec(draw(widths), granularity=draw(st.sampled_from(granularities)), **kind)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def calibrated(spec: QuantizerSpec, x: Tensor, bucket: Tensor | None = None) -> Quantizer:
    """Return a quantizer that has seen x, with channels along all dimensions but the first."""
    shape = (1, *x.shape[1:]) if spec.granularity == "channel" else None
    quantizer = create(spec, channel_shape=shape)
    if not spec.is_float:
        quantizer.observe(x if x.numel() else torch.ones(1, *x.shape[1:]), bucket if x.numel() else None)
    quantizer.freeze()
    return quantizer


def rule_of(spec: QuantizerSpec, x: Tensor, bucket: Tensor | None = None) -> Quantization:
    heads, channels = (x.size(1), x.size(2)) if x.dim() == 3 else (1, x.size(1))
    if spec.bucketed and x.size(0) == 0:
        x, bucket = torch.ones(len(spec.widths), *x.shape[1:]), torch.arange(len(spec.widths))
    return quantization_of(calibrated(spec, x, bucket), heads=heads, channels=channels)


def packed_rows(spec: QuantizerSpec, x: Tensor, segments: tuple[int, ...]) -> PackedTensor:
    """Return x [rows, channels] or [rows, heads, channels] in codes."""
    bucket = torch.arange(len(segments)).repeat_interleave(torch.tensor(segments))
    return quantized(x, rule_of(spec, x, bucket if spec.bucketed else None), segments)


def assert_close(got: Tensor, want: Tensor, magnitude: Tensor | float) -> None:
    """Hold `got` to `want` within 1e-5 of the magnitude of the terms that were summed."""
    assert got.shape == want.shape
    assert got.isfinite().all()
    allowed = RELATIVE * torch.as_tensor(magnitude, dtype=torch.float64) + 1e-30
    excess = (got.double() - want.double()).abs() - allowed
    assert excess.numel() == 0 or excess.max() <= 0, f"{float(excess.max())} too far"


def assert_same_codes(got: PackedTensor, want: PackedTensor, widths: tuple[int, ...]) -> None:
    """Hold the codes of `got` to those of `want`: few off by one, none by more; values by their steps."""
    assert got.layout == want.layout
    assert got.per == want.per
    scale = want.parameters.abs().max().clamp(min=1.0) if want.parameters.numel() else 1.0
    assert_close(got.parameters, want.parameters, scale)
    ours, theirs = got.code_values(), want.code_values()
    off = 0
    for segment, bits in zip(want.layout.segments, widths, strict=True):
        here = slice(segment.first_row, segment.first_row + segment.rows)
        if ours[here].numel() == 0:
            continue
        distance = (ours[here] - theirs[here]).abs()
        if held_bits(bits) < 32:
            off += int((distance > 0).sum())
            assert distance.max() <= 1
        else:
            # Values in fp32: their levels, if any, are as far apart as 16 bits or fewer of the range are.
            largest = theirs[here].abs().max()
            step = 0.0 if bits == 32 else float(2.001 * largest / (2**bits - 1))
            assert distance.max() <= step + RELATIVE * largest
    assert off <= max(1, OFF_BY_ONE * ours.numel())
