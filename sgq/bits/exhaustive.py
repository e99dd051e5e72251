"""All assignments of a small space, one after the other."""

from __future__ import annotations

from typing import Any

from optuna.distributions import BaseDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial

from sgq.bits.space_sampler import SpaceSampler
from sgq.bits.trials import parameters_of, taken_codes


class ExhaustiveSampler(SpaceSampler):
    """Propose the first assignment, narrowest first, that no other trial has."""

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the next assignment; the first one again when all are taken."""
        del search_space
        taken = taken_codes(self._space, self.others(study, trial))
        codes = next((codes for codes in self._space.every() if codes not in taken), self._space.narrowest)
        return parameters_of(self._space, codes)
