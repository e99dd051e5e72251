"""All assignments of a small space, one after the other."""

from __future__ import annotations

from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from sgq.bits.space import Space
from sgq.bits.trials import distributions, parameters_of, taken_codes


class ExhaustiveSampler(BaseSampler):
    """Propose the first assignment, narrowest first, that no other trial has."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._random = RandomSampler()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the axes of the space."""
        del study, trial
        return distributions(self._space)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the next assignment; the first one again when all are taken."""
        del search_space
        others = (other for other in study.get_trials(deepcopy=False) if other.number != trial.number)
        taken = taken_codes(self._space, others)
        codes = next((codes for codes in self._space.every() if codes not in taken), self._space.narrowest)
        return parameters_of(self._space, codes)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return a random value, for a parameter that is no axis."""
        return self._random.sample_independent(study, trial, param_name, param_distribution)
