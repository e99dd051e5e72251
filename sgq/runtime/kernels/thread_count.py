"""How many threads a kernel's work is worth; the cost model counts the room that each of them takes."""

from __future__ import annotations

SMALL_WORK_S = 100e-6
"""Time on one thread below which a second one costs more than it saves."""
ROW_S, EDGE_S, NUMBER_S = 40e-9, 3e-9, 0.1e-9
"""About what a row, an edge, and each number of either take: enough to tell small work from large."""


def threads_for(available: int, *, rows: int, edges: int = 0, numbers: int = 0) -> int:
    """Return how many of the available threads a kernel runs on: all of them, or one for small work.

    `numbers` are those that it multiplies or adds, over all rows and edges.
    """
    expected_s = rows * ROW_S + edges * EDGE_S + numbers * NUMBER_S
    return 1 if expected_s < SMALL_WORK_S else max(1, available)
