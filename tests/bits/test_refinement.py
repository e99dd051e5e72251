"""Below an assignment that holds: what the cost model expects to hold too, and to save most."""

from __future__ import annotations

import numpy as np
import pytest

from sgq.bits.refinement import LEAST_CHANCE, LEAST_SAVING, Known, Refiner, _best_together
from sgq.bits.space import Codes, Space

AXES = 12
SPACE = Space.of({f"axis {number}": (1, 2, 4, 8) for number in range(AXES)})
MIXED = Space.of({"kind": ("plain", "other"), "bits": (2, 4, 8)})
LIMIT = -0.004


def memory(codes: np.ndarray) -> np.ndarray:
    """Return bytes: every axis has its own bytes a bit."""
    return (2.0 ** np.asarray(codes)) @ (1.0 + np.arange(codes.shape[1]))


def accuracy(codes: np.ndarray) -> np.ndarray:
    """Return accuracies: below 2 bits all axes lose a point, below 4 bits the first half does."""
    codes = np.asarray(codes)
    return -0.01 * (codes == 0).sum(1) - 0.01 * (codes[:, : AXES // 2] == 1).sum(1)


def known_of(codes: np.ndarray, *, noise: float, repeats: int = 1, seed: int = 0) -> Known:
    chance = np.random.default_rng(seed)
    luck = chance.normal(0.0, noise / np.sqrt(repeats), len(codes))
    return Known(codes, accuracy(codes) + luck - LIMIT, np.full(len(codes), repeats), of_all(len(codes)))


def of_all(count: int) -> np.ndarray:
    return np.ones((count, 1))


def searched(count: int = 120, *, noise: float = 0.004) -> Known:
    chance = np.random.default_rng(1)
    shares = chance.random((count, 1))
    return known_of(chance.binomial(3, np.broadcast_to(shares, (count, AXES))), noise=noise)


HOLDING: Codes = (3,) * AXES


def test_what_is_proposed_is_smaller_and_mostly_holds() -> None:
    wanted = Refiner(SPACE, memory, repeats=10).smaller(searched(), HOLDING, excluded=[], count=3)
    assert len(wanted) == 3
    sizes = memory(np.array(wanted))
    assert (sizes < memory(np.array([HOLDING]))).all()
    assert list(sizes) == sorted(sizes, reverse=True)
    assert accuracy(np.array(wanted[:1])) >= LIMIT
    holding = sizes[accuracy(np.array(wanted)) >= LIMIT]
    assert holding.min() < 0.5 * memory(np.array([HOLDING]))[0]


def test_what_is_picked_together_is_safer_and_bolder_by_turns() -> None:
    # The first saves less for sure than the second does in three of four cases.
    saved, chance = np.array([0.3, 0.5, 0.6, 0.49]), np.array([1.0, 0.75, 0.25, 0.75])
    assert _best_together(saved, chance, 1) == [1]
    assert _best_together(saved, chance, 2) == [1, 0]
    # What does nearly as well as another, and holds with it, adds nothing.
    assert _best_together(saved, chance, 4) == [1, 0, 2]


def test_what_has_next_to_no_chance_is_not_picked_however_much_it_would_save() -> None:
    saved, chance = np.array([0.3, 0.99]), np.array([1.0, 0.9 * LEAST_CHANCE])
    assert 0.99 * chance[1] > LEAST_SAVING
    assert _best_together(saved, chance, 2) == [0]
    assert _best_together(saved, np.array([1.0, 3 * LEAST_CHANCE]), 2) == [0, 1]


def test_it_depends_on_its_arguments_and_the_seed_alone() -> None:
    first, second = (
        Refiner(SPACE, memory, seed=3).smaller(searched(), HOLDING, excluded=[], count=3) for _ in range(2)
    )
    assert first == second


def test_what_is_excluded_is_not_proposed() -> None:
    refiner = Refiner(SPACE, memory)
    wanted = refiner.smaller(searched(), HOLDING, excluded=[], count=3)
    others = refiner.smaller(searched(), HOLDING, excluded=wanted, count=3)
    assert others
    assert not set(others) & set(wanted)


@pytest.mark.parametrize(("repeats", "wanted"), [(1, ((0,),)), (10, ())])
def test_what_repeats_refuted_is_believed_more_than_one_measurement(
    repeats: int, wanted: tuple[Codes, ...]
) -> None:
    space = Space.of({"bits": (4, 8)})
    codes = np.array([[1]] * 8 + [[0]] * 2)
    above = np.array([0.001, 0.007] * 4 + [0.004, -0.01])  # 4 bits were inside once, and outside in the end
    known = Known(codes, above, np.array([1] * 9 + [repeats]), of_all(10))
    assert Refiner(space, memory, repeats=10).smaller(known, (1,), excluded=[], count=3) == wanted


def test_nothing_is_proposed_where_nothing_smaller_is_expected_to_hold() -> None:
    least = tuple([2] * (AXES // 2) + [1] * (AXES // 2))
    around = np.array([least, *(np.array(least) - step for step in np.eye(AXES, dtype=np.int64))])
    many = known_of(np.concatenate((around, searched().codes)), noise=0.0005, repeats=10)
    assert Refiner(SPACE, memory).smaller(many, least, excluded=[], count=3) == ()
    assert Refiner(SPACE, memory).smaller(searched(), SPACE.narrowest, excluded=[], count=3) == ()


def test_what_is_proposed_holds_a_memory_limit_below_what_it_would_be_without_one() -> None:
    free = memory(np.array(Refiner(SPACE, memory).smaller(searched(), HOLDING, excluded=[], count=3)))
    limit = 0.95 * float(free.min())
    wanted = Refiner(SPACE, memory, memory_limit=limit).smaller(searched(), HOLDING, excluded=[], count=3)
    assert wanted
    assert memory(np.array(wanted)).max() <= limit


def test_nothing_is_proposed_where_no_axis_is_of_bits_or_none_is_asked_for() -> None:
    kinds = Space.of({"kind": ("plain", "other")})
    known = Known(np.array([[0], [1]]), np.array([0.01, 0.02]), np.ones(2), of_all(2))
    assert Refiner(kinds, memory).smaller(known, (1,), excluded=[], count=3) == ()
    assert Refiner(SPACE, memory).smaller(searched(), HOLDING, excluded=[], count=0) == ()


@pytest.mark.parametrize("kind", [0, 1])
def test_only_axes_of_bits_are_narrowed(kind: int) -> None:
    codes = np.array([[kind, bits] for bits in (0, 1, 2)])
    known = Known(codes, np.array([-0.1, 0.02, 0.02]), np.full(3, 10), of_all(3))

    def of_bits(codes: np.ndarray) -> np.ndarray:
        return 2.0 ** np.asarray(codes)[:, 1]

    wanted = Refiner(MIXED, of_bits).smaller(known, (kind, 2), excluded=[], count=1)
    assert wanted == ((kind, 1),)
