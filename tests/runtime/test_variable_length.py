"""LEB128: exact, as short as it can be, and read strictly."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sgq.errors import CheckpointError
from sgq.runtime.variable_length import from_variable_length, to_variable_length, variable_length_bytes


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**32 - 1) | st.sampled_from([0, 127, 128, 2**14 - 1, 2**14, 2**28])))
def test_numbers_come_back_from_as_few_bytes_as_they_need(numbers: list[int]) -> None:
    values = torch.tensor(numbers, dtype=torch.int64)
    written = to_variable_length(values)
    assert written.dtype is torch.uint8
    assert written.numel() == variable_length_bytes(values)
    assert written.numel() == sum(max(1, -(-number.bit_length() // 7)) for number in numbers)
    assert torch.equal(from_variable_length(written, owner="columns"), values)


@pytest.mark.parametrize("content", [[0x80], [1, 0xFF], [0x80, 0x80, 0x80, 0x80, 0x80, 1]])
def test_a_number_without_an_end_or_too_long_is_refused(content: list[int]) -> None:
    with pytest.raises(CheckpointError, match='"columns": expected gaps of at most 5 bytes'):
        from_variable_length(torch.tensor(content, dtype=torch.uint8), owner="columns")
