"""Bytes of many assignments: each asked for once, or taken from what knows them all."""

from __future__ import annotations

import numpy as np
import pytest

from sgq.bits import search
from sgq.bits.memory import REMEMBERED, SpaceWithMemory, TabledMemory, memory_of_codes
from sgq.bits.space import Assignment, Space
from sgq.errors import SearchError
from tests.bits.tables import CHOICES, SPACE, accuracy, memory, memory_of

EVERY = np.array(list(SPACE.every()))


class Tabled:
    """A memory that knows all assignments at once, and a space that has it."""

    space = SPACE

    def __init__(self) -> None:
        self.asked = 0

    @property
    def memory(self) -> Tabled:
        return self

    def of_codes(self, codes: np.ndarray) -> np.ndarray:
        self.asked += len(codes)
        return memory_of(codes)

    def __call__(self, assignment: Assignment) -> float:
        raise AssertionError("one assignment was asked for")


def test_every_assignment_is_asked_for_once() -> None:
    asked: list[Assignment] = []

    def counting(assignment: Assignment) -> float:
        asked.append(assignment)
        return memory(assignment)

    of_codes = memory_of_codes(SPACE, counting)
    np.testing.assert_array_equal(of_codes(EVERY[:50]), memory_of(EVERY[:50]))
    np.testing.assert_array_equal(of_codes(EVERY), memory_of(EVERY))
    np.testing.assert_array_equal(of_codes(EVERY[[3, 3]]), memory_of(EVERY[[3, 3]]))
    assert len(asked) == 81


def test_what_is_remembered_is_bounded() -> None:
    space = Space.of({f"layer {number}": range(1, 9) for number in range(6)})
    asked: list[Assignment] = []

    def counting(assignment: Assignment) -> float:
        asked.append(assignment)
        return 1.0

    of_codes = memory_of_codes(space, counting)
    rows = np.array([space.at(number) for number in range(REMEMBERED + 1)])
    of_codes(rows)
    of_codes(rows[-1000:])
    assert len(asked) == REMEMBERED + 1
    of_codes(rows[:1])
    assert len(asked) == REMEMBERED + 2


def test_no_assignments_have_no_bytes() -> None:
    assert memory_of_codes(SPACE, memory)(np.zeros((0, 4), dtype=np.int64)).shape == (0,)


def test_bytes_may_be_integers_and_of_methods() -> None:
    space = Space.of({"method": ("lsq", "affine"), "weight": (2, 4)})
    of_codes = memory_of_codes(space, lambda a: int(a["weight"]) * (10 if a["method"] == "lsq" else 1))
    found = of_codes(np.array([(0, 0), (1, 1), (0, 1)]))
    assert found.tolist() == [20.0, 4.0, 40.0]
    assert found.dtype == np.float64


def test_what_knows_all_bytes_is_asked_for_all_at_once() -> None:
    tabled = Tabled()
    assert isinstance(tabled, TabledMemory)
    assert not isinstance(memory, TabledMemory)
    np.testing.assert_array_equal(memory_of_codes(SPACE, tabled)(EVERY), memory_of(EVERY))
    assert tabled.asked == 81


def test_a_space_with_memory_of_its_own_needs_no_other() -> None:
    space = Tabled()
    assert isinstance(space, SpaceWithMemory)
    result = search(space, accuracy, trials=5)
    assert [trial.memory for trial in result.trials] == [memory(t.assignment) for t in result.trials]
    assert space.asked > 0


def test_a_space_without_memory_needs_one() -> None:
    assert not isinstance(SPACE, SpaceWithMemory)
    for space in (SPACE, CHOICES):
        with pytest.raises(SearchError, match=r"expected memory, a function from an assignment to its bytes"):
            search(space, accuracy, trials=5)


def test_an_error_of_the_memory_is_an_error_of_the_search() -> None:
    def broken(assignment: Assignment) -> float:
        raise ZeroDivisionError("no layers")

    with pytest.raises(ZeroDivisionError, match="no layers"):
        search(CHOICES, accuracy, broken, trials=5)
