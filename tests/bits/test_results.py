"""A selection as a report and as a recipe: what a reader is told, word by word."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest

from sgq.bits import Limits, SearchResult, Trial
from sgq.bits.confirmation import Confirmation, LeftOut
from sgq.bits.planned_space import PlannedSpace
from sgq.bits.results import best_recipe, remarks, study_report
from sgq.bits.selection import Selection
from sgq.errors import SearchError
from sgq.recipe import parse_recipe
from sgq.recipe.filling import filled
from tests.bits.tables import SPACE, TOP
from tests.bits.trainings import LEAST, LUCKY, TableSpace, of

PLANNED: Any = cast(PlannedSpace, TableSpace())
WIDEST = Trial(0, of(8, 8, 8, 8), 80.0, TOP, seconds=1.5)
BY_LUCK = Trial(1, of(*LUCKY), 50.0, 0.91)
RIGHT = Trial(2, of(*LEAST), 52.0, 0.90)
STOPPED = Trial(4, of(2, 2, 2, 2), 20.0, 0.5, state="stopped", budget=0.25)
FAILED = Trial(5, of(2, 2, 2, 4), 28.0, None, state="failed", reason="RuntimeError: broken")
SMALLER = Trial(6, of(2, 2, 8, 4), 46.0, 0.86)
AGAIN = Confirmation(RIGHT, (0.89, 0.90, 0.91, 0.90, 0.90))
NOT_AGAIN = Confirmation(BY_LUCK, (0.88, 0.87, 0.88, 0.89, 0.88))
NEITHER = Confirmation(SMALLER, (0.85,) * 5)

RESULT = SearchResult(
    space=SPACE,
    trials=(WIDEST, BY_LUCK, RIGHT, STOPPED, FAILED, SMALLER),
    front=(SMALLER, BY_LUCK),
    best=BY_LUCK,
    feasible=True,
    limits=Limits(accuracy=0.885, memory=60.0),
    reference=TOP,
)
CONFIRMED = Selection(RESULT, RIGHT, AGAIN, (NEITHER, NOT_AGAIN, AGAIN), 0.885)
NEAREST = Selection(RESULT, BY_LUCK, None, (NEITHER, NOT_AGAIN), 0.885)
PLAIN = Selection(replace(RESULT, trials=(WIDEST, BY_LUCK), limits=Limits()), BY_LUCK, None, (), None)
NOTHING = Selection(
    replace(
        RESULT, trials=(FAILED,), front=(), best=None, feasible=False, reference=None, remark="all broke"
    ),
    None,
    None,
    (),
    0.885,
)
FAILURE = "trial 5 failed: RuntimeError: broken"


def report_of(selection: Selection, **options: Any) -> Any:
    return study_report(selection, PLANNED, title="a table", applied=None, sampler="abs", **options)


# What a reader has to know.


def test_the_repeats_of_the_chosen_one_are_told_with_the_smaller_ones_that_did_not_hold() -> None:
    assert remarks(CONFIRMED) == (
        "trial 2 was measured 5 times again: validation accuracy 90.0% on average",
        "2 smaller ones, measured again, did not hold it less their error",
        FAILURE,
    )


def test_what_could_not_be_measured_again_is_told_with_the_reason() -> None:
    left_out = (LeftOut(BY_LUCK, "its worker died twice"),)
    assert remarks(replace(CONFIRMED, left_out=left_out))[-2:] == (
        "trial 1 could not be measured again: its worker died twice",
        FAILURE,
    )


def test_larger_trials_that_were_repeated_as_well_are_not_told() -> None:
    larger = Confirmation(WIDEST, (0.9,) * 5)
    assert remarks(replace(CONFIRMED, confirmations=(AGAIN, larger))) == (remarks(CONFIRMED)[0], FAILURE)


def test_that_none_surely_held_again_is_told() -> None:
    assert remarks(NEAREST) == (
        "none of 2 trials believed inside the limit held it less its error when measured again; the "
        "nearest one was taken",
        FAILURE,
    )


def test_a_limit_that_nothing_holds_and_an_interruption_are_told_first() -> None:
    result = replace(RESULT, remark="none of 6 holds it", feasible=False, interrupted=True)
    assert remarks(Selection(result, BY_LUCK, None, (), 0.885)) == (
        "none of 6 holds it",
        "the search was interrupted",
        FAILURE,
    )


def test_a_selection_without_anything_special_has_no_remarks() -> None:
    assert remarks(PLAIN) == ()


# The recipe.


def test_the_recipe_is_that_of_the_chosen_trial_and_says_how_it_was_found() -> None:
    recipe = best_recipe(CONFIRMED, PLANNED)
    assert recipe.text.splitlines()[:3] == [
        "# Found in <string> by sgq bits in 6 trials.",
        "# Validation accuracy 90.0%, mean of 5, float less a drop from the widest bits, simulated.",
        "# 52 bytes, modelled.",
    ]
    assert recipe.recipe.rules == filled(PLANNED.recipe, RIGHT.assignment).recipe.rules
    assert (recipe.recipe.name, recipe.recipe.about) == (
        "table-best",
        "bits, as a search found them, of a table",
    )


def test_the_text_of_the_recipe_is_a_recipe_of_its_own() -> None:
    recipe = best_recipe(CONFIRMED, PLANNED, name="gcn-cora")
    assert parse_recipe(recipe.text).recipe == recipe.recipe
    assert recipe.recipe.name == "gcn-cora"
    assert "choices" not in recipe.text


@pytest.mark.parametrize("selection", [NEAREST, PLAIN], ids=["nearest", "without a limit"])
def test_without_a_confirmation_the_recipe_has_the_accuracy_of_its_trial(selection: Selection) -> None:
    chosen = replace(BY_LUCK, memory=1234567.0)
    lines = best_recipe(replace(selection, chosen=chosen), PLANNED).text.splitlines()[1:3]
    assert lines == [
        "# Validation accuracy 91.0%, float less a drop from the widest bits, simulated.",
        "# 1,234,567 bytes, modelled.",
    ]


def test_there_is_no_recipe_where_nothing_was_chosen() -> None:
    with pytest.raises(SearchError, match=r"^no assignment was chosen: all broke$"):
        best_recipe(NOTHING, PLANNED)


# The report.


def test_the_report_has_a_row_for_every_trial() -> None:
    report = report_of(CONFIRMED, settings=[("seed", "7")])
    found = {row.number: row for row in report.trials}
    assert list(found) == [0, 1, 2, 4, 5, 6]
    for trial in RESULT.trials:
        row = found[trial.number]
        assert (row.state, row.packed_bytes, row.accuracy_val) == (trial.state, trial.memory, trial.accuracy)
        assert (dict(row.assignment), row.budget) == (trial.assignment, trial.budget)
        assert (row.seconds, row.reason) == (trial.seconds, trial.reason)
    again = {number: (row.accuracy_val_again, row.repeats) for number, row in found.items() if row.repeats}
    assert again == {6: (0.85, 5), 1: (pytest.approx(0.88), 5), 2: (pytest.approx(0.9), 5)}
    assert found[0].accuracy_val_again is None
    assert [number for number, row in found.items() if row.on_front] == [1, 6]
    assert [number for number, row in found.items() if row.holds] == [1, 2]  # the widest is too large
    assert (report.best, report.best_trial) == (2, found[2])
    assert (report.title, report.sampler, report.settings) == ("a table", "abs", (("seed", "7"),))
    assert (report.limit_accuracy, report.limit_bytes) == (0.885, 60.0)
    assert report.references == ()
    assert report.notes == remarks(CONFIRMED)


def test_the_report_of_a_search_without_limits_has_none() -> None:
    report = report_of(PLAIN)
    assert (report.limit_accuracy, report.limit_bytes, report.best) == (None, None, 1)
    assert all(row.holds for row in report.trials)


def test_the_hypervolume_of_the_report_counts_finished_trials_alone() -> None:
    # The frame is of 60 bytes and ten points: from 46 bytes on 6 points are covered, from 50 on all of them.
    volumes = dict(report_of(CONFIRMED).hypervolume)
    assert list(volumes) == [1, 2, 3, 4, 5, 6]
    assert volumes[1] == 0.0  # the widest alone is at the frame's end
    assert [volumes[count] for count in (2, 3, 4, 5)] == pytest.approx([30 / 60] * 4)
    assert volumes[6] == pytest.approx((4 * 0.6 + 30) / 60)


def test_the_report_of_nothing_has_no_best() -> None:
    report = report_of(NOTHING)
    assert (report.best, report.best_trial) == (None, None)
    assert report.notes == ("all broke", FAILURE)
    assert report.hypervolume == ((1, 0.0),)
