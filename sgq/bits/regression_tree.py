"""SGQuant's own loop, as far as it is known: a regression tree on batches of measured assignments.

40 random assignments are measured and a tree is fitted; then, round by round, 2,000 random assignments are
predicted, those above the accuracy bound less a tolerance are kept, and the 40 of least memory are measured
(arXiv 2007.05100; its code was never released, so this follows the description).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from sgq.bits.limits import Limits
from sgq.bits.proposals import MemoryOf, row_keys
from sgq.bits.space import Space
from sgq.bits.space_sampler import SpaceSampler
from sgq.bits.trials import codes_of, parameters_of, taken_codes

ROUND = 40
SAMPLED = 2000
TOLERANCE = 0.005


class RegressionTreeSampler(SpaceSampler):
    """Propose what a regression tree predicts to hold the accuracy limit with the least memory.

    Without an accuracy limit the bound is the best accuracy measured so far.
    """

    def __init__(self, space: Space, memory: MemoryOf, *, limits: Limits, seed: int = 0) -> None:
        super().__init__(space, seed=seed)
        self._memory = memory
        self._limits = limits
        self._seed = seed
        self._round = -1
        self._batch = np.zeros((0, len(space.axes)), dtype=np.int64)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the next assignment of the round, or a random one where all of it is measured."""
        del search_space
        trials = self.others(study, trial)
        taken = sorted(taken_codes(self._space, trials))
        finished = [other for other in trials if other.state is TrialState.COMPLETE]
        generator = np.random.default_rng((self._seed, len(trials)))
        if len(finished) // ROUND > self._round:
            self._round = len(finished) // ROUND
            self._batch = (
                self._space.sample(generator, SAMPLED) if not self._round else self._chosen(finished)
            )
        known = row_keys(np.array(taken, dtype=np.int64).reshape(-1, len(self._space.axes)))
        unseen = self._batch[~np.isin(row_keys(self._batch), known)]
        codes = unseen[0] if len(unseen) else self._space.sample(generator, 1)[0]
        return parameters_of(self._space, codes)

    def _chosen(self, finished: list[FrozenTrial]) -> np.ndarray:
        """Return the assignments of a round, least memory first, from a tree over all finished trials."""
        from sklearn.tree import DecisionTreeRegressor

        rows = [(codes_of(self._space, trial), trial.values[0]) for trial in finished]
        codes = np.array([row for row, _ in rows])
        accuracy = np.array([value for _, value in rows])
        widest = accuracy[(codes == np.array(self._space.widest)).all(axis=1)]
        bound = self._limits.least_accuracy(float(widest[0]) if len(widest) else None)
        tree = DecisionTreeRegressor(random_state=self._seed).fit(codes, accuracy)
        sampled = self._space.sample(np.random.default_rng((self._seed, self._round, 1)), SAMPLED)
        predicted = tree.predict(sampled)
        kept = sampled[predicted >= (accuracy.max() if bound is None else bound) - TOLERANCE]
        chosen = kept if len(kept) >= ROUND else sampled[np.argsort(-predicted)[:ROUND]]
        return chosen[np.argsort(self._memory(chosen), kind="stable")]
