from __future__ import annotations

import pytest
import torch

from quantizers import QuantizerSpec
from sgq.errors import ModelError
from sgq.runtime.finish import Activation, Finish, activated, finished
from sgq.runtime.packed import PackedTensor
from tests.runtime.graphs import normal, rule_of

SUMS = torch.tensor([[1.0, -2.0], [0.0, 3.0]])


def test_sums_are_scaled_shifted_and_activated() -> None:
    finish = Finish(multiply=torch.tensor([2.0, 1.0]), add=torch.tensor([-1.0, 1.0]), activation="relu")
    assert finished(SUMS, finish).tolist() == [[1.0, 0.0], [0.0, 4.0]]
    assert finished(SUMS, Finish()) is SUMS


@pytest.mark.parametrize(
    ("activation", "slope", "expected"),
    [("none", 0.0, -2.0), ("relu", 0.0, 0.0), ("leaky_relu", 0.5, -1.0), ("elu", 2.0, -1.7293294335)],
)
def test_activations_by_hand(activation: Activation, slope: float, expected: float) -> None:
    got = activated(SUMS, activation, slope)
    assert got[0, 1].item() == pytest.approx(expected)
    assert (got[0, 0], got[1, 1]) == (1.0, 3.0)


def test_codes_come_last() -> None:
    rule = rule_of(QuantizerSpec(8), normal(0, 4, 2))
    got = finished(SUMS, Finish(activation="relu", quantization=rule))
    assert isinstance(got, PackedTensor)
    want = torch.relu(SUMS)
    assert rule.parameters is not None
    scale = rule.parameters[0, 0]
    inside = want.clamp(max=float(normal(0, 4, 2).max()))
    assert (got.values() - inside).abs().max() <= scale / 2 + 1e-6


def test_codes_by_bucket_go_to_their_segments_and_heads() -> None:
    x = normal(0, 5, 2, 8)
    bucket = torch.tensor([0, 0, 0, 1, 1])
    rule = rule_of(QuantizerSpec((8, 2), granularity="bucket"), x, bucket)
    got = finished(x.view(5, 16), Finish(quantization=rule, rows=(3, 2), heads=2))
    assert isinstance(got, PackedTensor)
    assert got.shape == (5, 2, 8)
    assert [(segment.rows, segment.bits) for segment in got.layout.segments] == [(3, 8), (2, 2)]


def test_a_scale_of_sums_joins_the_scale_of_channels() -> None:
    scale = torch.tensor([2.0, 4.0])
    assert Finish().scaled(scale).multiply is scale
    joined = Finish(multiply=torch.tensor([0.5, 0.5])).scaled(scale).multiply
    assert joined is not None
    assert joined.tolist() == [1.0, 2.0]


def test_a_finish_without_codes_keeps_the_rest() -> None:
    rule = rule_of(QuantizerSpec(8), normal(0, 4, 2))
    finish = Finish(add=torch.ones(2), activation="elu", slope=1.0, quantization=rule)
    assert finish.in_float() == Finish(add=finish.add, activation="elu", slope=1.0)
    assert len(finish.tensors()) == 2
    assert len(finish.in_float().tensors()) == 1


@pytest.mark.parametrize("slope", [-0.1, 1.5])
def test_a_leaky_relu_that_is_no_maximum_is_refused(slope: float) -> None:
    with pytest.raises(ModelError, match="between 0 and 1"):
        Finish(activation="leaky_relu", slope=slope)
