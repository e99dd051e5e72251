from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sgq.runtime.features import BitFeatures, SparseFeatures, sparse_features
from tests.runtime.graphs import normal, seeds


def pattern(seed: int, rows: int, channels: int, share: float) -> tuple[Tensor, Tensor]:
    """Return the pointers and columns of a random CSR matrix."""
    generator = torch.Generator().manual_seed(seed)
    places = (torch.rand(rows, channels, generator=generator) < share).nonzero()
    pointers = torch.zeros(rows + 1, dtype=torch.int64)
    pointers[1:] = torch.bincount(places[:, 0], minlength=rows).cumsum(0)
    return pointers, places[:, 1]


def dense(pointers: Tensor, columns: Tensor, codes: Tensor, pairs: Tensor, channels: int) -> Tensor:
    """Return the features in float64; a place that stands twice counts twice."""
    rows = pointers.numel() - 1
    matrix = torch.zeros(rows, channels, dtype=torch.float64)
    for row in range(rows):
        scale, zero_point = pairs.expand(rows, 2)[row].double()
        for at in range(int(pointers[row]), int(pointers[row + 1])):
            matrix[row, columns[at]] += (codes[at].double() - zero_point) * scale
    return matrix


@settings(max_examples=40, deadline=None)
@given(
    seed=seeds,
    rows=st.integers(0, 12),
    channels=st.sampled_from((1, 7, 8, 50)),
    share=st.sampled_from((0.0, 0.03, 0.3, 1.0)),
    level=st.sampled_from(("many", "one", "one a row")),
    shared=st.booleans(),
)
def test_features_are_what_their_codes_say(
    seed: int, rows: int, channels: int, share: float, level: str, shared: bool
) -> None:
    pointers, columns = pattern(seed, rows, channels, share)
    counts = pointers.diff()
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(256, columns.shape, generator=generator)
    if level == "one":
        codes = torch.full_like(codes, 255)
    elif level == "one a row":
        codes = torch.randint(256, (rows,), generator=generator).repeat_interleave(counts)
    pairs = torch.stack([normal(seed, rows).abs() + 0.1, torch.full((rows,), 7.0)], dim=1)
    pairs = torch.tensor([[0.5, 7.0]]) if shared else pairs
    features = sparse_features(pointers, columns, codes.to(torch.uint8), pairs, channels)
    want = dense(pointers, columns, codes, pairs, channels)
    assert features.values().shape == (rows, channels)
    assert torch.allclose(features.values().double(), want, rtol=1e-6)
    if level != "many":
        assert features.form in ("pattern", "bits") or features.columns.numel() == 65


@pytest.mark.parametrize(("share", "form"), [(0.3, "bits"), (0.02, "pattern")])
def test_the_smaller_of_bits_and_indices_is_chosen(share: float, form: str) -> None:
    pointers, columns = pattern(1, 40, 400, share)
    codes = torch.ones(columns.numel(), dtype=torch.uint8)
    features = sparse_features(pointers, columns, codes, torch.tensor([[0.25, 0.0]]), 400)
    assert features.form == form
    # 400 bits are 12.5 words of 4 bytes.
    indices, bits = 2 * columns.numel(), 40 * 52
    first = next(features.tensors())
    if form == "bits":
        assert bits < indices
        assert first.shape == (40, 52)
    else:
        assert indices < bits
        assert isinstance(features, SparseFeatures)
        assert features.columns.dtype is torch.int16
        assert features.nonzeros == columns.numel()
        assert features.codes.numel() == 1


def test_codes_of_several_levels_are_kept() -> None:
    pointers, columns = pattern(2, 10, 30, 0.5)
    codes = (torch.arange(columns.numel()) % 256).to(torch.uint8)
    features = sparse_features(pointers, columns, codes, torch.tensor([[0.25, 0.0]]), 30)
    assert features.form == "sparse"
    assert isinstance(features, SparseFeatures)
    assert torch.equal(features.codes, codes)
    assert len(list(features.tensors())) == 4


def test_an_entry_that_stands_twice_is_never_a_bit() -> None:
    pointers, columns = torch.tensor([0, 3, 5]), torch.tensor([1, 1, 2, 0, 4])
    codes = torch.ones(5, dtype=torch.uint8)
    features = sparse_features(pointers, columns, codes, torch.tensor([[2.0, 0.0]]), 5)
    assert features.form == "pattern"
    assert features.values().tolist() == [[0, 4, 2, 0, 0], [2, 0, 0, 0, 2]]


def test_indices_beyond_15_and_16_bits() -> None:
    for channels, dtype in ((40_000, torch.int16), (2**16, torch.int16), (2**16 + 1, torch.int32)):
        columns = torch.tensor([0, channels - 1])
        codes = torch.tensor([1, 3], dtype=torch.uint8)
        features = sparse_features(torch.tensor([0, 2]), columns, codes, torch.tensor([[0.5, 0.0]]), channels)
        assert isinstance(features, SparseFeatures)
        assert features.columns.dtype is dtype
        assert features.values()[0, [0, channels - 1]].tolist() == [0.5, 1.5]
        assert features.values().count_nonzero() == 2


def test_bits_by_hand() -> None:
    bits = torch.tensor([[0b101, 1, 0, 0], [0, 0b10, 0, 0]], dtype=torch.uint8)
    features = BitFeatures(bits, torch.tensor([2.0, 0.5]), 2, 10)
    assert features.values().tolist() == [
        [2, 0, 2, 0, 0, 0, 0, 0, 2, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0.5],
    ]
    assert features.form == "bits"
