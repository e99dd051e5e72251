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

from sgq.runtime.packed import VECTOR

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
            print("sgq: compiling kernels for this CPU (once, up to 20 s)", file=sys.stderr, flush=True)

    def on_end(self, event: Any) -> None:
        """Say nothing."""


event.register("numba:compile", _Announcer())


SMALL_WORK = 2**19
"""Numbers touched below which a second thread costs more than it saves."""


def use_torch_threads(work: int = SMALL_WORK) -> int:
    """Let the next kernel run on as many threads as torch does, or on one where its work is small.

    Returns their number. `work` is about how many numbers it touches.
    """
    wanted = torch.get_num_threads()
    threads = 1 if work < SMALL_WORK else max(1, min(wanted, numba.config.NUMBA_NUM_THREADS))
    numba.set_num_threads(threads)
    if torch.get_num_threads() != wanted:  # starting the layer sets the number of an OpenMP that both share
        torch.set_num_threads(wanted)
    return threads


class Scratch:
    """Room for `numbers` a thread, whole vectors, those of threads apart by more than a cache line.

    `place` is what kernels take: address, bytes between threads, and numbers a thread.
    """

    def __init__(self, threads: int, numbers: int, dtype: torch.dtype = torch.float32) -> None:
        room = whole_vectors(numbers)
        self.tensor = torch.zeros(threads, -(-room // 64) * 64 + 64, dtype=dtype)
        apart = self.tensor.size(1) * self.tensor.element_size()
        self.place = (self.tensor.data_ptr(), apart, room)


def whole_vectors(numbers: int) -> int:
    """Return the next multiple of 8."""
    return -(-numbers // VECTOR) * VECTOR
