from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sgq.runtime.packed import (
    PackedTensor,
    held_bits,
    layout_of,
    pack_rows,
    row_bytes,
    unpacked,
    with_head_padding,
)
from tests.runtime.graphs import normal, seeds


def test_a_width_is_held_at_the_next_that_is_computed() -> None:
    assert [held_bits(bits) for bits in range(1, 9)] == [1, 2, 4, 4, 8, 8, 8, 8]
    assert {held_bits(bits) for bits in (*range(9, 17), 32)} == {32}


@pytest.mark.parametrize(
    ("width", "bits", "expected"),
    [
        (1, 8, 8),
        (8, 8, 8),
        (9, 8, 16),
        (16, 4, 8),
        (17, 4, 16),
        (64, 1, 8),
        (65, 1, 16),
        (3, 32, 32),
        (0, 4, 0),
    ],
)
def test_rows_take_a_multiple_of_8_bytes(width: int, bits: int, expected: int) -> None:
    assert row_bytes(width, bits) == expected


def test_planes_by_hand() -> None:
    # 12 channels of 4 bits: 8 bytes of two planes, channel 8 + k in the upper half of byte k.
    layout = layout_of((1,), 12, (4,))
    packed = pack_rows(torch.arange(12.0).unsqueeze(0), layout)
    assert packed.tolist() == [0x80, 0x91, 0xA2, 0xB3, 4, 5, 6, 7]
    # 10 channels of 1 bit: channel 8 p + k is bit p of byte k.
    bits = torch.tensor([[1, 0, 1, 0, 0, 0, 0, 1, 1, 1]])
    assert pack_rows(bits, layout_of((1,), 10, (1,))).tolist() == [3, 2, 1, 0, 0, 0, 0, 1]


def test_segments_follow_one_another_at_their_own_widths() -> None:
    layout = layout_of((2, 0, 3), 20, (8, 2, 16))
    assert [s.bits for s in layout.segments] == [8, 2, 32]
    assert [s.first_row for s in layout.segments] == [0, 2, 2]
    assert [s.row_bytes for s in layout.segments] == [24, 8, 96]
    assert [s.first_byte for s in layout.segments] == [0, 48, 48]
    assert layout.nbytes == 2 * 24 + 3 * 96
    assert layout.rows == 5


def test_heads_are_padded_to_8_channels_only_where_there_are_several() -> None:
    assert (layout_of((2,), 5, (8,)).head_channels, layout_of((2,), 5, (8,)).width) == (5, 5)
    layout = layout_of((2,), 5, (8,), heads=3)
    assert (layout.head_channels, layout.width) == (8, 24)
    values = torch.ones(2, 3, 5)
    padded = with_head_padding(values, layout)
    assert padded.shape == (2, 24)
    assert torch.equal(padded.view(2, 3, 8)[..., :5], values)
    assert padded.sum() == values.sum()


@settings(max_examples=60, deadline=None)
@given(
    seed=seeds,
    channels=st.integers(1, 140),
    heads=st.integers(1, 3),
    segments=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 16) | st.just(32)), min_size=1, max_size=4),
)
def test_unpacking_is_the_inverse_of_packing(
    seed: int, channels: int, heads: int, segments: list[tuple[int, int]]
) -> None:
    rows, widths = (tuple(numbers) for numbers in zip(*segments, strict=True))
    layout = layout_of(rows, channels, widths, heads=heads)
    stored = normal(seed, layout.rows, layout.width)
    for segment, bits in zip(layout.segments, widths, strict=True):
        if segment.bits != 32:
            here = stored[segment.first_row : segment.first_row + segment.rows]
            here.copy_(here.abs().mul(1e6).floor().remainder(2**bits))
    codes = pack_rows(stored, layout)
    assert codes.dtype is torch.uint8
    assert codes.numel() == layout.nbytes
    packed = PackedTensor(codes, torch.tensor([[1.0, 0.0]] * len(rows)), "segment", layout)
    assert torch.equal(unpacked(packed), stored)
    expected = (layout.rows, channels) if heads == 1 else (layout.rows, heads, channels)
    assert packed.shape == packed.values().shape == packed.code_values().shape == expected


def test_padding_between_channels_and_the_end_of_a_row_is_zero() -> None:
    layout = layout_of((3,), 5, (4,))
    packed = pack_rows(torch.full((3, 5), 15.0), layout).view(3, 8)
    assert packed[:, :5].eq(15).all()
    assert packed[:, 5:].eq(0).all()


def test_values_are_codes_minus_zero_point_times_scale() -> None:
    codes = torch.tensor([[0.0, 3.0], [1.0, 2.0], [0.5, -1.5]])
    layout = layout_of((1, 1, 1), 2, (2, 4, 32))
    pairs = torch.tensor([[2.0, 1.0], [0.5, 0.0], [1.0, 0.0]])
    by_segment = PackedTensor(pack_rows(codes, layout), pairs, "segment", layout)
    assert by_segment.values().tolist() == [[-2.0, 4.0], [0.5, 1.0], [0.5, -1.5]]
    assert by_segment.code_values().tolist() == codes.tolist()
    layout = layout_of((2,), 2, (8,))
    packed = pack_rows(codes[:2], layout)
    by_row = PackedTensor(packed, pairs[:2], "row", layout)
    assert by_row.values().tolist() == [[-2.0, 4.0], [0.5, 1.0]]
    by_channel = PackedTensor(packed, pairs[:2], "channel", layout)
    assert by_channel.values().tolist() == [[-2.0, 1.5], [0.0, 1.0]]


def test_bytes_in_memory_are_codes_and_parameters() -> None:
    layout = layout_of((4,), 16, (4,))
    packed = PackedTensor(pack_rows(torch.zeros(4, 16), layout), torch.ones(4, 2), "row", layout)
    assert packed.nbytes == 4 * 8 + 4 * 2 * 4
    assert [tensor.numel() for tensor in packed.tensors()] == [32, 8]
    assert packed.device.type == "cpu"
