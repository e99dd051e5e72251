from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from quantizers import QuantizerSpec
from sgq.runtime.features import BitFeatures, SparseFeatures, sparse_features
from sgq.runtime.finish import Finish
from sgq.runtime.kernels import Scores, linear
from sgq.runtime.kernels.contract import Implementation
from sgq.runtime.kernels.cpu.products import ROWS
from sgq.runtime.packed import PackedTensor, with_head_padding
from sgq.runtime.weights import IntegerWeight, as_rows, in_float, tabled, tiled
from sgq.runtime.workspace import Workspace
from tests.runtime.graphs import (
    BUCKETS,
    assert_close,
    assert_same_codes,
    normal,
    packed_rows,
    rule_of,
    seeds,
    specs,
)
from tests.runtime.kernels.test_aggregate import activations, finish_of, finishes, torch_threads

IMPLEMENTATIONS: tuple[Implementation, ...] = ("torch", "numba")
Rows = PackedTensor | SparseFeatures | BitFeatures

row_counts = st.tuples(*[st.integers(0, 15)] * BUCKETS)
input_counts = st.sampled_from((1, 3, 8, 16, 37, 130))
output_counts = st.sampled_from((1, 7, 16, 21, 64, 70))


def whole_numbers(seed: int, inputs: int, outputs: int, largest: int = 127) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-largest, largest + 1, (inputs, outputs), generator=generator).float()


def scales(seed: int, outputs: int) -> Tensor:
    return torch.rand(outputs, generator=torch.Generator().manual_seed(seed)) + 0.1


def sparse_rows(seed: int, rows: int, channels: int, *, level: str, shared: bool) -> SparseFeatures:
    """Return features at 30 % of their places, with several codes or one."""
    generator = torch.Generator().manual_seed(seed)
    places = (torch.rand(rows, channels, generator=generator) < 0.3).nonzero()
    pointers = torch.zeros(rows + 1, dtype=torch.int32)
    pointers[1:] = torch.bincount(places[:, 0], minlength=rows).cumsum(0)
    columns = torch.zeros(len(places) + 64, dtype=torch.int16 if channels < 2**15 else torch.int32)
    columns[: len(places)] = places[:, 1]
    codes = torch.randint(256, (len(places),), generator=generator).to(torch.uint8)
    pairs = torch.stack([scales(seed, rows), torch.full((rows,), 5.0)], dim=1)
    if shared:
        pairs = pairs[:1].expand(rows, 2).contiguous() if rows else pairs
    codes = codes if level == "many" else torch.tensor([9], dtype=torch.uint8)
    return SparseFeatures(pointers, columns, codes, pairs, rows, channels)


def bit_rows(seed: int, rows: int, channels: int) -> BitFeatures:
    generator = torch.Generator().manual_seed(seed)
    # Whole words of 32 bits, zero past the last channel.
    chosen = torch.randint(2, (rows, -(-channels // 32) * 4, 8), generator=generator)
    chosen.flatten(1)[:, channels:] = 0
    bits = (chosen << torch.arange(8)).sum(2).to(torch.uint8)
    return BitFeatures(bits, scales(seed, rows), rows, channels)


def dense_values(x: Rows) -> Tensor:
    values = with_head_padding(x.values(), x.layout) if isinstance(x, PackedTensor) else x.values()
    return values.double()


def check_product(
    x: Rows,
    weight: IntegerWeight,
    seed: int,
    *,
    activation: str,
    parts: dict[str, bool],
    addend: bool,
    heads: int,
) -> None:
    """Hold every implementation to the product of the values in float64, scores and addend included."""
    rows, outputs = dense_values(x), weight.outputs
    finish = finish_of(seed, outputs, activation, **parts)
    plain = rows @ weight.values().double()
    size = rows.abs().sum(1, keepdim=True) * weight.values().abs().max().double()
    if isinstance(x, PackedTensor):
        # Codes are multiplied before their zero point is gone.
        size = (
            size + rows.size(1) * x.values().abs().max() * weight.values().abs().max()
            if rows.numel()
            else size
        )
    extra = normal(seed + 2, rows.size(0), outputs) if addend else None
    want, terms = plain, size
    if finish.multiply is not None:
        want, terms = want * finish.multiply, terms * finish.multiply.abs()
    if extra is not None:
        want, terms = want + extra, terms + extra.abs()
    if finish.add is not None:
        want, terms = want + finish.add, terms + finish.add.abs()
    # e^x - 1 near 0 is rounded as a number near 1 is.
    terms = terms + 0.1 if activation == "elu" else terms
    negative = want.clamp(max=0)
    below = {"none": negative, "relu": 0.0, "leaky_relu": 0.3 * negative, "elu": 0.3 * negative.expm1()}
    want = want.clamp(min=0) + below[activation]
    vectors = normal(seed + 3, 2, outputs)
    score = torch.stack([plain * vector for vector in vectors]).unflatten(2, (heads, -1)).sum(3)
    for implementation in IMPLEMENTATIONS:
        scores = Scores(vectors, torch.full((2, rows.size(0), heads), torch.nan), heads)
        got = linear(x, weight, finish, addend=extra, scores=scores, implementation=implementation)
        assert isinstance(got, Tensor)
        assert_close(got, want, terms)
        assert_close(scores.values, score, size.unsqueeze(0) * vectors.abs().sum())


@settings(max_examples=70, deadline=None)
@given(
    spec=specs(channel=False, widest=8),
    segments=row_counts,
    inputs=input_counts,
    outputs=output_counts,
    seed=seeds,
    largest=st.sampled_from((1, 7, 127, 1023)),
    activation=activations,
    parts=finishes,
    addend=st.booleans(),
    heads=st.booleans(),
)
def test_packed_rows_times_tiles(
    spec: QuantizerSpec,
    segments: tuple[int, ...],
    inputs: int,
    outputs: int,
    seed: int,
    largest: int,
    activation: str,
    parts: dict[str, bool],
    addend: bool,
    heads: bool,
) -> None:
    x = packed_rows(spec, normal(seed, sum(segments), inputs), segments)
    weight = tiled(whole_numbers(seed, inputs, outputs, largest), scales(seed, outputs))
    by_head = 8 if heads and outputs % 8 == 0 else 1
    check_product(x, weight, seed, activation=activation, parts=parts, addend=addend, heads=by_head)


@settings(max_examples=30, deadline=None)
@given(
    spec=specs(),
    segments=row_counts,
    inputs=input_counts,
    outputs=output_counts,
    seed=seeds,
    activation=activations,
    parts=finishes,
    addend=st.booleans(),
)
def test_packed_rows_of_any_width_times_floats(
    spec: QuantizerSpec,
    segments: tuple[int, ...],
    inputs: int,
    outputs: int,
    seed: int,
    activation: str,
    parts: dict[str, bool],
    addend: bool,
) -> None:
    x = packed_rows(spec, normal(seed, sum(segments), inputs), segments)
    weight = in_float(normal(seed + 5, inputs, outputs))
    check_product(x, weight, seed, activation=activation, parts=parts, addend=addend, heads=1)


@settings(max_examples=60, deadline=None)
@given(
    form=st.sampled_from(("sparse", "pattern", "bits")),
    rows=st.integers(0, 40),
    inputs=input_counts,
    outputs=output_counts,
    seed=seeds,
    shared=st.booleans(),
    per_channel=st.booleans(),
    activation=activations,
    parts=finishes,
    addend=st.booleans(),
)
def test_sparse_features_times_rows_and_bits_times_tables(
    form: str,
    rows: int,
    inputs: int,
    outputs: int,
    seed: int,
    shared: bool,
    per_channel: bool,
    activation: str,
    parts: dict[str, bool],
    addend: bool,
) -> None:
    integers = whole_numbers(seed, inputs, outputs)
    if per_channel:
        # One output of 0 … 255, another of -255 … 0: they cannot share a zero point.
        integers[0, 0], integers[0, -1] = 255.0, -255.0
        integers[:, 0], integers[:, -1] = integers[:, 0].abs(), -integers[:, -1].abs()
    x: Rows
    if form == "bits":
        x, weight = bit_rows(seed, rows, inputs), tabled(integers, scales(seed, outputs))
    else:
        level = "many" if form == "sparse" else "one"
        x = sparse_rows(seed, rows, inputs, level=level, shared=shared)
        weight = as_rows(integers, scales(seed, outputs))
        assert weight.packed is not None
        assert weight.packed.per == ("channel" if per_channel and outputs > 1 else "segment")
    heads = 2 if outputs % 2 == 0 else 1
    check_product(x, weight, seed, activation=activation, parts=parts, addend=addend, heads=heads)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    form=st.sampled_from(("tiles", "rows", "tables")),
    result=specs(),
    segments=row_counts,
    inputs=input_counts,
    outputs=output_counts,
    seed=seeds,
    activation=activations,
    addend=st.booleans(),
)
def test_codes_of_the_result_are_those_of_the_reference(
    form: str,
    result: QuantizerSpec,
    segments: tuple[int, ...],
    inputs: int,
    outputs: int,
    seed: int,
    activation: str,
    addend: bool,
) -> None:
    rows = sum(segments)
    integers, scale = whole_numbers(seed, inputs, outputs), scales(seed, outputs)
    x: Rows
    if form == "tiles":
        x, weight = (
            packed_rows(QuantizerSpec(8), normal(seed, rows, inputs), segments),
            tiled(integers, scale),
        )
    elif form == "rows":
        x = sparse_rows(seed, rows, inputs, level="many", shared=False)
        weight = as_rows(integers, scale)
    else:
        x, weight = bit_rows(seed, rows, inputs), tabled(integers, scale)
    finish = finish_of(seed, outputs, activation, multiply=True, add=True)
    extra = normal(seed + 2, rows, outputs) if addend else None
    values = linear(x, weight, finish, addend=extra, implementation="torch")
    assert isinstance(values, Tensor)
    bucket = torch.arange(BUCKETS).repeat_interleave(torch.tensor(segments))
    rule = rule_of(result, values, bucket if result.bucketed else None)
    finish = replace(finish, quantization=rule, rows=segments)
    got, want = (linear(x, weight, finish, addend=extra, implementation=name) for name in ("numba", "torch"))
    assert isinstance(got, PackedTensor)
    assert isinstance(want, PackedTensor)
    assert_same_codes(got, want, result.widths)


def test_sums_of_whole_numbers_are_exact() -> None:
    # The largest sums that 8-bit codes and weights give over 2,016 inputs, bits in several 16-bit chunks.
    weight = torch.full((2016, 20), 127.0)
    weight[:, ::2] = -127.0
    ones = BitFeatures(torch.full((3, 252), 255, dtype=torch.uint8), torch.ones(3), 3, 2016)
    got = linear(ones, tabled(weight, torch.ones(20)), Finish())
    assert isinstance(got, Tensor)
    assert torch.equal(got, ones.values() @ weight)
    x = packed_rows(QuantizerSpec(8), torch.cat([torch.ones(3, 2016), -torch.ones(1, 2016)]), (4,))
    rule = torch.tensor([[1.0, 0.5]])
    got = linear(replace(x, parameters=rule), tiled(weight, torch.ones(20)), Finish())
    assert isinstance(got, Tensor)
    assert torch.equal(got.double(), replace(x, parameters=rule).values().double() @ weight.double())


def test_a_scale_of_zero_leaves_the_addend() -> None:
    x = packed_rows(QuantizerSpec(8), normal(0, 5, 4), (5,))
    addend = normal(1, 5, 3)
    finish = Finish(multiply=torch.tensor([0.0, 1.0, 0.0]))
    for weight in (tiled(whole_numbers(0, 4, 3), torch.ones(3)), in_float(normal(2, 4, 3))):
        for implementation in IMPLEMENTATIONS:
            got = linear(x, weight, finish, addend=addend, implementation=implementation)
            assert isinstance(got, Tensor)
            assert torch.equal(got[:, [0, 2]], addend[:, [0, 2]])


SUBNORMAL = 1e-40


class KeptRoom(Workspace):
    """Keeps all room that it gave, which held subnormal numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[Tensor] = []

    def empty(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        room = super().empty(*shape, dtype=dtype)
        if dtype.is_floating_point:
            room.fill_(SUBNORMAL)
        self.given.append(room)
        return room


@pytest.mark.parametrize("rows", [1, 5, 7])
def test_rows_that_a_block_lacks_are_multiplied_as_zeros(rows: int) -> None:
    # Multiplying subnormal numbers takes many times longer.
    inputs = 64
    workspace = KeptRoom()
    x = packed_rows(QuantizerSpec(8), normal(0, rows, inputs), (rows,))
    with torch_threads(1):
        linear(x, in_float(normal(1, inputs, 16)), Finish(), workspace=workspace)
    _, _, unpacked = workspace.given
    block = unpacked[0, : ROWS * inputs].view(ROWS, inputs)
    last = (rows - 1) % ROWS + 1
    assert torch.allclose(block[:last], x.values()[-last:])
    assert torch.equal(block[last:], torch.zeros(ROWS - last, inputs))


def test_indices_of_16_bits_are_unsigned() -> None:
    channels = 40_000
    columns = torch.tensor([0, channels - 1])
    codes = torch.tensor([1, 3], dtype=torch.uint8)
    x = sparse_features(torch.tensor([0, 2]), columns, codes, torch.tensor([[0.5, 0.0]]), channels)
    integers = torch.zeros(channels, 2)
    integers[0], integers[-1] = torch.tensor([1.0, 2.0]), torch.tensor([10.0, -20.0])
    got = linear(x, as_rows(integers, torch.ones(2)), Finish())
    assert isinstance(got, Tensor)
    assert got.tolist() == [[15.5, -29.0]]


@pytest.mark.parametrize("form", ["tiles", "rows", "tables"])
def test_threads_change_no_bit(form: str) -> None:
    rows, integers, scale = 700, whole_numbers(0, 60, 40), scales(0, 40)
    x: Rows
    if form == "tiles":
        x, weight = packed_rows(QuantizerSpec(4), normal(0, rows, 60), (rows,)), tiled(integers, scale)
    elif form == "rows":
        x = sparse_rows(0, rows, 60, level="many", shared=False)
        weight = as_rows(integers, scale)
    else:
        x, weight = bit_rows(0, rows, 60), tabled(integers, scale)
    results = []
    for threads in (1, 2):
        with torch_threads(threads):
            results.append(linear(x, weight, Finish(activation="relu")))
    assert torch.equal(*results)
