from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sgq.runtime.weights import (
    as_rows,
    in_float,
    padded_outputs,
    table_chunk,
    tabled,
    tiled,
)
from tests.runtime.graphs import seeds

inputs_counts = st.sampled_from((1, 2, 7, 8, 33))
output_counts = st.sampled_from((1, 8, 15, 16, 17, 64, 70))


def whole_numbers(seed: int, inputs: int, outputs: int, largest: int = 127) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-largest, largest + 1, (inputs, outputs), generator=generator).float()


@settings(max_examples=30, deadline=None)
@given(seed=seeds, inputs=inputs_counts, outputs=output_counts, largest=st.sampled_from((1, 7, 127)))
def test_every_form_keeps_the_whole_numbers(seed: int, inputs: int, outputs: int, largest: int) -> None:
    integers = whole_numbers(seed, inputs, outputs, largest)
    scale = torch.rand(outputs, generator=torch.Generator().manual_seed(seed)) + 0.1
    for form, made in (("tiles", tiled), ("tables", tabled), ("rows", as_rows)):
        weight = made(integers, scale)
        assert weight.form == form
        assert torch.equal(weight.integers(), integers)
        assert torch.equal(weight.values(), integers * scale)
        assert (weight.inputs, weight.outputs) == (inputs, outputs)
        assert weight.largest == integers.abs().max()
        assert padded_outputs(weight) >= outputs


def test_tiles_by_hand() -> None:
    # Pairs of inputs lie next to one another, 16 outputs a tile, the rest is 0.
    weight = tiled(torch.arange(1.0, 7.0).view(3, 2), torch.ones(2))
    assert weight.data.shape == (1, 2, 16, 2)
    assert weight.data[0, 0, :2].tolist() == [[1, 3], [2, 4]]
    assert weight.data[0, 1, :2].tolist() == [[5, 0], [6, 0]]
    assert weight.data.dtype is torch.int16
    assert int(weight.data.sum()) == 21


def test_tables_hold_the_sums_of_every_four_inputs() -> None:
    integers = whole_numbers(0, 10, 3)
    weight = tabled(integers, torch.ones(3))
    # 10 inputs are one word of 32 bits: eight tables, of which three are needed.
    assert weight.data.shape == (1, 8, 16, 64)
    for half in range(8):
        for chosen in range(16):
            inputs = [4 * half + k for k in range(4) if chosen >> k & 1 and 4 * half + k < 10]
            assert torch.equal(weight.data[0, half, chosen, :3].float(), integers[inputs].sum(0))
    assert weight.data[..., 3:].eq(0).all()


@pytest.mark.parametrize("largest", [1, 7, 127, 1023])
def test_a_chunk_of_bits_never_overflows_16_bits(largest: int) -> None:
    weight = tabled(torch.full((8, 1), float(largest)), torch.ones(1))
    assert table_chunk(weight) * 8 * largest <= 2**15 - 1
    assert table_chunk(weight) >= 1


def test_rows_share_a_zero_point_where_one_range_holds_all_outputs() -> None:
    shared = as_rows(torch.tensor([[-127.0, 3.0], [100.0, 120.0]]), torch.ones(2))
    assert shared.packed is not None
    assert shared.packed.per == "segment"
    # Together the outputs span 382 levels, each of them no more than 255.
    apart = as_rows(torch.tensor([[-127.0, 0.0], [0.0, 255.0]]), torch.ones(2))
    assert apart.packed is not None
    assert apart.packed.per == "channel"
    assert apart.integers().tolist() == [[-127.0, 0.0], [0.0, 255.0]]


def test_weights_in_float_are_the_values_themselves() -> None:
    values = torch.randn(3, 5, dtype=torch.float64)
    weight = in_float(values)
    assert torch.equal(weight.values(), values.float())
    assert torch.equal(weight.integers(), values.float())
    assert [tensor.numel() for tensor in weight.tensors()] == [16 * 3, 1]


def test_weights_say_what_they_hold_in_memory() -> None:
    integers, scale = whole_numbers(0, 4, 3), torch.ones(3)
    assert [tensor.nbytes for tensor in tiled(integers, scale).tensors()] == [2 * 16 * 2 * 2, 12]
    assert [tensor.nbytes for tensor in as_rows(integers, scale).tensors()] == [4 * 8, 8, 12]
