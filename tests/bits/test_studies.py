"""A study is made once, goes on where it is asked to, and is refused with every difference."""

from __future__ import annotations

import logging
import warnings
from dataclasses import replace
from typing import Any

import optuna
import pytest
from optuna.storages import InMemoryStorage

from sgq.bits import Limits, Space
from sgq.bits.studies import (
    DIRECTIONS,
    TERMS,
    QuietOptuna,
    Terms,
    check_terms,
    join_study,
    load_study,
)
from sgq.errors import SearchError

SPACE = Space.of({"weight": (2, 4), "method": ("lsq", "affine")})
GIVEN = Terms(
    SPACE,
    "abs",
    Limits(accuracy_drop=0.004),
    0,
    {"model": "gat", "data": "cora"},
    {"narrowest": "20", "widest": "80"},
)


@pytest.fixture
def storage() -> InMemoryStorage:
    return InMemoryStorage()


def difference(**changes: Any) -> str:
    """Return what is said of a study whose terms were others."""
    with pytest.raises(SearchError) as caught:
        check_terms(GIVEN.to_json(), replace(GIVEN, **changes), "bits")
    first, *lines = str(caught.value).splitlines()
    assert first == 'the study "bits" is of another search (stored -> now):'
    return "\n".join(line.removeprefix("  ") for line in lines)


def test_a_new_study_maximizes_accuracy_minimizes_bytes_and_keeps_its_terms(storage: InMemoryStorage) -> None:
    study = join_study(storage, "bits", GIVEN, resume=False)
    assert tuple(study.directions) == DIRECTIONS
    assert study.user_attrs[TERMS] == GIVEN.to_json()
    assert study.user_attrs[TERMS]["limits"] == {"accuracy": None, "accuracy_drop": 0.004, "memory": None}


def test_a_study_goes_on_with_its_trials(storage: InMemoryStorage) -> None:
    join_study(storage, "bits", GIVEN, resume=False).ask()
    again = join_study(storage, "bits", GIVEN, resume=True)
    assert len(again.get_trials()) == 1


def test_a_study_that_is_there_is_not_begun_again(storage: InMemoryStorage) -> None:
    join_study(storage, "bits", GIVEN, resume=False)
    with pytest.raises(SearchError, match=r'holds a study "bits" already: go on with it by --resume'):
        join_study(storage, "bits", GIVEN, resume=False)
    join_study(storage, "others", GIVEN, resume=False)


def test_a_study_that_is_not_there_is_not_resumed_and_others_are_named(storage: InMemoryStorage) -> None:
    with pytest.raises(SearchError, match=r'a study "bits" to resume \(got none in the storage\)$'):
        join_study(storage, "bits", GIVEN, resume=True)
    join_study(storage, "two", GIVEN, resume=False)
    join_study(storage, "one", GIVEN, resume=False)
    with pytest.raises(SearchError, match=r"got none in the storage; it holds one, two\)$"):
        join_study(storage, "bits", GIVEN, resume=True)


def test_of_two_processes_that_begin_at_once_the_later_one_is_told(
    storage: InMemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    join_study(storage, "bits", GIVEN, resume=False)
    monkeypatch.setattr(optuna, "get_all_study_summaries", lambda storage: [])
    with pytest.raises(SearchError, match=r'another process has just made the study "bits": use --resume'):
        join_study(storage, "bits", GIVEN, resume=False)


def test_a_study_of_something_else_is_refused(storage: InMemoryStorage) -> None:
    optuna.create_study(storage=storage, study_name="bits")
    with pytest.raises(SearchError, match=r'the study "bits" is not one of bit selection'):
        join_study(storage, "bits", GIVEN, resume=True)
    with pytest.raises(SearchError, match=r"or of another version of sgq"):
        check_terms({**GIVEN.to_json(), "version": 1}, GIVEN, "bits")


def test_a_study_whose_maker_was_killed_before_it_wrote_the_terms_is_a_new_one(
    storage: InMemoryStorage,
) -> None:
    optuna.create_study(storage=storage, study_name="bits", directions=DIRECTIONS)
    study = join_study(storage, "bits", GIVEN, resume=True)
    check_terms(study.user_attrs[TERMS], GIVEN, "bits")


def test_either_makes_a_study_or_goes_on_with_it(storage: InMemoryStorage) -> None:
    made = join_study(storage, "bits", GIVEN, resume=None)
    made.add_trial(optuna.trial.create_trial(values=[0.5, 1.0]))
    assert len(join_study(storage, "bits", GIVEN, resume=None).trials) == 1


def test_the_same_terms_are_accepted() -> None:
    check_terms(GIVEN.to_json(), GIVEN, "bits")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"sampler": "tree"}, "sampler: abs -> tree"),
        ({"seed": 7}, "seed: 0 -> 7"),
        ({"limits": Limits(accuracy_drop=0.01)}, "limits accuracy_drop: 0.004 -> 0.01"),
        (
            {"limits": Limits(memory=1000)},
            "limits accuracy_drop: 0.004 -> none\nlimits memory: none -> 1000",
        ),
        (
            {"space": Space.of({"weight": (2, 4, 8), "method": ("lsq", "affine")})},
            "space weight: [2, 4] -> [2, 4, 8]",
        ),
        (
            {"space": Space.of({"weight": (2, 4), "input": (2, 4)})},
            "space method: ['lsq', 'affine'] -> none\nspace input: none -> [2, 4]",
        ),
        (
            {"space": Space.of({"method": ("lsq", "affine"), "weight": (2, 4)})},
            "space: the order of the names -> another order",
        ),
        ({"packed_bytes": {"narrowest": "20", "widest": "90"}}, "bytes widest: 80 -> 90"),
        ({"objective": {"model": "gcn", "data": "cora"}}, "objective model: gat -> gcn"),
        ({"objective": {"model": "gat", "data": "cora", "epochs": "10"}}, "objective epochs: none -> 10"),
        (
            {"seed": 1, "sampler": "tpe", "objective": {}},
            "sampler: abs -> tpe\nseed: 0 -> 1\nobjective model: gat -> none\nobjective data: cora -> none",
        ),
    ],
)
def test_other_terms_are_refused_with_every_difference(changes: dict[str, Any], told: str) -> None:
    assert difference(**changes) == told


def test_a_loaded_study_has_the_sampler_that_it_is_given(storage: InMemoryStorage) -> None:
    join_study(storage, "bits", GIVEN, resume=False)
    sampler = optuna.samplers.RandomSampler()
    assert load_study(storage, "bits", sampler).sampler is sampler
    with pytest.raises(KeyError):
        load_study(storage, "other")


def test_optuna_is_quiet_in_a_block_and_as_before_after_it() -> None:
    before = optuna.logging.get_verbosity()
    with QuietOptuna():
        assert optuna.logging.get_verbosity() == logging.ERROR
        warnings.warn("this is new", optuna.exceptions.ExperimentalWarning, stacklevel=1)
    assert optuna.logging.get_verbosity() == before
    with pytest.raises(optuna.exceptions.ExperimentalWarning):
        warnings.warn("this is new", optuna.exceptions.ExperimentalWarning, stacklevel=1)
