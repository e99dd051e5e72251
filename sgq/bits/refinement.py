"""What to measure below an assignment that holds its limit: what the cost model expects to hold it, too.

A search measures an assignment once, with the noise of one finetuning. Where repeats have shown that one
holds, they tell the cost model much more about the limit than the trials around it. It then walks down from
there, narrowing whatever it expects to save most bytes for the accuracy that it costs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from sgq.bits.gaussian_process import GaussianProcess
from sgq.bits.proposals import SQUASH_AT_LIMIT, MemoryOf, moved, row_keys, squashed
from sgq.bits.space import Codes, Space

NEIGHBOURS = 32
"""Random assignments looked at around each one of the way down."""
LEAST_SAVING = 0.004
"""Below such an expected saving, as a share of the bytes, nothing is worth its repeats."""
LUCKS = (np.arange(100) + 0.5) / 100
"""How lucky repeats may be, in hundredths: what has at least such a chance to hold does so then."""
LEAST_CHANCE = 0.02
"""What holds with less is not worth its repeats, however much it would save."""
CHEAPEST = 1e-6
"""Accuracy that narrowing costs at least: what the model expects to cost none is not free."""


@dataclass(frozen=True)
class Known:
    """What was measured: codes [known, axes], how far `above` the limit that is, and of how many `repeats`.

    `above` are accuracies less what they must hold the limit by, their margins or errors: from 0 on one
    holds. `trainings` [known, trainings] are the shares of those that each was measured on. One noise is
    fitted to all: where single measurements are steadied (`sgq.bits.steadying`), repeats count for more than
    they should.
    """

    codes: np.ndarray
    above: np.ndarray
    repeats: np.ndarray
    trainings: np.ndarray


class Refiner:
    """Proposes assignments below one that holds; the limit is where `Known.above` is 0."""

    def __init__(
        self,
        space: Space,
        memory: MemoryOf,
        *,
        seed: int = 0,
        repeats: int = 1,
        memory_limit: float | None = None,
    ) -> None:
        """Propose what is then measured so many times, and has so many bytes at most."""
        self.space = space
        self.memory = memory
        self.memory_limit = math.inf if memory_limit is None else memory_limit
        self.seed = seed
        self.repeats = repeats
        self._narrowable = np.array([axis.ordered for axis in space.axes])

    def smaller(
        self, known: Known, holding: Codes, *, excluded: Sequence[Codes], count: int
    ) -> tuple[Codes, ...]:
        """Return up to `count` assignments to measure at once, the largest first.

        They are those of which the smallest that holds is expected to save most below `holding`: where the
        model is unsure, some are safer than others. None of the `excluded` ones, and none where next to
        nothing is expected.
        """
        if count < 1 or not self._narrowable.any():
            return ()
        model = GaussianProcess(self.space)
        above = squashed(known.above, SQUASH_AT_LIMIT)
        model.fit(known.codes, above, repeats=known.repeats, trainings=known.trainings)
        pool = self._pool(model, holding)
        pool = pool[~np.isin(row_keys(pool), row_keys(np.array([holding, *excluded])))]
        least_bytes = float(self.memory(np.array([holding]))[0])
        packed_bytes = self.memory(pool)
        below = (packed_bytes < least_bytes) & (packed_bytes <= self.memory_limit)
        if not below.any():
            return ()
        pool, saved = pool[below], 1.0 - packed_bytes[below] / least_bytes
        mean, spread = model.predict(pool)
        chance = ndtr(mean / np.hypot(spread, model.noise / math.sqrt(self.repeats)))
        picks = _best_together(saved, chance, count)
        return tuple(tuple(pool[pick].tolist()) for pick in sorted(picks, key=lambda pick: saved[pick]))

    def _pool(self, model: GaussianProcess, start: Codes) -> np.ndarray:
        """Return the way down from `start`, and random neighbours of all that is on it."""
        path = self._way_down(model, np.array(start))
        generator = np.random.default_rng((self.seed, len(path)))
        axes = np.flatnonzero(self._narrowable)
        near = moved(np.repeat(path, NEIGHBOURS, axis=0), np.array(self.space.counts), axes, generator)
        return np.unique(np.concatenate((path, near)), axis=0)

    def _way_down(self, model: GaussianProcess, start: np.ndarray) -> np.ndarray:
        """Return the assignments from `start` to the narrowest, each a step of one axis below the last."""
        path = [start]
        steps = np.eye(len(start), dtype=start.dtype)
        while len(axes := np.flatnonzero(self._narrowable & (path[-1] > 0))):
            around = np.concatenate((path[-1:], path[-1] - steps[axes]))
            packed_bytes, mean = self.memory(around), model.mean(around)
            saved, cost = packed_bytes[0] - packed_bytes[1:], mean[0] - mean[1:]
            path.append(around[1 + int((saved / np.maximum(cost, CHEAPEST)).argmax())])
        return np.array(path)


def _best_together(saved: np.ndarray, chance: np.ndarray, count: int) -> list[int]:
    """Return up to `count` places of candidates, picked one by one for what each adds to those before.

    That is the expected largest saving among those that hold. What holds with a smaller chance holds only
    where all that have a larger one do: they are alike, and lucky together.
    """
    picks: list[int] = []
    best = np.zeros(len(LUCKS))
    holds = (chance[:, None] >= LUCKS) & (chance[:, None] >= LEAST_CHANCE)
    while len(picks) < count:
        gains = np.maximum(holds * saved[:, None] - best, 0.0).mean(1)
        pick = int(gains.argmax())
        if gains[pick] < LEAST_SAVING:
            break
        picks.append(pick)
        best = np.maximum(best, holds[pick] * saved[pick])
    return picks
