from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantizers import QuantizerError, pack, packed_nbytes, unpack

WIDTHS = [*range(1, 17), 32]


@settings(max_examples=200, deadline=None)
@given(data=st.data(), bits=st.sampled_from(WIDTHS), signed=st.booleans())
def test_unpack_is_the_exact_inverse_of_pack(data: st.DataObject, bits: int, signed: bool) -> None:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    codes = torch.tensor(data.draw(st.lists(st.integers(low, high), max_size=40)), dtype=torch.int64)
    packed = pack(codes, bits)
    assert packed.dtype is torch.uint8
    assert packed.numel() == packed_nbytes(codes.numel(), bits)
    assert torch.equal(unpack(packed, bits, codes.numel(), signed=signed).long(), codes)


@pytest.mark.parametrize(
    ("bits", "nbytes"), [(1, 2), (2, 3), (3, 4), (5, 6), (7, 8), (8, 9), (9, 18), (16, 18), (32, 36)]
)
def test_nine_codes_take_the_bytes_of_their_bits(bits: int, nbytes: int) -> None:
    assert packed_nbytes(9, bits) == nbytes
    assert pack(torch.zeros(3, 3, dtype=torch.int32), bits).numel() == nbytes


def test_the_bit_stream_is_little_endian_by_hand() -> None:
    assert pack(torch.tensor([1, 2, 7]), 3).tolist() == [0b11_010_001, 0b1]
    assert pack(torch.tensor([0x0102]), 16).tolist() == [2, 1]
    assert pack(torch.tensor([-1, 1]), 2).tolist() == [0b0111]


def test_floats_survive_as_32_bit_codes() -> None:
    x = torch.tensor([0.1, -2.5, float("inf")])
    packed = pack(x.view(torch.int32), 32)
    assert torch.equal(unpack(packed, 32, 3, signed=True).view(torch.float32), x)


@pytest.mark.parametrize(
    ("codes", "bits"), [([0, 4], 2), ([-3], 2), ([-1, 2], 2), ([4096], 12), ([2**32], 32)]
)
def test_codes_out_of_range_are_an_error(codes: list[int], bits: int) -> None:
    with pytest.raises(QuantizerError, match=f"expected codes of {bits} bits"):
        pack(torch.tensor(codes), bits)


def test_float_codes_wrong_widths_and_wrong_byte_counts_are_errors() -> None:
    with pytest.raises(QuantizerError, match="expected integer codes"):
        pack(torch.zeros(3), 4)
    with pytest.raises(QuantizerError, match="expected bits in 1 to 16"):
        pack(torch.zeros(3, dtype=torch.int64), 17)
    with pytest.raises(QuantizerError, match=r"expected 2 bytes .uint8. for 3 codes of 4 bits"):
        unpack(torch.zeros(3, dtype=torch.uint8), 4, 3)
