"""Room for results is full of ones, bit by bit: what a kernel leaves unwritten, or reads too early, shows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from sgq.runtime import workspace

fresh = workspace.large_empty


def poisoned(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return room of NaN or of the largest codes."""
    room = fresh(*shape, dtype=dtype)
    if room.numel():
        room.view(-1).view(torch.uint8).fill_(255)
    return room


@pytest.fixture(autouse=True, scope="module")
def poison() -> Iterator[None]:
    """Poison all room for the tests of a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workspace, "large_empty", poisoned)
        yield
