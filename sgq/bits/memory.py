"""Bytes of many assignments at once, from whatever says the bytes of one."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Protocol, runtime_checkable

import numpy as np

from sgq.bits.proposals import MemoryOf
from sgq.bits.space import Assignment, Codes, Space
from sgq.errors import SearchError


@runtime_checkable
class TabledMemory(Protocol):
    """A memory that knows the bytes of any number of assignments at once, as that of a planned space does."""

    def of_codes(self, codes: np.ndarray) -> np.ndarray:
        """Return bytes [assignments] of codes [assignments, axes]."""
        ...

    def __call__(self, assignment: Assignment) -> float:
        """Return the bytes of one assignment."""
        ...


@runtime_checkable
class SpaceWithMemory(Protocol):
    """A space that knows its own bytes: a `PlannedSpace`, whose import brings torch, which others need
    not."""

    @property
    def space(self) -> Space:
        """The axes."""
        ...

    @property
    def memory(self) -> TabledMemory:
        """The bytes of assignments."""
        ...


def memory_of_codes(space: Space, memory: Callable[[Assignment], float]) -> MemoryOf:
    """Return a function from codes [assignments, axes] to bytes [assignments]; no assignment is asked for
    twice."""
    if isinstance(memory, TabledMemory):
        return memory.of_codes
    known: dict[Codes, float] = {}

    def of_codes(codes: np.ndarray) -> np.ndarray:
        rows = [tuple(row) for row in codes.tolist()]
        for row in rows:
            if row not in known:
                known[row] = float(memory(space.assignment(row)))
                if not isfinite(known[row]):
                    raise SearchError(
                        f"memory: expected bytes (got {known[row]} for {space.assignment(row)})"
                    )
        return np.array([known[row] for row in rows])

    return of_codes
