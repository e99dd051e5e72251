"""How kernels are compiled: in parallel, without Python, kept on disk until any of their sources changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit

EXACT = {"contract", "reassoc", "nsz", "arcp"}
"""Liberties of arithmetic that leave infinities and NaN what they are."""


def parallel_kernel(function: Callable[..., Any]) -> Any:
    """Compile a function whose outer loop is a `prange`, with a cache on disk.

    numba's cache looks at the function's own file alone; ours goes stale with all files of the folder.
    """
    kernel = njit(parallel=True, nogil=True, fastmath=EXACT, error_model="numpy", cache=True)(function)
    kernel._cache._cache_file._source_stamp = _stamp()
    return kernel


def row_function(function: Callable[..., Any]) -> Any:
    """Compile a function that kernels call, row by row."""
    return njit(nogil=True, fastmath=EXACT, error_model="numpy")(function)


def _stamp() -> tuple[float, int]:
    """Return the latest change and the joint size of the kernels' sources, as numba does of one file."""
    states = [path.stat() for path in sorted(Path(__file__).parent.glob("*.py"))]
    return max(state.st_mtime for state in states), sum(state.st_size for state in states)
