"""Spaces keep bits in order, tell their assignments apart, and refuse what cannot be searched."""

from __future__ import annotations

import json
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgq.bits import Axis, Space
from sgq.errors import SearchError

MIXED = Space.of({"weight": (8, 2, 4), "method": ("lsq", "affine"), "input": (4, 8)})

axes = st.one_of(
    st.lists(st.integers(1, 32), min_size=1, max_size=4, unique=True),
    st.lists(st.sampled_from(["affine", "lsq", "degree", "a2q"]), min_size=1, max_size=3, unique=True),
)
spaces = st.lists(axes, min_size=1, max_size=4).map(
    lambda rows: Space.of({f"axis {number}": row for number, row in enumerate(rows)})
)


def test_bits_are_sorted_and_names_of_methods_stay_as_given() -> None:
    assert MIXED.axes[0].choices == (2, 4, 8)
    assert MIXED.axes[1].choices == ("lsq", "affine")
    assert [axis.ordered for axis in MIXED.axes] == [True, False, True]


def test_the_ends_of_a_space_take_the_first_choice_where_there_is_no_order() -> None:
    assert MIXED.assignment(MIXED.widest) == {"weight": 8, "method": "lsq", "input": 8}
    assert MIXED.assignment(MIXED.narrowest) == {"weight": 2, "method": "lsq", "input": 4}


def test_one_width_everywhere_exists_only_where_all_axes_of_bits_have_it() -> None:
    assert MIXED.shared_widths == (4, 8)
    assert MIXED.uniform(4) == (1, 0, 0)
    assert MIXED.uniform(2) is None
    assert Space.of({"method": ("lsq", "affine")}).shared_widths == ()
    assert Space.of({"weight": (2, 4), "input": (8, 16)}).shared_widths == ()


def test_all_assignments_are_counted_and_come_narrowest_first() -> None:
    assert MIXED.size == 12
    assert MIXED.counts == (3, 2, 2)
    every = list(MIXED.every())
    assert every == list(product(range(3), range(2), range(2)))
    assert (every[0], every[-1]) == (MIXED.narrowest, (2, 1, 1))


@settings(max_examples=60, deadline=None)
@given(spaces)
def test_codes_and_assignments_stand_for_each_other(space: Space) -> None:
    every = list(space.every())
    assert len(set(every)) == len(every) == space.size
    for number, codes in enumerate(every):
        assert space.codes(space.assignment(codes)) == codes
        assert space.at(number) == codes


@settings(max_examples=60, deadline=None)
@given(spaces, st.integers(0, 2**32 - 1))
def test_random_assignments_are_of_the_space_and_follow_from_the_seed(space: Space, seed: int) -> None:
    drawn = space.sample(np.random.default_rng(seed), 20)
    assert drawn.shape == (20, len(space.axes))
    assert set(map(tuple, drawn.tolist())) <= set(space.every())
    np.testing.assert_array_equal(drawn, space.sample(np.random.default_rng(seed), 20))


@settings(max_examples=60, deadline=None)
@given(spaces)
def test_a_space_survives_json_and_keeps_its_digest(space: Space) -> None:
    again = Space.of(json.loads(json.dumps(space.to_json())))
    assert again == space
    assert again.digest == space.digest


def test_random_assignments_reach_every_choice() -> None:
    drawn = MIXED.sample(np.random.default_rng(0), 200)
    assert [set(column) for column in drawn.T.tolist()] == [{0, 1, 2}, {0, 1}, {0, 1}]


@pytest.mark.parametrize(
    "other",
    [
        {"weight": (2, 4), "method": ("lsq", "affine"), "input": (4, 8)},
        {"weight": (2, 4, 8), "method": ("affine", "lsq"), "input": (4, 8)},
        {"method": ("lsq", "affine"), "weight": (2, 4, 8), "input": (4, 8)},
        {"weights": (2, 4, 8), "method": ("lsq", "affine"), "input": (4, 8)},
    ],
    ids=["a choice", "the order of texts", "the order of axes", "a name"],
)
def test_the_digest_changes_with(other: dict[str, tuple[int | str, ...]]) -> None:
    assert Space.of(other).digest != MIXED.digest


def test_the_digest_does_not_depend_on_the_order_in_which_bits_are_given() -> None:
    assert Space.of({"weight": (8, 2)}).digest == Space.of({"weight": (2, 8)}).digest


def test_a_large_space_is_counted_and_not_listed() -> None:
    space = Space.of({f"layer {number}": (1, 2, 4, 8, 16) for number in range(40)})
    assert space.size == 5**40
    assert next(space.every()) == space.narrowest
    assert space.at(space.size - 1) == space.widest


def test_a_space_of_single_choices_has_one_assignment() -> None:
    space = Space.of({"weight": (4,), "method": ("lsq",)})
    assert space.size == 1
    assert list(space.every()) == [space.widest] == [space.narrowest]


# What is refused.


def test_an_empty_space_is_refused() -> None:
    with pytest.raises(SearchError, match=r"at least one axis of choices \(got an empty space\)"):
        Space.of({})


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ((), r'axis "weight": expected at least one choice \(got none\)'),
        ((2, "lsq"), r"all integers or all texts \(got \[2, 'lsq'\]\)"),
        ((2, 4.0), r"all integers or all texts"),
        ((True, False), r"all integers or all texts"),
        ((None,), r"all integers or all texts"),
        ((0, 2), r"bits of at least 1 \(got \[0, 2\]\)"),
        ((-4, 2), r"bits of at least 1"),
        ((4, 2, 4), r"choices that differ \(got \[4, 2, 4\]\)"),
        (("lsq", "lsq"), r"choices that differ"),
    ],
)
def test_choices_that_cannot_be_meant_are_refused(choices: tuple[int, ...], message: str) -> None:
    with pytest.raises(SearchError, match=message):
        Space.of({"input": (2, 4), "weight": choices})


def test_two_axes_of_one_name_are_refused() -> None:
    with pytest.raises(SearchError, match=r'axes that differ in name \(got "weight" twice\)'):
        Space((Axis("weight", (2, 4)), Axis("input", (2, 4)), Axis("weight", (8,))))


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ({"weight": 4, "method": "lsq"}, 'nothing for the axis "input"'),
        (
            {"weight": 4, "method": "lsq", "inputs": 4},
            r'the space has no axis "inputs"\. Did you mean "input"\?',
        ),
        ({"weight": 3, "method": "lsq", "input": 4}, r'axis "weight" has choices \[2, 4, 8\] \(got 3\)'),
        ({"weight": 4, "method": "minmax", "input": 4}, r"\['lsq', 'affine'\] \(got 'minmax'\)"),
    ],
)
def test_an_assignment_of_another_space_is_refused(assignment: dict[str, int | str], message: str) -> None:
    with pytest.raises(SearchError, match=message):
        MIXED.codes(assignment)
