"""Which implementation of a kernel runs, and what all of them check and leave to torch."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

import sgq.runtime.kernels.reference as reference
from sgq.errors import ModelError
from sgq.runtime.finish import Finish
from sgq.runtime.kernels.contract import Implementation
from sgq.runtime.packed import PackedTensor
from sgq.runtime.workspace import Workspace


def clips_rows(finish: Finish) -> bool:
    """Return whether the ranges of rows are searched for, which `clipped` does after a kernel in fp32."""
    return finish.quantization is not None and finish.quantization.clips_rows


def check_finish(finish: Finish, rows: int, width: int) -> None:
    """Raise ModelError for a finish of other rows or channels than the sums have."""
    if finish.rows and sum(finish.rows) != rows:
        raise ModelError(f"expected segments of {rows} rows in all (got {sum(finish.rows)})")
    sizes = [numbers.numel() for numbers in (finish.multiply, finish.add) if numbers is not None]
    if width % finish.heads or any(size not in (1, width) for size in sizes):
        raise ModelError(f"expected a finish of {width} channels, {finish.heads} heads (got {sizes})")


def clipped(values: Any, finish: Finish, workspace: Workspace) -> PackedTensor:
    """Quantize rows whose ranges are searched for: the search is torch's, after the kernel."""
    quantization = finish.quantization
    assert quantization is not None
    rows = finish.rows or (values.size(0),)

    def search() -> tuple[Tensor, Tensor]:
        found = reference.quantize(values, quantization, rows, finish.heads)
        return found.codes, found.parameters

    codes, parameters = workspace.computed(search)
    layout = quantization.layout(rows, values.flatten(1).size(1) // finish.heads, heads=finish.heads)
    return PackedTensor(codes, parameters, quantization.per, layout)


def kernel_of(
    name: str, device: torch.device, implementation: Implementation | None, workspace: Workspace
) -> Any:
    """Return the function that implements a kernel."""
    chosen = implementation or {"cpu": "numba", "cuda": "triton"}.get(device.type, "torch")
    if chosen == "numba":
        from sgq.runtime.kernels.cpu import calls

        return partial(getattr(calls, name), workspace=workspace)
    if type(workspace) is not Workspace:
        raise ModelError(f"only kernels on a CPU can be bound to an arena (got {chosen})")
    if chosen == "triton":
        from sgq.runtime.kernels.cuda import calls as cuda_calls

        return getattr(cuda_calls, name)
    return getattr(reference, name)
