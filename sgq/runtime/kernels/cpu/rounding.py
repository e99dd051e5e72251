"""Finishing rows that are already there: quantizing an fp32 tensor, degree bucket by degree bucket."""

from __future__ import annotations

from numba import get_thread_id, prange

from sgq.runtime.kernels.cpu import lanes as lane
from sgq.runtime.kernels.cpu.compiling import parallel_kernel
from sgq.runtime.kernels.cpu.finishing import ONE, ZERO, finish_row
from sgq.runtime.kernels.cpu.memory import load_number, store_number

ROW_BLOCK = 64


@parallel_kernel
def finish_rows(rows, values, width, scratch, apart, room, finish):  # fmt: skip
    """Finish each row of `values` [rows, width] fp32, an address."""
    blocks = (rows + ROW_BLOCK - 1) // ROW_BLOCK
    whole = width // 8 * 8
    for block in prange(blocks):
        here = scratch + get_thread_id() * apart
        lane.fill_lanes(room, here, ZERO)
        for row in range(block * ROW_BLOCK, min(rows, block * ROW_BLOCK + ROW_BLOCK)):
            start = values + 4 * row * width
            lane.copy_lanes(whole, start, here)
            for k in range(whole, width):
                store_number(here, k, load_number(start, k))
            finish_row(here, row, ONE, ZERO, finish)
