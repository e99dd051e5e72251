"""What launches of all kernels have in common."""

from __future__ import annotations

from typing import Any

import torch

from sgq.errors import ModelError
from sgq.runtime.csr import Csr
from sgq.runtime.kernels.cuda.pieces import power_of_two
from sgq.runtime.packed import PackedTensor

GATHERED = 2048
"""Numbers that a program gathers at a time."""
MOST_EDGES = 32


def launch(kernel: Any, grid: tuple[int, ...], device: torch.device, *, tile: int, **arguments: Any) -> None:
    """Run a kernel where its tensors are, with warps for tiles of so many numbers.

    Products and sums are not fused: codes are to be rounded from the numbers that torch would give.
    """
    warps = max(1, min(8, power_of_two(tile // 512)))
    with torch.cuda.device(device if device.type == "cuda" else -1):
        kernel[grid](**arguments, num_warps=warps, enable_fp_fusion=False)


def check_segments(graph: Csr, x: PackedTensor) -> None:
    """Raise ModelError where edges do not go by the segments of the rows that they gather."""
    segments = len(x.layout.segments)
    if segments not in (1, graph.step):
        raise ModelError(
            f"expected rows in 1 segment or, like the graph's edges, in {graph.step} (got {segments}): "
            "build the graph with the rows' segments"
        )
