from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from quantizers import FLOAT_BITS, ObserverSpec, Quantizer, QuantizerSpec, code_bounds, quantize
from sgq.runtime.packed import PackedTensor, held_bits
from sgq.runtime.quantization import code_ranges, quantization_of, quantized
from tests.runtime.graphs import BUCKETS, calibrated, mixed_widths, normal, seeds

KINDS = [(symmetric, signed) for symmetric in (False, True) for signed in (False, True)]
OBSERVERS = (
    ObserverSpec(),
    ObserverSpec("moving_average"),
    ObserverSpec("percentile", q=0.9),
    ObserverSpec("mse"),
    ObserverSpec("fixed", lower=-1.5, upper=2.0),
)
NODE_OBSERVERS = (ObserverSpec(), ObserverSpec("mse"))


def assert_codes_of(quantizer: Quantizer, packed: PackedTensor, x: Tensor, bucket: Tensor | None) -> None:
    """Hold packed codes and values to those of the quantizer, exactly."""
    spec = quantizer.spec
    values = quantizer(x, bucket)
    assert torch.equal(packed.values(), values)
    assert torch.equal(torch.signbit(packed.values()[values != 0]), torch.signbit(values[values != 0]))
    if spec.is_float:
        return
    codes = quantize(x, quantizer.parameters_of(x, bucket))
    widths = torch.tensor(spec.widths)
    row_widths = widths[bucket] if spec.bucketed and bucket is not None else widths.expand(x.size(0))
    for bits in set(spec.widths):
        if held_bits(bits) == FLOAT_BITS:
            continue
        least, most = code_bounds(bits, symmetric=spec.symmetric, signed=spec.signed)
        here = row_widths == bits
        ours = packed.code_values()[here]
        assert torch.equal(ours, codes[here] - least)
        assert ours.numel() == 0 or (ours.min() >= 0 and ours.max() <= most - least)


@settings(max_examples=80, deadline=None)
@given(
    seed=seeds,
    rows=st.integers(1, 20),
    shape=st.sampled_from(((1,), (8,), (13,), (3, 5), (2, 8))),
    bits=st.integers(1, 16) | st.just(32),
    granularity=st.sampled_from(("tensor", "channel", "node")),
    kind=st.sampled_from(KINDS),
    data=st.data(),
)
def test_codes_are_those_of_the_quantizer(
    seed: int,
    rows: int,
    shape: tuple[int, ...],
    bits: int,
    granularity: str,
    kind: tuple[bool, bool],
    data: st.DataObject,
) -> None:
    observers = NODE_OBSERVERS if granularity == "node" else OBSERVERS
    observer = data.draw(st.sampled_from(observers))
    spec = QuantizerSpec(bits, granularity=granularity, symmetric=kind[0], signed=kind[1], observer=observer)
    x = normal(seed, rows, *shape)
    quantizer = calibrated(spec, x)
    heads, channels = shape if len(shape) == 2 else (1, shape[0])
    packed = quantized(x, quantization_of(quantizer, heads=heads, channels=channels), (rows,))
    assert packed.shape == x.shape
    assert_codes_of(quantizer, packed, x, None)


@settings(max_examples=80, deadline=None)
@given(
    seed=seeds,
    segments=st.tuples(*[st.integers(0, 6)] * BUCKETS).filter(any),
    shape=st.sampled_from(((1,), (13,), (3, 5))),
    widths=mixed_widths,
    granularity=st.sampled_from(("bucket", "node")),
    kind=st.sampled_from(KINDS),
    observer=st.sampled_from(NODE_OBSERVERS),
)
def test_codes_by_bucket_are_those_of_the_quantizer(
    seed: int,
    segments: tuple[int, ...],
    shape: tuple[int, ...],
    widths: tuple[int, ...],
    granularity: str,
    kind: tuple[bool, bool],
    observer: ObserverSpec,
) -> None:
    spec = QuantizerSpec(
        widths, granularity=granularity, symmetric=kind[0], signed=kind[1], observer=observer
    )
    x = normal(seed, sum(segments), *shape)
    bucket = torch.arange(BUCKETS).repeat_interleave(torch.tensor(segments))
    quantizer = calibrated(spec, x, bucket)
    heads, channels = shape if len(shape) == 2 else (1, shape[0])
    packed = quantized(x, quantization_of(quantizer, heads=heads, channels=channels), segments)
    assert_codes_of(quantizer, packed, x, bucket)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
def test_ties_go_the_way_the_quantizer_rounds_them(bits: int, kind: tuple[bool, bool]) -> None:
    # Scale 1 or a power of two, so that x + 0.5 is a tie exactly; an odd least code would turn it round.
    least, most = code_bounds(bits, symmetric=kind[0], signed=kind[1])
    lower, upper = (least, most) if kind[1] and bits > 1 else (-1.0, most - 1.0 + (bits == 1))
    observer = ObserverSpec("fixed", lower=min(lower, 0.0), upper=max(upper, 1.0))
    spec = QuantizerSpec(bits, symmetric=kind[0], signed=kind[1], observer=observer)
    x = (torch.arange(-20, 21) + 0.5).view(-1, 1) * torch.tensor([[1.0, 0.5, 2.0]])
    quantizer = calibrated(spec, x)
    assert_codes_of(quantizer, quantized(x, quantization_of(quantizer), (x.size(0),)), x, None)


@pytest.mark.parametrize("granularity", ["tensor", "channel", "node"])
def test_rows_of_zeros_and_of_one_value_keep_them(granularity: str) -> None:
    x = torch.tensor([[0.0, 0.0, 0.0], [2.0, 2.0, 2.0], [-3.0, 0.0, -3.0]])
    quantizer = calibrated(QuantizerSpec(4, granularity=granularity), x)
    packed = quantized(x, quantization_of(quantizer), (3,))
    assert torch.equal(packed.values()[0], x[0])
    assert_codes_of(quantizer, packed, x, None)


def test_no_rows_and_no_channels_give_empty_tensors() -> None:
    rule = quantization_of(calibrated(QuantizerSpec(4), torch.ones(3, 5)))
    assert quantized(torch.empty(0, 5), rule, (0,)).values().shape == (0, 5)
    for granularity in ("tensor", "node"):
        rule = quantization_of(calibrated(QuantizerSpec(4, granularity=granularity), torch.ones(3, 5)))
        assert quantized(torch.empty(3, 0), rule, (3,)).values().shape == (3, 0)


def test_parameters_are_one_pair_a_segment_row_or_channel() -> None:
    x = normal(0, 6, 5)
    bucket = torch.tensor([0, 0, 1, 1, 1, 2])

    def parameters(spec: QuantizerSpec) -> Tensor:
        rule = quantization_of(calibrated(spec, x, bucket))
        return quantized(x, rule, (2, 3, 1)).parameters

    assert parameters(QuantizerSpec(8)).shape == (1, 2)
    assert parameters(QuantizerSpec((8, 4, 2), granularity="bucket")).shape == (3, 2)
    assert parameters(QuantizerSpec(8, granularity="channel")).shape == (5, 2)
    assert parameters(QuantizerSpec((8, 4, 2), granularity="node")).shape == (6, 2)
    # Rows that are held as values are read as they are.
    mixed = parameters(QuantizerSpec((8, 32, 12), granularity="bucket"))
    assert mixed[1:].tolist() == [[1.0, 0.0], [1.0, 0.0]]
    assert mixed[0, 0] != 1.0


def test_channels_of_several_heads_are_padded_with_neutral_parameters() -> None:
    x = normal(0, 6, 2, 5)
    quantizer = calibrated(QuantizerSpec(8, granularity="channel"), x)
    pairs = quantization_of(quantizer, heads=2, channels=5).parameters
    assert pairs is not None
    assert pairs.shape == (16, 2)
    assert pairs.view(2, 8, 2)[:, 5:].eq(torch.tensor([1.0, 0.0])).all()
    assert torch.equal(pairs.view(2, 8, 2)[:, :5, 0].flatten(), quantizer.get_buffer("scale").flatten())


def test_code_ranges_are_the_least_codes_and_the_levels_above() -> None:
    assert code_ranges(QuantizerSpec(8, symmetric=True, signed=True)) == ((-127.0,), (254.0,))
    assert code_ranges(QuantizerSpec(1, symmetric=True, signed=True)) == ((0.0,), (1.0,))
    least, levels = code_ranges(QuantizerSpec((4, 32), granularity="bucket", signed=True))
    assert (least, levels) == ((-8.0, 0.0), (15.0, 0.0))


def test_the_range_table_says_what_the_kernels_need_of_each_width() -> None:
    x, bucket = normal(0, 4, 3), torch.tensor([0, 0, 1, 1])
    rule = quantization_of(calibrated(QuantizerSpec((4, 32), granularity="bucket", signed=True), x, bucket))
    assert rule.parameters is not None
    assert rule.range_table[:, :5].tolist() == [[-8, 15, 0, 0, 1], [0, 0, 1, 0, 1]]
    assert torch.equal(rule.range_table[:, 5:], rule.parameters)
    by_row = quantization_of(calibrated(QuantizerSpec(4, granularity="node", symmetric=True), x))
    assert by_row.range_table.tolist() == [[0, 15, 0, 1, 0, 0, 0]]
    assert not by_row.clips_rows
