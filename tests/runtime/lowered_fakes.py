"""A stand-in for a lowered model, which simulates: what measures it needs its sizes and its report only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sgq.graph.inputs import call
from sgq.runtime.lowering.report import LoweredLayer, LoweringReport


@dataclass(frozen=True)
class FakeInputs:
    nbytes: int = 1000
    feature_nbytes: int = 400


class FakeLowered:
    """Runs the simulated model; says that its second layer stayed simulated."""

    def __init__(self, model: nn.Module, data: Any) -> None:
        self.model, self.data = model, data
        self.nbytes, self.inputs = 200, FakeInputs()
        self.report = LoweringReport(
            (
                LoweredLayer("convs.0", "GCNConv", lowered=True, reason=""),
                LoweredLayer("convs.1", "GCNConv", lowered=False, reason="its output feeds a sort"),
            ),
            feature_form="packed",
        )

    def __call__(self) -> Tensor:
        bucket = self.data.get("bucket")
        with torch.inference_mode():
            outputs: Tensor = call(self.model, self.data, bucket=bucket)
        return outputs
