"""Threads of the CPU kernels: a layer that may be called from several threads, as many as torch uses.

Compiled code is cached on disk; what is not there yet is compiled once, and said so.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import numba
import torch
from numba.core import event

from sgq.runtime.kernels.thread_count import threads_for
from sgq.runtime.packed import VECTOR
from sgq.runtime.workspace import Workspace

if "NUMBA_THREADING_LAYER" not in os.environ:
    numba.config.THREADING_LAYER = "threadsafe"


class _Announcer(event.Listener):
    """Says once a process that kernels are being compiled."""

    def __init__(self) -> None:
        self.said = False

    def on_start(self, event: Any) -> None:
        """Say so at the first of our functions."""
        if not self.said and event.data["dispatcher"].py_func.__module__.startswith(__package__):
            self.said = True
            print(
                "sgq: compiling kernels for this CPU (once, up to half a minute)", file=sys.stderr, flush=True
            )

    def on_end(self, event: Any) -> None:
        """Say nothing."""


event.register("numba:compile", _Announcer())


def torch_threads(*, rows: int, edges: int = 0, numbers: int = 0) -> int:
    """Return how many threads a kernel runs on: as many as torch does, or one where its work is small."""
    available: int = min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS)
    return threads_for(available, rows=rows, edges=edges, numbers=numbers)


def run_on(threads: int, kernel: Any, arguments: tuple[Any, ...], held: Any) -> None:
    """Call a kernel on so many threads; `held` is what its arguments have addresses of."""
    wanted = torch.get_num_threads()
    numba.set_num_threads(threads)
    if torch.get_num_threads() != wanted:  # starting the layer sets the number of an OpenMP that both share
        torch.set_num_threads(wanted)
    kernel(*arguments)


class Scratch:
    """Room for `numbers` a thread, whole vectors, those of threads apart by more than a cache line.

    `place` is what kernels take: the address, and the bytes between threads.
    """

    def __init__(
        self, workspace: Workspace, threads: int, numbers: int, dtype: torch.dtype = torch.float32
    ) -> None:
        room = whole_vectors(numbers)
        self.tensor = workspace.empty(threads, -(-room // 64) * 64 + 64, dtype=dtype)
        apart = self.tensor.size(1) * self.tensor.element_size()
        self.place = (self.tensor.data_ptr(), apart)


def whole_vectors(numbers: int) -> int:
    """Return the next multiple of 8."""
    return -(-numbers // VECTOR) * VECTOR
