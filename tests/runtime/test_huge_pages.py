from __future__ import annotations

import pytest
import torch

from sgq.runtime.huge_pages import LEAST_BYTES, large_empty


@pytest.mark.parametrize("size", [0, 3, LEAST_BYTES - 1, LEAST_BYTES, LEAST_BYTES + 12_345])
def test_a_buffer_can_be_filled_from_end_to_end(size: int) -> None:
    buffer = large_empty(size, dtype=torch.uint8)
    assert (buffer.shape, buffer.dtype) == ((size,), torch.uint8)
    assert int(buffer.fill_(7).sum()) == 7 * size


def test_rows_and_their_type() -> None:
    rows = large_empty(1000, 2000)
    assert (rows.shape, rows.dtype, rows.is_contiguous()) == ((1000, 2000), torch.float32, True)
