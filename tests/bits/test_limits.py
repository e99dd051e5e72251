"""Limits are read strictly, hold as they say, and a drop counts from the widest assignment."""

from __future__ import annotations

import math

import pytest

from sgq.bits import Limits
from sgq.errors import SearchError


def test_nothing_given_limits_nothing() -> None:
    for limits in (Limits.of(None), Limits.of({})):
        assert limits == Limits()
        assert not limits.of_accuracy
        assert limits.hold(accuracy=None, memory=math.inf, reference=None)
        assert str(limits) == ""


@pytest.mark.parametrize(
    ("accuracy", "memory", "holds"),
    [(0.8, 100, True), (0.79, 100, False), (0.8, 101, False), (None, 100, False), (1.0, 0, True)],
)
def test_accuracy_and_memory_both_have_to_hold(accuracy: float | None, memory: float, holds: bool) -> None:
    limits = Limits.of({"accuracy": 0.8, "memory": 100})
    assert limits.hold(accuracy=accuracy, memory=memory, reference=None) is holds


def test_a_drop_counts_from_the_widest_and_is_not_held_while_that_is_unknown() -> None:
    limits = Limits.of({"accuracy_drop": 0.02})
    assert limits.least_accuracy(0.9) == pytest.approx(0.88)
    assert limits.hold(accuracy=0.88, memory=1.0, reference=0.9)
    assert not limits.hold(accuracy=0.879, memory=1.0, reference=0.9)
    assert limits.least_accuracy(None) is None
    assert not limits.hold(accuracy=1.0, memory=1.0, reference=None)
    assert limits.of_accuracy


def test_a_drop_of_whole_nodes_holds_whatever_subtraction_makes_of_it() -> None:
    # In floats 0.788 - 0.784 is a little more than 0.004: two of 500 nodes.
    assert 0.788 - 0.784 > 0.004
    assert Limits(accuracy_drop=0.004).hold(accuracy=0.784, memory=0.0, reference=0.788)


def test_an_accuracy_does_not_depend_on_the_widest() -> None:
    assert Limits(accuracy=0.8).least_accuracy(0.5) == 0.8
    assert Limits(memory=5.0).least_accuracy(0.5) is None


def test_limits_are_said_as_they_were_given() -> None:
    assert str(Limits.of({"accuracy": 0.8, "memory": 1000})) == "accuracy >= 0.8, memory <= 1000 bytes"
    assert str(Limits.of({"accuracy_drop": 0.004})) == "accuracy_drop <= 0.004"


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("acuracy", "accuracy"), ("accuracydrop", "accuracy_drop"), ("bytes_memory", "memory")],
)
def test_an_unknown_limit_is_answered_with_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(SearchError, match=rf'unknown limit "{name}"\. Did you mean "{nearest}"\? Known: acc'):
        Limits.of({name: 0.5})


def test_an_unknown_limit_that_is_near_to_none_is_answered_with_all() -> None:
    with pytest.raises(SearchError, match=r'unknown limit "x"\. Known: accuracy, accuracy_drop, memory$'):
        Limits.of({"x": 0.5})


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, math.inf, True, "0.5", None])
def test_an_accuracy_that_is_no_share_is_refused(value: float) -> None:
    for name in ("accuracy", "accuracy_drop"):
        with pytest.raises(SearchError, match=rf"limit {name}: expected a number from 0 to 1 \(got "):
            Limits.of({name: value})


@pytest.mark.parametrize("value", [-1, math.nan, False, "1 MB"])
def test_a_memory_that_is_no_number_of_bytes_is_refused(value: float) -> None:
    with pytest.raises(SearchError, match=r"limit memory: expected bytes of at least 0 \(got "):
        Limits.of({"memory": value})


def test_two_limits_of_accuracy_are_refused() -> None:
    with pytest.raises(SearchError, match="expected one limit of accuracy"):
        Limits.of({"accuracy": 0.8, "accuracy_drop": 0.01})
