"""An evaluation that is built where it runs: once a process, when it is needed; trainings take turns."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from sgq.bits import Evaluation
from sgq.bits.changes import Changes, joint_error
from sgq.bits.deferred import DeferredAccuracy
from sgq.bits.pool import Workers
from sgq.bits.space import Assignment
from tests.bits.tables import TOP, accuracy, memory

ASSIGNMENT = {"weight": 8, "input": 8, "message[0]": 8, "message[1]": 8}
OTHERS = [{**ASSIGNMENT, "weight": weight, "input": bits} for weight in (2, 4, 8) for bits in (2, 4, 8)]


CHANGES = Changes(
    500, wrong=tuple(range(20)), right=tuple(range(100, 110)), seen=2000, flipped=tuple(range(0, 400, 2))
)
"""What every run changes, on the same nodes."""
KEPT = replace(CHANGES, seen=0, flipped=())
UNCHANGED = Changes(500, seen=2000)


@dataclass(frozen=True)
class Identity:
    """A space whose plans are the assignments themselves."""

    def plan_of(self, assignment: Assignment) -> Assignment:
        return assignment


@dataclass
class Trained:
    """Stands for a `FinetunedAccuracy`: the accuracy of the table, shifted by luck; it logs its use."""

    path: Path
    luck: float = 0.0
    least_accuracy: float | None = None
    compared: Changes = UNCHANGED
    seed: int = 7
    space: Identity = Identity()

    @property
    def float_accuracy(self) -> float:
        return TOP + self.luck

    def of_plan(self, plan: Assignment, *, seed: int) -> Evaluation:
        with self.path.open("a") as stream:
            stream.write(f"{self.luck} {seed}\n")
        return Evaluation(accuracy(plan) + self.luck, 0.5, CHANGES.error, str(CHANGES))

    def reference(self, seed: int) -> Evaluation:
        """Return the best of the table, half a point better in every later seed."""
        return Evaluation(TOP + self.luck + (seed - self.seed) * 0.005, changed=str(self.compared))

    def __getstate__(self) -> dict[str, Any]:
        raise TypeError("this stays where it is, as a model on an accelerator does")


def build(path: Path, luck: float = 0.0, least_accuracy: float | None = None) -> Any:
    """Build an evaluation; every build is a line of a file."""
    with path.with_suffix(".builds").open("a") as stream:
        stream.write("built\n")
    return Trained(path, luck, least_accuracy)


def builds(path: Path) -> int:
    found = path.with_suffix(".builds")
    return len(found.read_text().splitlines()) if found.exists() else 0


def uses(path: Path) -> list[tuple[float, int]]:
    """Return the luck of the training and the seed of each measurement."""
    words = (line.split() for line in path.read_text().splitlines())
    return [(float(luck), int(seed)) for luck, seed in words]


def three(path: Path) -> DeferredAccuracy:
    return DeferredAccuracy(partial(build, path), [partial(build, path, luck) for luck in (-0.05, 0.05)])


def test_it_is_built_on_its_first_use_and_once(tmp_path: Path) -> None:
    path = tmp_path / "log"
    deferred = DeferredAccuracy(partial(build, path))
    assert builds(path) == 0
    assert [deferred(ASSIGNMENT), deferred(ASSIGNMENT)] == [
        Evaluation(TOP, 0.5, CHANGES.error, str(KEPT), flipped=CHANGES.flipped_share)
    ] * 2
    assert builds(path) == 1
    assert deferred.built is deferred.built
    assert uses(path) == [(0.0, 7)] * 2


def test_what_is_sent_to_a_worker_is_how_to_build_it(tmp_path: Path) -> None:
    path = tmp_path / "log"
    deferred = DeferredAccuracy(partial(build, path))
    deferred(ASSIGNMENT)
    Workers(2).check_picklable(memory, cast(Any, deferred))
    sent = pickle.loads(pickle.dumps(deferred))
    assert builds(path) == 1
    assert sent(ASSIGNMENT) == Evaluation(TOP, 0.5, CHANGES.error, str(KEPT), flipped=CHANGES.flipped_share)
    assert builds(path) == 2


def test_an_assignment_is_measured_on_one_training_that_depends_on_it_alone(tmp_path: Path) -> None:
    first, second = three(tmp_path / "first"), three(tmp_path / "second")
    for assignment in OTHERS:
        first(assignment)
    for assignment in OTHERS:
        second(dict(reversed(assignment.items())))
    assert uses(tmp_path / "first") == uses(tmp_path / "second")
    assert {luck for luck, _ in uses(tmp_path / "first")} == {0.0, -0.05, 0.05}


def test_an_accuracy_is_that_of_the_first_float_model_less_the_drop(tmp_path: Path) -> None:
    deferred = three(tmp_path / "log")
    for assignment in OTHERS:
        found = deferred(assignment)
        assert found.accuracy == pytest.approx(accuracy(assignment))
        assert found.budget == 0.5


def test_the_error_of_a_trial_is_that_of_its_one_run_however_many_trainings_there_are(
    tmp_path: Path,
) -> None:
    deferred = three(tmp_path / "log")
    found = deferred(ASSIGNMENT)
    assert found.error == CHANGES.error
    # Runs on the same nodes have together the error of each, which is what confirmation takes off.
    assert joint_error([CHANGES] * deferred.trainings) == pytest.approx(found.error)


def test_a_search_over_trainings_looks_by_the_error_of_their_mean(tmp_path: Path) -> None:
    assert three(tmp_path / "log")(ASSIGNMENT).margin == pytest.approx(CHANGES.error / 3**0.5)
    assert DeferredAccuracy(partial(build, tmp_path / "one"))(ASSIGNMENT).margin is None


def test_what_the_reference_of_the_run_changes_too_is_no_change(tmp_path: Path) -> None:
    # Rows 0 to 19 go wrong and 100 to 109 come right; the reference has 10 of both, and one of its own.
    compared = Changes(500, (*range(10, 20), 50), tuple(range(100, 110)), 2000, tuple(range(300)))
    deferred = DeferredAccuracy(lambda: cast(Any, Trained(tmp_path / "log", compared=compared)))
    found = deferred(ASSIGNMENT)
    assert Changes.parse(found.changed) == Changes(500, tuple(range(10)), (50,))
    assert found.flipped == 200 / 2000
    assert found.error == Changes.parse(found.changed).error


def test_repeats_have_other_seeds_and_all_trainings_by_turns(tmp_path: Path) -> None:
    deferred = three(tmp_path / "log")
    found = [deferred.again(ASSIGNMENT, repeat).accuracy for repeat in range(1, 5)]
    # The reference of each repeat is another half a point better, which nobody else is.
    assert found == pytest.approx([TOP - 0.005 * repeat for repeat in range(1, 5)])
    assert uses(tmp_path / "log") == [(0.0, 8), (-0.05, 9), (0.05, 10), (0.0, 11)]


def test_the_limit_of_another_training_is_as_far_below_its_float_model(tmp_path: Path) -> None:
    path = tmp_path / "log"
    builds = [partial(build, path, luck, least) for luck, least in ((0.0, 0.8), (-0.05, 0.8), (0.05, 0.8))]
    evaluations = DeferredAccuracy(builds[0], builds[1:]).evaluations
    assert [one.least_accuracy for one in evaluations] == pytest.approx([0.8, 0.75, 0.85])


def test_an_error_while_building_is_seen_by_whoever_asks(tmp_path: Path) -> None:
    deferred = DeferredAccuracy(partial(build, tmp_path / "absent" / "log"))
    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            deferred(ASSIGNMENT)
