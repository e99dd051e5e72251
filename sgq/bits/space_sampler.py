"""What samplers of a space share: its axes, all chosen at once, and random values for anything else."""

from __future__ import annotations

from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from sgq.bits.space import Space
from sgq.bits.trials import distributions


class SpaceSampler(BaseSampler):
    """A sampler that chooses whole assignments of a space, in `sample_relative`."""

    def __init__(self, space: Space, *, seed: int | None = None) -> None:
        self._space = space
        self._random = RandomSampler(seed=seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the axes of the space."""
        del study, trial
        return distributions(self._space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return a random value, for a parameter that is no axis."""
        return self._random.sample_independent(study, trial, param_name, param_distribution)

    def others(self, study: Study, trial: FrozenTrial) -> list[FrozenTrial]:
        """Return all trials of a study but the one that is being sampled."""
        return [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
