"""A lowered layer gives the codes of its simulated form, on any graph, at any width."""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sgq.pipeline.tasks import NodeTask
from sgq.runtime.packed import PackedTensor
from tests.runtime.lowering.lowered_models import (
    BUCKETS,
    CHANNELS,
    CONVOLUTIONS,
    OneLayer,
    quantized,
    random_graph,
    recipe,
    run_lowered,
    run_simulated,
)

OFF_BY_ONE = 1e-3


TIE = 1e-3
"""How near the middle between two codes, in steps, a value may be rounded either way."""


def differing(
    packed: PackedTensor, seen: list[tuple[Tensor, Tensor]], order: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return by how many steps codes differ from those of the nearest simulated tensor, and which are ties.

    `seen` are what quantizers got and gave. Coarse codes summed up often lie just between two codes.
    """
    values = packed.values().reshape(packed.layout.rows, -1)
    parameters = packed.parameters
    if packed.per == "channel":
        scale = parameters[:, 0]
    elif packed.per == "row":
        scale = parameters[:, :1]
    else:
        counts = torch.tensor([segment.rows for segment in packed.layout.segments])
        scale = parameters[:, :1].repeat_interleave(counts, dim=0)
    best: tuple[Tensor, Tensor] | None = None
    for got, other in seen:
        if other.numel() != values.numel() or other.size(0) != values.size(0):
            continue
        there, before = other.reshape(values.shape), got.reshape(values.shape)
        there, before = (there, before) if order is None else (there[order], before[order])
        steps = ((values - there).abs() / scale).nan_to_num(0.0)
        between = before / scale
        tied = ((between - between.floor()) - 0.5).abs() < TIE
        if best is None or int((steps > 0.5).sum()) < int((best[0] > 0.5).sum()):
            best = steps, tied
    assert best is not None
    return best


def check(model: nn.Module, task: NodeTask) -> None:
    logits, seen = run_simulated(model, task)
    lowered, found, packed = run_lowered(model, task)
    assert lowered.report.simulated == ()
    assert lowered.inputs is not None
    nodes = int(task.data.num_nodes)
    touched = torch.zeros(nodes, dtype=torch.bool)
    compared = 0
    for one in packed:
        # Heads are padded to 8 channels: what is seen is compared where nothing is padded.
        if one.layout.rows != nodes or not any(
            other.numel() == nodes * one.layout.width for _, other in seen
        ):
            continue
        compared += 1
        steps, tied = differing(one, seen, lowered.inputs.order)
        off = steps > 0.5
        # What a tie changed earlier in a row is no fault of this tensor.
        fault = off & ~tied & ~touched.unsqueeze(1)
        assert int(fault.sum()) <= max(1, OFF_BY_ONE * off.numel())
        assert float(steps[~touched].max()) < 1.5
        touched |= off.any(1)
    assert compared >= 2
    assert found.shape == logits.shape
    changed = (found - logits).abs().amax(1) > 1e-4 * logits.abs().max()
    assert int(changed.sum()) <= max(1, 0.1 * len(logits))


def model_of(kind: str, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model = OneLayer(kind)
    with torch.no_grad():
        model.norm.running_mean.normal_()
        model.norm.running_var.uniform_(0.5, 2.0)
        model.norm.weight.normal_()
        model.norm.bias.normal_()
    return model.eval()


@pytest.mark.parametrize("kind", CONVOLUTIONS)
@pytest.mark.parametrize("bits", [8, 4, 3, 2, 16])
def test_a_layer_at_any_width(kind: str, bits: int) -> None:
    data = random_graph(bits, 40, 90)
    wrapped, _, task = quantized(model_of(kind, bits), data, recipe(bits))
    check(wrapped, task)


@pytest.mark.parametrize("kind", [kind for kind in CONVOLUTIONS if kind != "edge"])
def test_a_layer_with_bits_by_bucket(kind: str) -> None:
    data = random_graph(7, 60, 120)
    wrapped, _, task = quantized(model_of(kind, 7), data, BUCKETS)
    check(wrapped, task)


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(CONVOLUTIONS),
    seed=st.integers(0, 10**6),
    nodes=st.integers(3, 40),
    edges=st.integers(0, 120),
    bits=st.sampled_from([1, 2, 4, 8]),
)
@example(kind="sage max", seed=3, nodes=3, edges=42, bits=4)  # one of three nodes is at a tie
def test_a_layer_on_any_graph(kind: str, seed: int, nodes: int, edges: int, bits: int) -> None:
    data = random_graph(seed, nodes, edges)
    wrapped, _, task = quantized(model_of(kind, seed), data, recipe(max(bits, 2) if kind == "edge" else bits))
    lowered, found, _ = run_lowered(wrapped, task)
    logits, _ = run_simulated(wrapped, task)
    # One code that falls the other way at a tie may change a node and those that it feeds.
    apart = ((found - logits).abs().amax(1) > 1e-4 * logits.abs().max() + 1e-6).sum()
    assert lowered.report.simulated == ()
    assert apart <= max(1, (0.5 if bits == 1 else 0.2) * nodes)


def test_sparse_features_give_what_dense_ones_give() -> None:
    data = random_graph(3, 50, 100)
    generator = torch.Generator().manual_seed(3)
    present = torch.rand(50, CHANNELS, generator=generator) < 0.35
    data.x = present.float() * torch.rand(50, 1, generator=generator)
    wrapped, _, task = quantized(model_of("gcn", 3), data, recipe(8))
    lowered, found, _ = run_lowered(wrapped, task)
    logits, _ = run_simulated(wrapped, task)
    assert lowered.report.feature_form == "bits"
    assert torch.allclose(found, logits, atol=0.05 * float(logits.abs().max()))
    other = data.clone()
    other.x = data.x.to_sparse_csr()
    assert torch.allclose(lowered(lowered.prepare(other)), found, atol=1e-5)
