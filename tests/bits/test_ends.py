"""The ends of a space in bytes, whatever order its texts are given in."""

from __future__ import annotations

import numpy as np

from sgq.bits import Space
from sgq.bits.ends import MOST_TEXTS, Ends
from tests.bits.tables import SPACE, memory_of


def test_the_ends_of_bits_are_the_narrowest_and_the_widest() -> None:
    assert Ends.of(SPACE, memory_of) == Ends(SPACE.narrowest, 20.0, 80.0, certain=True)


def test_of_texts_the_smallest_and_the_largest_are_found_in_any_order() -> None:
    space = Space.of({"first": ("c", "a", "b"), "bits": (2, 4), "second": ("x", "y")})
    bytes_of = {"a": 1.0, "b": 5.0, "c": 9.0, "x": 3.0, "y": 0.0}

    def memory(codes: np.ndarray) -> np.ndarray:
        found = map(space.assignment, codes.tolist())
        return np.array([bytes_of[str(a["first"])] + bytes_of[str(a["second"])] + a["bits"] for a in found])

    ends = Ends.of(space, memory)
    assert space.assignment(ends.smallest) == {"first": "a", "bits": 2, "second": "y"}
    assert (ends.least_bytes, ends.most_bytes, ends.certain) == (3.0, 16.0, True)


def test_of_too_many_texts_nothing_is_certain() -> None:
    space = Space.of({f"method {number}": ("lsq", "affine") for number in range(13)})
    assert space.texts == 2 * MOST_TEXTS
    ends = Ends.of(space, lambda codes: codes.sum(axis=1).astype(float))
    assert not ends.certain
    assert ends.smallest == space.narrowest
