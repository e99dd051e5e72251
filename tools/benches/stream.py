"""The memory bandwidth that plain streaming reaches on this machine, against which kernels are held."""

from __future__ import annotations

import statistics
import time

ARRAY_BYTES = 256 * 2**20
"""Of each of three arrays: far more than any cache."""
QUICK_BYTES = 2**20


def stream_bytes_per_s(*, device: str = "cpu", array_bytes: int = ARRAY_BYTES, repeats: int = 9) -> float:
    """Return the better of copy (2 arrays moved) and triad (3 arrays), medians, as STREAM counts them."""
    import torch

    count = array_bytes // 4
    first, second, result = (torch.ones(count, device=device) for _ in range(3))
    moves = (
        (2, lambda: result.copy_(first)),
        (3, lambda: torch.add(first, second, alpha=3.0, out=result)),
    )

    def wait() -> None:
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)

    best = 0.0
    for arrays, move in moves:
        move()
        seconds = []
        for _ in range(repeats):
            wait()
            start = time.perf_counter()
            move()
            wait()
            seconds.append(time.perf_counter() - start)
        best = max(best, arrays * array_bytes / statistics.median(seconds))
    return best
