"""The sampler under Optuna: its own test kit, and what the sampler makes of a study's trials."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import islice

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.samplers import BaseSampler
from optuna.testing.pytest_samplers import (
    BasicSamplerTestCase,
    MultiObjectiveSamplerTestCase,
    RelativeSamplerTestCase,
    SingleOnlySamplerTestCase,
)
from optuna.trial import TrialState

from sgq.bits import AbsSampler, Limits, Space
from sgq.bits.abs_sampler import _coding_of
from sgq.bits.candidates import steady_values
from sgq.bits.leases import UNLEASED_S
from sgq.bits.space import Codes
from sgq.bits.steadying import FEWEST
from sgq.bits.studies import QuietOptuna
from sgq.bits.trials import (
    ACCURACY,
    BUDGET,
    COPY,
    ERROR,
    FLIPPED,
    MEMORY,
    MOST_DEATHS,
    REASON,
    TRAINING,
    distributions,
    records_of,
    retire,
    suggest,
)
from tests.bits.tables import BEST, SPACE, accuracy, add, memory, memory_of, new_study, proposed


class TestWithoutASpace(BasicSamplerTestCase, RelativeSamplerTestCase, SingleOnlySamplerTestCase):
    """Optuna's kit for a sampler of any study with one objective."""

    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return AbsSampler


class TestOfASpace(BasicSamplerTestCase, MultiObjectiveSamplerTestCase):
    """Optuna's kit for the sampler of a search over bits: parameters that are no axis, two objectives."""

    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return lambda: AbsSampler(SPACE, memory_of)


# Studies of anything else.


def quiet_study(sampler: BaseSampler, direction: str = "minimize") -> optuna.Study:
    with QuietOptuna():
        return optuna.create_study(direction=direction, sampler=sampler)


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_the_best_of_any_small_study_is_found_in_either_direction(direction: str) -> None:
    sign = 1 if direction == "minimize" else -1

    def objective(trial: optuna.Trial) -> float:
        x, y = trial.suggest_int("x", -4, 4, step=2), trial.suggest_int("y", 1, 8)
        kind = trial.suggest_categorical("kind", ["a", None, 2.5])
        return sign * (abs(x - 2) + abs(y - 3) + (kind is not None))

    study = quiet_study(AbsSampler(seed=1), direction)
    study.optimize(objective, n_trials=40)
    assert study.best_params == {"x": 2, "y": 3, "kind": None}


def test_a_study_has_each_assignment_once_until_all_are_measured() -> None:
    def objective(trial: optuna.Trial) -> float:
        return trial.suggest_int("x", 0, 3) * trial.suggest_int("y", 0, 2)

    study = quiet_study(AbsSampler())
    study.optimize(objective, n_trials=12)
    assert len({(trial.params["x"], trial.params["y"]) for trial in study.trials}) == 12
    study.optimize(objective, n_trials=2)
    assert len(study.trials) == 14


@pytest.mark.filterwarnings("ignore:Choices for a categorical distribution")
def test_choices_without_a_hash_are_an_axis_too() -> None:
    study = optuna.create_study(sampler=AbsSampler(seed=0))
    choices = [[3], [2, 3], [1, 2, 3]]  # Optuna takes them with a warning
    study.optimize(
        lambda trial: sum(trial.suggest_categorical("a", choices)) + trial.suggest_int("b", 0, 3), n_trials=12
    )
    assert len({str(trial.params) for trial in study.trials}) == 12
    assert study.best_value == 3


def test_parameters_with_many_values_are_drawn_beside_the_axes() -> None:
    def objective(trial: optuna.Trial) -> float:
        trial.suggest_int("many", 0, 1000)
        trial.suggest_float("real", 0.0, 1.0)
        return trial.suggest_int("x", 0, 3)

    study = quiet_study(AbsSampler())
    study.optimize(objective, n_trials=5)
    assert len({trial.params["many"] for trial in study.trials}) == 5
    assert len({trial.params["real"] for trial in study.trials}) == 5
    assert {trial.params["x"] for trial in study.trials[:4]} == {0, 1, 2, 3}


def test_the_same_seed_gives_the_same_trials() -> None:
    def found(seed: int) -> list[dict[str, object]]:
        study = quiet_study(AbsSampler(seed=seed))
        study.optimize(
            lambda trial: trial.suggest_int("x", 0, 9) + trial.suggest_categorical("y", [1, 5]), n_trials=15
        )
        return [trial.params for trial in study.trials]

    assert found(1) == found(1) != found(2)


def test_attributes_of_trials_of_any_study_mean_nothing() -> None:
    def found(**attributes: object) -> list[dict[str, object]]:
        def objective(trial: optuna.Trial) -> float:
            for name, value in attributes.items():
                trial.set_user_attr(name, value)
            return trial.suggest_int("x", 0, 9) + trial.suggest_int("y", 0, 4)

        study = quiet_study(AbsSampler(seed=1))
        study.optimize(objective, n_trials=15)
        return [trial.params for trial in study.trials]

    texts = {ERROR: "converged", TRAINING: "full", BUDGET: "10 min", FLIPPED: None, ACCURACY: "high"}
    assert found(**texts) == found(**{ERROR: 0.3, TRAINING: 3_000_000, BUDGET: 0.1, FLIPPED: 0.2}) == found()


def test_random_values_differ_after_reseeding() -> None:
    spread = FloatDistribution(0.0, 1.0)
    samplers = [AbsSampler(seed=1) for _ in range(2)]
    samplers[1].reseed_rng()
    study = quiet_study(samplers[0])
    trial = study.ask()._cached_frozen_trial
    drawn = [sampler.sample_independent(study, trial, "x", spread) for sampler in samplers]
    assert drawn[0] != drawn[1]


# Studies of bits.


def sampler_of_bits(**limits: float) -> AbsSampler:
    return AbsSampler(SPACE, memory_of, limits=Limits(**limits))


def test_all_axes_are_sampled_together_from_the_first_trial_on() -> None:
    study = new_study()
    space = AbsSampler(SPACE, memory_of).infer_relative_search_space(study, study.ask()._cached_frozen_trial)
    assert space == distributions(SPACE)


def test_axes_without_order_are_sampled_by_their_names() -> None:
    space = Space.of({"method": ("lsq", "affine"), "weight": (2, 4)})
    sampler = AbsSampler(space, lambda codes: codes.sum(axis=1).astype(float))
    study = new_study(sampler)
    seen = set()
    for _ in range(4):
        trial = study.ask()
        suggest(trial, space)
        seen.add((trial.params["method"], trial.params["weight"]))
        study.tell(trial, (0.5, 1.0))
    assert seen == {(method, code) for method in ("lsq", "affine") for code in (0, 1)}


def test_a_new_sampler_goes_on_from_the_trials_of_the_study() -> None:
    study = new_study()
    done: list[Codes] = []
    for _ in range(30):
        done.append(proposed(study, sampler_of_bits()))
        add(study, done[-1])
    assert len(set(done)) == 30
    assert done[0] == SPACE.widest


def test_what_runs_elsewhere_is_not_proposed() -> None:
    study = new_study()
    add(study, SPACE.widest, TrialState.RUNNING)
    assert proposed(study, sampler_of_bits()) == SPACE.uniform(4)


def test_what_failed_with_a_reason_is_not_proposed_again() -> None:
    study = new_study()
    add(study, SPACE.widest, TrialState.FAIL, **{REASON: "out of memory"})
    assert proposed(study, sampler_of_bits()) == SPACE.uniform(4)


def test_what_was_interrupted_is_proposed_again() -> None:
    study = new_study()
    add(study, SPACE.widest, TrialState.FAIL, **{COPY: "interrupted"})
    assert proposed(study, sampler_of_bits()) == SPACE.widest


def test_what_killed_its_workers_is_proposed_again_only_until_it_did_so_often() -> None:
    study = new_study()
    for deaths in range(MOST_DEATHS):
        assert proposed(study, sampler_of_bits()) == SPACE.widest, deaths
        add(study, SPACE.widest, TrialState.RUNNING, **{MEMORY: 80.0})
        assert retire(study, now=time.time() + 2 * UNLEASED_S) == (len(study.get_trials()) - 1,)
    assert proposed(study, sampler_of_bits()) == SPACE.uniform(4)


def test_a_stopped_trial_is_learned_from_but_is_no_member_of_the_front() -> None:
    study = new_study()
    add(study, SPACE.widest)
    add(study, SPACE.narrowest, **{BUDGET: 0.25})
    coding = _coding_of(SPACE)
    sampler = sampler_of_bits()
    history, failed, reference = sampler._history(study, coding, study.ask()._cached_frozen_trial)
    assert history.codes.tolist() == [list(SPACE.widest), list(SPACE.narrowest)]
    assert history.complete.tolist() == [True, False]
    assert history.accuracy.tolist() == [0.9, accuracy(SPACE.assignment(SPACE.narrowest))]
    assert (failed, reference) == (set(), 0.9)


def test_a_study_is_learned_from_as_its_candidates_are_valued() -> None:
    study = new_study()
    for number, codes in enumerate(islice(SPACE.every(), FEWEST + 2)):
        value = accuracy(SPACE.assignment(codes))
        told = {FLIPPED: (number % 7) / 100, ERROR: 0.01, ACCURACY: value + 0.003}
        add(study, codes, **told, **({BUDGET: 0.25} if number in (3, 8) else {}))
    history, _, _ = sampler_of_bits()._history(study, _coding_of(SPACE), study.ask()._cached_frozen_trial)
    trials = records_of(SPACE, study.get_trials())
    values = [trial.sure for trial in trials]
    np.testing.assert_allclose(history.accuracy, steady_values(trials))
    np.testing.assert_allclose(history.accuracy[[3, 8]], [values[3], values[8]])
    assert np.abs(history.accuracy - values).max() > 0.01


def test_only_the_first_of_two_equal_trials_counts() -> None:
    study = new_study()
    add(study, SPACE.widest)
    add(study, SPACE.widest, **{COPY: 0})
    sampler = AbsSampler(SPACE, memory_of)
    history, _, _ = sampler._history(study, _coding_of(SPACE), study.ask()._cached_frozen_trial)
    assert len(history.codes) == 1


def test_a_limit_on_the_drop_looks_below_the_widest_once_that_is_known() -> None:
    best = SPACE.codes(BEST)
    study = new_study()
    others = [codes for codes in SPACE.every() if codes != best]
    for number in np.random.default_rng(0).permutation(len(others))[:40]:
        add(study, others[number])
    sampler = sampler_of_bits(accuracy_drop=0.005)
    found = []
    for _ in range(8):  # what is left of the fixed start, then the model's proposals
        found.append(proposed(study, sampler))
        add(study, found[-1])
    assert best in found


def test_a_memory_limit_holds_for_the_first_trial_too() -> None:
    study = new_study()
    sampler = sampler_of_bits(memory=30.0)
    inside = {codes for codes in SPACE.every() if memory(SPACE.assignment(codes)) <= 30.0}
    done = []
    for _ in inside:
        done.append(proposed(study, sampler))
        add(study, done[-1])
    assert set(done) == inside
