"""The search for a range tries every clipping in turn and keeps the one of least squared error."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from quantizers import clipping
from quantizers.clipping import least_error_range
from quantizers.groups import GroupedValues

CANDIDATES = 8


def searched(data: GroupedValues, *, bits: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    return least_error_range(
        data, data.range(), bits=bits, symmetric=False, signed=False, candidates=CANDIDATES
    )


def test_a_rare_outlier_is_clipped_as_far_as_it_pays() -> None:
    """Two bits on 100 values of 1 and one of 2.5, in steps of an eighth of the range."""
    values = torch.cat([torch.ones(100), torch.tensor([2.5])]).reshape(1, -1)
    errors = []
    for step in range(CANDIDATES, 0, -1):
        scale = 2.5 * step / CANDIDATES / 3
        codes = (values / scale).round().clamp(0, 3)
        errors.append(float((codes * scale - values).square().sum()))
    wanted = 2.5 * (CANDIDATES - errors.index(min(errors))) / CANDIDATES
    lower, upper = searched(GroupedValues(values, 1), bits=2)
    assert lower.tolist() == [0.0]
    assert upper.tolist() == pytest.approx([wanted])
    assert wanted < 2.5


def test_of_equal_errors_the_wider_range_wins() -> None:
    """Zeros are exact in every range, whatever the widest one was."""
    widest = torch.tensor([-1.0]), torch.tensor([4.0])
    zeros = GroupedValues(torch.zeros(1, 5), 1)
    found = least_error_range(zeros, widest, bits=4, symmetric=False, signed=False, candidates=CANDIDATES)
    assert all(map(torch.equal, found, widest))


@given(st.integers(1, 7), st.integers(0, 5), st.sampled_from([1, 5, 8]))
def test_how_many_ranges_are_tried_at_once_changes_nothing(groups: int, seed: int, at_once: int) -> None:
    data = GroupedValues(torch.randn(groups, 50, generator=torch.Generator().manual_seed(seed)), groups)
    wanted = searched(data)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(clipping, "AT_ONCE", at_once)
        found = searched(data)
    assert all(map(torch.equal, found, wanted))


def test_no_groups_have_no_ranges() -> None:
    lower, upper = searched(GroupedValues(torch.empty(0, 1), 0))
    assert lower.shape == upper.shape == (0,)
