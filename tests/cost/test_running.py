"""Calls that are timed: what they compute is tested with the operations of the space."""

from __future__ import annotations

import pytest
import torch

from sgq.cost.running import runnable
from sgq.cost.work import Runtime, Work


@pytest.mark.parametrize("runtime", ["float", "integer"])
def test_making_a_call_leaves_torchs_generator_alone(runtime: Runtime) -> None:
    torch.manual_seed(7)
    wanted = torch.rand(3)
    torch.manual_seed(7)
    runnable(Work(runtime, "linear", "relu", 8, 0, 4, 4))
    assert torch.equal(torch.rand(3), wanted)
