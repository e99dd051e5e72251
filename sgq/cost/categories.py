"""Which works of a look-up table are of one kind, and what their time depends on within it.

Reducers that read and write alike share a category (sum and mean, max and min), and so do widths whose codes
are unpacked alike; what differs by size is on the axes of a grid.
"""

from __future__ import annotations

from typing import NamedTuple

from quantizers.spec import FLOAT_BITS
from sgq.cost.footprint import kept_in_float
from sgq.cost.work import Kind, Runtime, Work

AXES: dict[Kind, tuple[str, ...]] = {
    "knn": ("rows", "k", "inputs"),
    "random": ("rows", "k"),
    "gather": ("rows", "k", "inputs"),
    "distance": ("rows", "k", "inputs"),
    "assemble": ("rows", "outputs"),
    "linear": ("rows", "inputs", "outputs"),
    "edge_network": ("rows", "k", "inputs", "outputs"),
    "pool": ("rows", "inputs"),
}
"""The numbers that the time of each kind grows with; `k` is edges a row."""
GROWTH: dict[tuple[Kind, str], float] = {("knn", "rows"): 2.0}
"""By which power of a size time grows where that is not the first: all pairs of rows are compared."""
ALIKE = {"mean": "sum", "min": "max"}
PACKED = 8
UNPACKED_APART: tuple[Kind, ...] = ("gather", "linear")
"""Kinds in which narrow codes cost otherwise than bytes do."""
WRITING_CODES: tuple[Kind, ...] = ("assemble", "linear")
"""Kinds whose time is mostly that of a row's end: fp32 and codes are apart."""


class Category(NamedTuple):
    """Works whose times differ by size alone."""

    runtime: Runtime
    kind: Kind
    variant: str
    input_bits: int
    output_bits: int

    def __str__(self) -> str:
        return f"{self.runtime} {self.kind} {self.variant} {self.input_bits}->{self.output_bits} bits"


def category_of(work: Work) -> Category:
    """Return the category of a work."""
    variant = ALIKE.get(work.variant, work.variant)
    if work.kind == "linear":
        variant = "linear"
    elif work.kind in ("distance", "edge_network"):
        variant = "max"  # lengths and networks take the time, whatever reduces them
    elif work.kind == "assemble" and work.variant not in MESSAGES:
        variant = CONCATENATION
    return Category(work.runtime, work.kind, variant, _input_class(work), _output_class(work))


MESSAGES = ("1x1", "1x2", "2x2", "4x2")
CONCATENATION = "2x1"


def _input_class(work: Work) -> int:
    if work.runtime == "float" or kept_in_float(work.input_bits):
        return FLOAT_BITS
    if work.kind in ("linear", "edge_network") and kept_in_float(work.weight_bits):
        return FLOAT_BITS
    if work.kind == "random":
        return FLOAT_BITS
    if work.kind not in UNPACKED_APART:
        return PACKED
    return next(bits for bits in (1, 2, 4, PACKED) if bits >= work.input_bits)


def _output_class(work: Work) -> int:
    if work.runtime == "float" or work.kind not in WRITING_CODES or kept_in_float(work.output_bits):
        return FLOAT_BITS
    return PACKED


def coordinates(work: Work) -> tuple[float, ...]:
    """Return where a work is on the axes of its category; works on several clouds as if on one."""
    rows = work.rows / work.clouds if work.kind in ("knn", "pool") else work.rows
    numbers = {
        "rows": rows,
        "k": work.edges / work.rows if work.rows else 0.0,
        "inputs": work.inputs,
        "outputs": work.outputs,
    }
    return tuple([max(1.0, numbers[axis]) for axis in AXES[work.kind]])


def repetitions(work: Work) -> int:
    """Return how many times the work on one cloud is done: where time grows faster than rows, by cloud."""
    return work.clouds if work.kind in ("knn", "pool") else 1
