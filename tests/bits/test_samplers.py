"""All samplers under one interface, on a table of 81 assignments, and Optuna's own kit for ours."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import numpy as np
import pytest
from optuna.samplers import BaseSampler
from optuna.testing.pytest_samplers import BasicSamplerTestCase, MultiObjectiveSamplerTestCase

from sgq.bits import AbsSampler, Limits, SearchResult, Space, search
from sgq.bits.samplers import SAMPLERS, check_sampler, make_sampler
from sgq.bits.worker import HOPELESS_AFTER
from sgq.errors import SearchError
from tests.bits.tables import (
    BEST,
    CHOICES,
    SPACE,
    TOP,
    accuracy,
    assert_no_twins,
    keys,
    memory,
    memory_of,
    new_study,
    proposed,
)

DRAWN = tuple(name for name in SAMPLERS if name not in ("exhaustive", "milp"))
"""Those that another seed gives other trials."""


@cache
def searched(name: str, *, seed: int = 0, again: bool = False, **limit: float) -> SearchResult:
    """Return what a sampler finds in the table; `again` looks a second time."""
    return search(CHOICES, accuracy, memory, trials_of(name), name, limit, seed=seed)


def trials_of(name: str) -> int:
    return 81 if name == "exhaustive" else 20


class TestBesideTheAxes(BasicSamplerTestCase, MultiObjectiveSamplerTestCase):
    """Optuna's kit for samplers of a space: parameters that are no axis, and two objectives."""

    @pytest.fixture(params=["tree", "milp", "exhaustive"])
    def sampler(self, request: pytest.FixtureRequest) -> Callable[[], BaseSampler]:
        return partial(make_sampler, request.param, SPACE, memory_of, limits=Limits(), seed=0)


@pytest.mark.parametrize("name", SAMPLERS)
def test_no_assignment_is_measured_twice_and_the_widest_comes_first(name: str) -> None:
    result = searched(name, accuracy=0.8)
    assert len(result.trials) == trials_of(name)
    assert_no_twins(result)
    assert result.trials[0].assignment == SPACE.assignment(SPACE.widest)
    assert result.reference == TOP


@pytest.mark.parametrize("name", SAMPLERS)
def test_all_of_a_space_is_measured_where_there_are_trials_enough(name: str) -> None:
    space = {"weight": (2, 4, 8), "method": ("lsq", "affine"), "fixed": (4,)}
    found = search(space, lambda a: 0.9 - 0.1 / int(a["weight"]), lambda a: float(a["weight"]), 200, name)
    assert len(found.trials) == 6
    assert_no_twins(found)


def test_axes_beside_the_widest_choices_cannot_be_measured_under_a_memory_limit() -> None:
    with pytest.raises(SearchError, match=r"milp .* over the memory limit: take one of abs, "):
        searched("milp", memory=44.0)
    assert searched("milp", memory=80.0).feasible


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "milp"])
def test_nothing_over_the_memory_limit_is_measured(name: str) -> None:
    result = searched(name, memory=44.0)
    inside = {codes for codes in SPACE.every() if memory(SPACE.assignment(codes)) <= 44.0}
    assert {SPACE.codes(trial.assignment) for trial in result.trials} <= inside
    assert len(result.trials) == min(trials_of(name), len(inside))
    assert_no_twins(result)
    assert result.feasible
    assert result.best is not None
    assert result.best.accuracy == max(trial.accuracy or 0.0 for trial in result.trials)


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_best_is_the_smallest_measured_one_inside_the_limit(name: str) -> None:
    result = searched(name, accuracy=0.8)
    inside = [trial for trial in result.trials if (trial.accuracy or 0.0) >= 0.8]
    assert result.best is not None
    assert result.best.memory == min(trial.memory for trial in inside)
    assert result.holds(result.best)


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_same_seed_gives_the_same_trials(name: str) -> None:
    first, second = (searched(name, seed=5, again=again).trials for again in (False, True))
    assert first is not second
    assert keys(trial.assignment for trial in first) == keys(trial.assignment for trial in second)


@pytest.mark.parametrize("name", DRAWN)
def test_another_seed_gives_other_trials(name: str) -> None:
    first, second = (searched(name, seed=seed).trials for seed in (5, 6))
    assert keys(trial.assignment for trial in first) != keys(trial.assignment for trial in second)


@pytest.mark.parametrize("name", ["abs", "milp", "exhaustive"])
def test_what_models_accuracy_finds_the_best_of_the_table(name: str) -> None:
    result = searched(name, accuracy_drop=0.0)
    assert result.best is not None
    assert result.best.assignment == BEST


@pytest.mark.parametrize("name", SAMPLERS)
def test_an_evaluation_that_fails_for_some_fails_their_trials_only(name: str) -> None:
    def evaluate(assignment: dict[str, int]) -> float:
        if assignment["weight"] == 4:
            raise RuntimeError("four bits are broken")
        return accuracy(assignment)

    result = search(CHOICES, evaluate, memory, trials_of(name), name, {"accuracy": 0.8})
    assert len(result.trials) == trials_of(name)
    assert_no_twins(result)
    for trial in result.trials:
        if trial.assignment["weight"] == 4:
            assert (trial.state, trial.accuracy) == ("failed", None)
            assert trial.reason == "RuntimeError: four bits are broken"
            assert trial.memory == memory(trial.assignment)
        else:
            assert (trial.state, trial.accuracy) == ("finished", accuracy(trial.assignment))
    assert any(trial.state == "failed" for trial in result.trials)
    assert result.best is not None
    assert result.best.assignment["weight"] != 4


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_search_in_which_everything_fails_ends(name: str) -> None:
    def evaluate(assignment: object) -> float:
        raise RuntimeError("no device")

    result = search(CHOICES, evaluate, memory, trials_of(name), name)
    trials = min(trials_of(name), HOPELESS_AFTER)
    assert len(result.trials) == trials
    assert_no_twins(result)
    assert (result.best, result.front, result.feasible) == (None, (), False)
    assert result.remark == f"none of {trials} evaluations gave an accuracy: RuntimeError: no device"


# By name.


@pytest.mark.parametrize(
    ("name", "nearest"), [("absolute", "abs"), ("trees", "tree"), ("nsga3", "nsga2"), ("TPE", "")]
)
def test_an_unknown_sampler_is_answered_with_the_nearest(name: str, nearest: str) -> None:
    for refuse in (
        lambda: check_sampler(name),
        lambda: search(CHOICES, accuracy, memory, sampler=name),
        lambda: make_sampler(name, SPACE, memory_of, limits=Limits(), seed=0),
    ):
        with pytest.raises(SearchError, match=rf'unknown sampler "{name}"\.') as caught:
            refuse()
        assert (f'Did you mean "{nearest}"?' in str(caught.value)) is bool(nearest)
        assert "Known: abs, tree, random, tpe, nsga2, milp, exhaustive" in str(caught.value)


def test_samplers_of_optuna_that_go_on_do_not_begin_again() -> None:
    def first(name: str, **place: int) -> tuple[int, ...]:
        sampler = make_sampler(name, SPACE, memory_of, limits=Limits(), seed=0, **place)
        return proposed(new_study(), sampler)

    for place in ("done", "worker"):
        assert first("random") == first("random") != first("random", **{place: 1})
        # These follow from the history.
        assert first("abs") == first("abs", **{place: 1})
        assert first("tree") == first("tree", **{place: 1})


def test_the_sampler_abs_gets_the_limits_and_the_memory() -> None:
    sampler = make_sampler("abs", SPACE, memory_of, limits=Limits(memory=20.0), seed=0)
    assert isinstance(sampler, AbsSampler)
    assert proposed(new_study(), sampler) == SPACE.narrowest


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_hold_what_they_promise_for_many_spaces(name: str, seed: int) -> None:
    chance = np.random.default_rng(seed)
    space = Space.of(
        {
            f"axis {number}": tuple(chance.permutation([1, 2, 4, 8, 16])[: chance.integers(1, 4)].tolist())
            for number in range(chance.integers(1, 6))
        }
    )
    effects = [chance.random(count) * 0.1 for count in space.counts]

    def evaluate(assignment: dict[str, int]) -> float:
        return 0.9 - sum(e[code] for e, code in zip(effects, space.codes(assignment), strict=True))

    trials = max(space.size, 60) if name == "exhaustive" else 60
    result = search(space, evaluate, lambda a: sum(map(float, a.values())), trials, name, seed=seed)
    assert len(result.trials) == min(trials, space.size)
    assert_no_twins(result)
