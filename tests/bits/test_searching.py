"""A search from its arguments to its result: what is found, what is said where nothing is, and refusals."""

from __future__ import annotations

import doctest
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sgq.bits import Evaluation, Limits, SearchResult, Space, Trial, search, searching
from sgq.bits.front import Frame
from sgq.bits.searching import best_of, hypervolumes
from sgq.bits.space import Assignment
from sgq.bits.worker import HOPELESS_AFTER
from sgq.errors import SearchError
from tests.bits.tables import (
    BEST,
    CHOICES,
    SPACE,
    TOP,
    Logged,
    accuracy,
    assert_no_twins,
    memory,
    memory_of,
)


def total(assignment: Assignment) -> float:
    """Return the sum of all bits as bytes."""
    return float(sum(int(choice) for choice in assignment.values()))


@pytest.fixture(scope="module")
def whole() -> SearchResult:
    """All 81 assignments, with a drop of two and a half points allowed."""
    return search(CHOICES, accuracy, memory, 81, "exhaustive", {"accuracy_drop": 0.025})


# What is found.


def test_the_best_is_the_smallest_inside_the_limit(whole: SearchResult) -> None:
    assert whole.best is not None
    assert whole.best.assignment == {**BEST, "weight": 2}  # two points for the narrowest weights are allowed
    assert (whole.feasible, whole.reference, whole.remark, whole.interrupted) == (True, TOP, "", False)
    assert whole.holds(whole.best)
    assert sum(map(whole.holds, whole.trials)) == sum(
        accuracy(SPACE.assignment(codes)) >= TOP - 0.025 for codes in SPACE.every()
    )


def test_the_front_is_of_what_nothing_beats_by_rising_memory(whole: SearchResult) -> None:
    unbeaten = [
        trial
        for trial in whole.trials
        if not any(
            other.memory <= trial.memory
            and (other.accuracy or 0.0) >= (trial.accuracy or 0.0)
            and (other.memory, other.accuracy) != (trial.memory, trial.accuracy)
            for other in whole.trials
        )
    ]
    assert [trial.memory for trial in whole.front] == sorted({trial.memory for trial in unbeaten})
    assert {trial.memory for trial in whole.front} == {trial.memory for trial in unbeaten}
    assert whole.front[-1].assignment == BEST


def test_the_hypervolume_grows_to_that_of_all_assignments(whole: SearchResult) -> None:
    curve = hypervolumes(whole, memory_of)
    assert [count for count, _ in curve] == list(range(1, 82))
    volumes = [volume for _, volume in curve]
    assert volumes == sorted(volumes)
    # A byte at a time: the best accuracy of at most so many bytes, as a share of ten points.
    frame = Frame.below(TOP, 20.0, 80.0)
    assert (memory(SPACE.assignment(SPACE.narrowest)), memory(SPACE.assignment(SPACE.widest))) == (20.0, 80.0)
    best = [
        max(
            (trial.accuracy or 0.0 for trial in whole.trials if trial.memory <= packed_bytes),
        )
        for packed_bytes in range(20, 80)
    ]
    assert volumes[-1] == pytest.approx(float(np.mean(frame.gain(np.array(best)))))


def test_without_a_limit_the_most_accurate_is_best_and_the_smallest_of_those() -> None:
    result = search(CHOICES, accuracy, memory, 81)
    assert result.best is not None
    assert (result.best.assignment, result.feasible) == (BEST, True)


def test_a_memory_limit_alone_asks_for_the_most_accurate_inside_it() -> None:
    result = search(CHOICES, accuracy, memory, 81, limit={"memory": 40})
    inside = [a for a in map(SPACE.assignment, SPACE.every()) if memory(a) <= 40]
    assert result.best is not None
    assert result.best.accuracy == max(map(accuracy, inside))
    assert all(trial.memory <= 40 for trial in result.trials)


def test_stopped_trials_are_neither_best_nor_on_the_front() -> None:
    def evaluate(assignment: Assignment) -> Evaluation:
        return Evaluation(0.95, 0.25) if assignment["weight"] == 2 else Evaluation(accuracy(assignment))

    result = search(CHOICES, evaluate, memory, 81, limit={"accuracy": 0.9})
    assert result.best is not None
    assert result.best.assignment == BEST
    stopped = [trial for trial in result.trials if trial.state == "stopped"]
    assert len(stopped) == 27
    assert not any(result.holds(trial) or trial in result.front for trial in stopped)


def test_ties_are_broken_by_the_other_objective() -> None:
    def trial(number: int, packed_bytes: float, found: float) -> Trial:
        return Trial(number, {}, packed_bytes, found)

    trials = [trial(0, 10, 0.8), trial(1, 10, 0.9), trial(2, 5, 0.9), trial(3, 5, 0.7)]
    assert best_of(trials, Limits(accuracy=0.5)) == trials[2]
    assert best_of(trials[:2], Limits(accuracy=0.5)) == trials[1]
    assert best_of(trials, Limits()) == trials[2]
    assert best_of([], Limits()) is None


def test_the_example_of_the_documentation_is_true() -> None:
    examples = doctest.DocTestFinder(recurse=False).find(search, "search", searching, {})
    runner = doctest.DocTestRunner()
    assert sum(len(test.examples) for test in examples) > 3
    assert [runner.run(test).failed for test in examples] == [0]


# Spaces of every shape.


@pytest.mark.parametrize("sampler", ["abs", "tree", "tpe", "milp"])
@pytest.mark.parametrize(
    ("space", "best"),
    [
        ({"weight": (2, 4, 8)}, {"weight": 4}),
        ({"weight": (4,)}, {"weight": 4}),
        ({"weight": (2, 4), "input": (8,), "message": (8,)}, {"weight": 4, "input": 8, "message": 8}),
    ],
    ids=["one axis", "one choice", "one axis with choices"],
)
def test_the_smallest_spaces_are_searched(
    sampler: str, space: dict[str, tuple[int, ...]], best: dict[str, int]
) -> None:
    result = search(space, lambda a: 0.9 if a["weight"] >= 4 else 0.5, total, 200, sampler, {"accuracy": 0.8})
    assert len(result.trials) == Space.of(space).size
    assert_no_twins(result)
    assert result.best is not None
    assert result.best.assignment == best


def test_methods_are_chosen_beside_bits() -> None:
    gain = {"minmax": 0.0, "lsq": 0.05, "affine": 0.02}
    space = {"method": tuple(gain), "weight": (2, 4, 8), "input": (2, 4, 8)}
    result = search(
        space,
        lambda a: 0.8 + gain[str(a["method"])] - 0.05 * (a["weight"] == 2),
        lambda a: float(int(a["weight"]) + int(a["input"])),
        27,
        limit={"accuracy": 0.85},
    )
    assert result.best is not None
    assert result.best.assignment == {"method": "lsq", "weight": 4, "input": 2}


def test_a_large_space_is_searched_in_few_trials() -> None:
    space = {f"layer {number}": (1, 2, 4, 8, 16) for number in range(10)}

    def evaluate(assignment: Assignment) -> float:
        return 0.9 - sum(0.03 for bits in assignment.values() if int(bits) < 4)

    result = search(space, evaluate, total, 40, limit={"accuracy_drop": 0.001})
    assert len(result.trials) == 40
    assert_no_twins(result)
    assert result.best is not None
    assert evaluate(result.best.assignment) >= 0.899
    assert result.best.memory <= 80.0  # 160 is the widest, 40 the best there is


# Where nothing holds the limits.


def test_where_nothing_holds_a_limit_the_search_stops_and_names_the_tightest() -> None:
    result = search(CHOICES, accuracy, memory, 81, limit={"accuracy": 0.95})
    assert len(result.trials) == HOPELESS_AFTER
    assert not result.feasible
    assert result.best is not None
    assert result.best.accuracy == TOP
    assert not result.holds(result.best)
    assert result.remark == (
        "none of 40 assignments holds accuracy >= 0.95; the tightest limit that one holds is accuracy >= 0.9."
        " It stops here: more bits do not help."
    )


def test_a_widest_that_failed_is_no_reason_to_give_up() -> None:
    # What has five of the most bits is inside: 24 of 15625 assignments.
    def evaluate(assignment: Assignment) -> float:
        most = sum(bits == 16 for bits in assignment.values())
        if most == 6:
            raise MemoryError("too wide")
        return 0.9 if most >= 5 else 0.5

    space = {f"layer {number}": (1, 2, 4, 8, 16) for number in range(6)}
    result = search(space, evaluate, total, HOPELESS_AFTER + 10, "random", {"accuracy": 0.85})
    assert len(result.trials) == HOPELESS_AFTER + 10
    assert "stops here" not in result.remark


def test_a_widest_that_was_measured_with_other_texts_alone_is_no_reason_to_give_up() -> None:
    def evaluate(assignment: Assignment) -> float:
        widths = [choice for choice in assignment.values() if isinstance(choice, int)]
        return 0.9 if assignment["method"] == "lsq" and min(widths) == 16 else 0.5

    space = {"method": ("minmax", "lsq"), **{f"layer {number}": (1, 2, 4, 8, 16) for number in range(6)}}
    result = search(space, evaluate, lambda _: 1.0, HOPELESS_AFTER + 10, "random", {"accuracy": 0.85})
    assert len(result.trials) == HOPELESS_AFTER + 10


@pytest.mark.parametrize("sampler", ["abs", "random", "tree"])
def test_texts_of_any_order_may_be_the_smallest(sampler: str) -> None:
    def size(assignment: Assignment) -> float:
        return float(assignment["weight"]) + 100.0 * (assignment["method"] == "big")

    space = {"weight": (2, 4, 8), "method": ("big", "small")}
    result = search(space, lambda a: 0.1 * int(a["weight"]), size, 6, sampler, {"memory": 50})
    assert result.feasible
    assert result.best is not None
    assert result.best.assignment == {"weight": 8, "method": "small"}
    tight = search(space, lambda a: 0.1 * int(a["weight"]), size, 6, sampler, {"memory": 1})
    assert [trial.assignment for trial in tight.trials] == [{"weight": 2, "method": "small"}]
    assert tight.remark == "the narrowest assignment needs 2 bytes, over the limit of 1"


def test_the_narrowest_is_the_answer_to_a_memory_limit_that_nothing_holds() -> None:
    result = search(CHOICES, accuracy, memory, 81, limit={"memory": 19, "accuracy": 0.5})
    assert [trial.assignment for trial in result.trials] == [SPACE.assignment(SPACE.narrowest)]
    assert result.best == result.trials[0]
    assert not result.feasible
    assert result.remark.startswith("the narrowest assignment needs 20 bytes, over the ")


def test_a_drop_that_memory_does_not_allow_is_told_as_the_smallest_drop() -> None:
    limit = {"accuracy_drop": 0.0, "memory": 30}
    result = search(CHOICES, accuracy, memory, 81, limit=limit)
    best = max(accuracy(a) for a in map(SPACE.assignment, SPACE.every()) if memory(a) <= 30)
    assert not result.feasible
    assert result.best is not None
    assert result.best.memory <= 30
    assert result.best.accuracy == best
    assert f"the tightest limit that one holds is accuracy_drop <= {TOP - best:g}" in result.remark
    assert "stops here" not in result.remark


def test_an_exhaustive_search_does_not_give_up_where_more_bits_are_only_too_large() -> None:
    result = search(CHOICES, accuracy, memory, 81, "exhaustive", {"accuracy": 0.895, "memory": 79})
    assert result.feasible
    assert result.best is not None
    assert result.best.assignment == BEST
    assert len(result.trials) == 80


def test_a_drop_from_a_widest_that_failed_says_why() -> None:
    def evaluate(assignment: Assignment) -> float:
        if set(assignment.values()) == {8}:
            raise MemoryError("too wide")
        return accuracy(assignment)

    result = search(CHOICES, evaluate, memory, 81, limit={"accuracy_drop": 0.01})
    assert len(result.trials) == 1
    assert (result.best, result.reference) == (None, None)
    assert result.remark == "none of 1 evaluations gave an accuracy: MemoryError: too wide"


def test_evaluations_that_give_nan_fail_with_the_reason_and_the_search_goes_on() -> None:
    result = search(
        CHOICES, lambda a: math.nan if a["weight"] == 2 else accuracy(a), memory, 81, limit={"accuracy": 0.9}
    )
    failed = [trial for trial in result.trials if trial.state == "failed"]
    assert len(failed) == 27
    assert {trial.reason for trial in failed} == {"expected an accuracy from 0 to 1 (got nan)"}
    assert len(result.trials) == 81
    assert result.best is not None
    assert result.best.assignment == BEST


def test_where_nothing_could_be_measured_all_reasons_are_told_once() -> None:
    def evaluate(assignment: Assignment) -> float:
        raise ValueError("odd" if assignment["weight"] == 4 else "even")

    result = search({"weight": (2, 4, 8), "input": (2, 4)}, evaluate, total, 6)
    assert result.remark == "none of 6 evaluations gave an accuracy: ValueError: even; ValueError: odd"
    assert result.best is None
    assert hypervolumes(result, lambda codes: codes.sum(axis=1)) == tuple((n, 0.0) for n in range(1, 7))


def test_ctrl_c_ends_the_search_with_what_was_measured() -> None:
    seen: list[Assignment] = []

    def evaluate(assignment: Assignment) -> float:
        seen.append(assignment)
        if len(seen) == 5:
            raise KeyboardInterrupt
        return accuracy(assignment)

    result = search(CHOICES, evaluate, memory, 20, limit={"accuracy_drop": 0.05})
    assert result.interrupted
    assert len(result.trials) == 4
    assert result.best is not None


# What is refused, before anything is measured or stored.


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": {}}, "got an empty space"),
        ({"space": {"weight": ()}}, 'axis "weight": expected at least one choice'),
        ({"space": {"weight": (2, 4, 2)}}, r"choices that differ \(got \[2, 4, 2\]\)"),
        ({"sampler": "abc"}, r'unknown sampler "abc"\. Did you mean "abs"\?'),
        ({"limit": {"acuracy": 0.5}}, r'unknown limit "acuracy"\. Did you mean "accuracy"\?'),
        ({"limit": {"accuracy": 80}}, r"limit accuracy: expected a number from 0 to 1 \(got 80\)"),
        ({"trials": 0}, r"at least one trial and one worker \(got 0 and 1\)"),
        ({"workers": 0}, r"at least one trial and one worker \(got 5 and 0\)"),
        (
            {"sampler": "exhaustive"},
            r"needs a trial for each of .*81 assignments \(got 5\): give more",
        ),
        ({"memory": None}, "expected memory, a function"),
        ({"resume": True}, r'a study "bits" to resume \(got none in the storage\)'),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    evaluate = Logged(tmp_path / "log")
    given = {"space": CHOICES, "evaluate": evaluate, "memory": memory, "trials": 5, **changes}
    with pytest.raises(SearchError, match=message):
        search(**given)
    assert evaluate.lines == []


@pytest.mark.parametrize("packed_bytes", [math.nan, math.inf])
def test_bytes_that_are_no_number_are_refused_with_their_assignment(packed_bytes: float) -> None:
    with pytest.raises(SearchError, match=r"memory: expected bytes \(got (nan|inf) for \{'weight': 2"):
        search(CHOICES, accuracy, lambda a: packed_bytes if a["weight"] == 2 else 1.0, 81)


def test_limits_are_held_by_the_accuracy_less_its_error() -> None:
    def evaluate(assignment: Assignment) -> Evaluation:
        return Evaluation(accuracy(assignment), error=0.03 if assignment["weight"] == 4 else 0.0)

    result = search(CHOICES, evaluate, memory, 81, "exhaustive", {"accuracy": 0.88})
    assert result.best is not None
    # All four axes as wide as they must be would be inside, but with four bits of weight nobody can be sure.
    assert result.best.assignment == {"weight": 2, "input": 4, "message[0]": 8, "message[1]": 4}
    unsure = next(trial for trial in result.trials if trial.assignment == BEST)
    assert (unsure.accuracy, unsure.error) == (TOP, 0.03)
    assert unsure.sure == pytest.approx(TOP - 0.03)
    assert not result.holds(unsure)
    assert unsure in result.front


def test_limits_are_held_by_the_accuracy_less_its_margin_where_it_has_one() -> None:
    def evaluate(assignment: Assignment) -> Evaluation:
        return Evaluation(accuracy(assignment), error=0.03, margin=0.01)

    result = search(CHOICES, evaluate, memory, 81, "exhaustive", {"accuracy": TOP - 0.02})
    assert result.best is not None
    assert result.best.assignment == BEST
    assert (result.best.accuracy, result.best.error) == (TOP, 0.03)
    assert result.best.sure == pytest.approx(TOP - 0.01)


@pytest.mark.parametrize("margin", [-0.1, 1.5, math.nan])
def test_a_margin_that_is_none_fails_its_trial(margin: float) -> None:
    result = search(CHOICES, lambda _: Evaluation(TOP, margin=margin), memory, 1)
    assert result.trials[0].reason == f"expected a margin from 0 to 1 (got {margin!r})"


def test_the_share_of_rows_that_changed_is_kept_and_one_that_is_none_fails_its_trial() -> None:
    shares = iter((0.0, 0.25, 1.5))
    result = search(CHOICES, lambda _: Evaluation(TOP, flipped=next(shares)), memory, 3)
    assert [trial.flipped for trial in result.trials] == [0.0, 0.25, None]
    assert result.trials[2].reason == "expected a share of changed classes from 0 to 1 (got 1.5)"


def test_a_drop_counts_from_the_accuracy_of_the_widest_one_and_not_less_its_error() -> None:
    def evaluate(assignment: Assignment) -> Evaluation:
        return Evaluation(accuracy(assignment), error=0.01)

    result = search(CHOICES, evaluate, memory, 40, limit={"accuracy_drop": 0.035})
    assert result.reference == TOP
    assert result.best is not None
    # Two points for the narrowest weights and one of error are inside, three points for inputs are not.
    assert result.best.assignment == {**BEST, "weight": 2}
