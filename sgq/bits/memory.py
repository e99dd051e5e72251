"""Bytes of many assignments at once, from whatever says the bytes of one."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
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


SAMPLED = 8
REMEMBERED = 20_000
"""Bytes of so many assignments are remembered: a few rounds of candidates, in a few megabytes."""


def sampled_bytes(space: Space, memory: MemoryOf) -> dict[str, str]:
    """Return the bytes of the ends of a space and of some assignments between, as texts by name.

    They tell one memory from another. In the tenth digit two machines may differ that add floats up.
    """
    drawn = space.sample(np.random.default_rng(0), SAMPLED)
    packed_bytes = memory(np.array([space.narrowest, space.widest, *drawn]))
    names = ("narrowest", "widest", *(f"sample {number}" for number in range(1, SAMPLED + 1)))
    return {name: f"{size:.9g}" for name, size in zip(names, packed_bytes.tolist(), strict=True)}


def memory_of_codes(space: Space, memory: Callable[[Assignment], float]) -> MemoryOf:
    """Return a function from codes [assignments, axes] to bytes [assignments].

    An assignment is not asked for again while it is among the last `REMEMBERED`.
    """
    if isinstance(memory, TabledMemory):
        return memory.of_codes

    @lru_cache(REMEMBERED)
    def of_one(row: Codes) -> float:
        packed_bytes = float(memory(space.assignment(row)))
        if not isfinite(packed_bytes):
            raise SearchError(f"memory: expected bytes (got {packed_bytes} for {space.assignment(row)})")
        return packed_bytes

    return lambda codes: np.array([of_one(tuple(row)) for row in codes.tolist()])
