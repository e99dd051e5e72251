"""Every form is exact, and the smallest is taken."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from quantizers import packed_nbytes
from sgq.errors import CheckpointError
from sgq.runtime.sparse_encoding import FORMS, EncodedCodes, decode, decode_dense, encode, stored_rows


@st.composite
def matrices(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Codes with a share of zeros, narrow or wide, one level or many, and a width for each row."""
    rows, columns = draw(st.integers(1, 12)), draw(st.sampled_from([1, 7, 64, 300, 70_000]))
    choices = draw(st.sampled_from([(1,), (4,), (8,), (12,), (16,), (32,), (8, 4, 2, 1), (32, 3)]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    widths = torch.tensor(choices)[torch.randint(len(choices), (rows,), generator=generator)]
    greatest = (1 << widths.unsqueeze(1)) - 1
    codes = (torch.rand(rows, columns, generator=generator, dtype=torch.float64) * (greatest + 1)).long()
    if draw(st.booleans()):
        codes = greatest.expand(rows, columns).clone()
    share = draw(st.sampled_from([0.0, 0.001, 0.05, 0.5, 1.0]))
    return torch.where(torch.rand(codes.shape, generator=generator) < share, codes, 0), widths


@settings(max_examples=80, deadline=None)
@given(matrices())
def test_codes_come_back_from_whichever_form_is_smallest(drawn: tuple[Tensor, Tensor]) -> None:
    codes, widths = drawn
    encoded = encode(codes, widths)
    assert encoded.form in FORMS
    assert torch.equal(decode_dense(encoded, widths), codes)
    assert torch.equal(decode(encoded, widths).to_dense(), codes)
    from_rows = encode(stored_rows(codes), widths)
    assert (from_rows.form, from_rows.levels) == (encoded.form, encoded.levels)
    for name, tensor in encoded.tensors.items():
        assert torch.equal(from_rows.tensors[name], tensor)


@settings(max_examples=80, deadline=None)
@given(matrices())
def test_no_form_is_larger_than_dense_or_than_pointers_and_plain_columns(
    drawn: tuple[Tensor, Tensor],
) -> None:
    codes, widths = drawn
    size = encode(codes, widths).nbytes
    dense = encode(codes, widths, sparse=False)
    assert dense.form == "dense"
    assert torch.equal(decode_dense(dense, widths), codes)
    stored = codes != 0
    columns = (2 if codes.size(1) <= 2**16 else 4) * int(stored.sum())
    packed = sum(
        packed_nbytes(int(stored[widths == width].sum()), int(width)) for width in widths.unique().tolist()
    )
    assert size <= min(dense.nbytes, 4 * (codes.size(0) + 1) + columns + packed)


def bag_of_words(columns: int, gap: int) -> Tensor:
    codes = torch.zeros(5, columns, dtype=torch.int64)
    codes[:, ::gap] = 1
    return codes


def test_each_form_is_taken_where_it_is_smallest() -> None:
    # Gaps of 40 fit into one byte each, gaps of 3000 take two, as a plain column does.
    one_level, two_levels = bag_of_words(4000, 40) * 200, bag_of_words(4000, 40) * 200
    two_levels[0, 0] = 100
    assert encode(one_level, 8).form == "pattern delta"
    assert encode(two_levels, 8).form == "sparse delta"
    far, far_two = bag_of_words(60_000, 30_000) * 200, bag_of_words(60_000, 30_000) * 200
    far_two[0, 0] = 100
    assert encode(far, 8).form == "pattern"
    assert encode(far_two, 8).form == "sparse"
    assert encode(torch.full((3, 3), 7), 3).form == "dense"


def test_the_bytes_of_a_pattern_with_gaps_are_a_byte_a_row_and_a_byte_a_column() -> None:
    encoded = encode(bag_of_words(4000, 40), 1)
    assert encoded.nbytes == 5 + 5 * 100
    assert encoded.levels == (1,)
    assert encoded.tensors["row_counts"].dtype is torch.uint8


def test_empty_rows_at_both_ends_and_between_keep_their_place() -> None:
    codes = torch.zeros(6, 400, dtype=torch.int64)
    codes[1, 399], codes[3, 0], codes[3, 200] = 9, 4, 4
    assert torch.equal(decode(encode(codes, 8), 8).to_dense(), codes)
    nothing = torch.zeros(3, 400, dtype=torch.int64)
    assert torch.equal(decode_dense(encode(nothing, 8), 8), nothing)


@pytest.mark.parametrize(
    ("name", "changed", "message"),
    [
        ("row_counts", lambda counts: counts[1:], "expected 5 rows"),
        ("row_counts", lambda counts: counts + 1, "expected 505 columns"),
        ("columns", lambda columns: columns[:-1], "expected 500 columns"),
        ("columns", lambda columns: columns + 80, "expected columns from 0 to 3999"),
        ("columns", lambda columns: torch.full_like(columns, 255), "all of them ended"),
        ("codes", lambda codes: codes[:-1], "expected 500 bytes"),
    ],
)
def test_parts_that_do_not_fit_are_refused(name: str, changed: object, message: str) -> None:
    codes = bag_of_words(4000, 40) * 200
    codes[0, 0] = 100
    encoded = encode(codes, 8)
    assert encoded.form == "sparse delta"
    broken: EncodedCodes = replace(
        encoded,
        tensors={**encoded.tensors, name: changed(encoded.tensors[name])},  # type: ignore[operator]
    )
    with pytest.raises(CheckpointError, match=message):
        decode(broken, 8)
