"""The samplers by name: automatic bit selection, and what it is held against."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler

from sgq.bits.abs_sampler import AbsSampler
from sgq.bits.exhaustive import ExhaustiveSampler
from sgq.bits.integer_programme import IntegerProgrammeSampler
from sgq.bits.limits import Limits
from sgq.bits.proposals import MemoryOf
from sgq.bits.regression_tree import RegressionTreeSampler
from sgq.bits.space import Space
from sgq.errors import SearchError, nearest_name

POPULATION = 20
"""Individuals a generation of NSGA-II; Optuna's 50 leave only four generations of 200 trials."""

_Maker = Callable[[Space, MemoryOf, Limits, int], BaseSampler]


def _tpe(space: Space, memory: MemoryOf, limits: Limits, seed: int) -> BaseSampler:
    del space, memory, limits
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return TPESampler(multivariate=True, constant_liar=True, seed=seed)


def _nsga2(space: Space, memory: MemoryOf, limits: Limits, seed: int) -> BaseSampler:
    del space, memory, limits
    return NSGAIISampler(population_size=POPULATION, seed=seed)


_MAKERS: dict[str, _Maker] = {
    "abs": lambda space, memory, limits, seed: AbsSampler(space, memory, limits=limits, seed=seed),
    "tree": lambda space, memory, limits, seed: RegressionTreeSampler(
        space, memory, limits=limits, seed=seed
    ),
    "random": lambda space, memory, limits, seed: RandomSampler(seed=seed),
    "tpe": _tpe,
    "nsga2": _nsga2,
    "milp": lambda space, memory, limits, seed: IntegerProgrammeSampler(
        space, memory, limits=limits, seed=seed
    ),
    "exhaustive": lambda space, memory, limits, seed: ExhaustiveSampler(space),
}

SAMPLERS = tuple(_MAKERS)
_MODELLED = ("abs", "tree")
"""Those that propose by what was measured; the others get a seed of their own where a study goes on."""


def check_sampler(name: str) -> None:
    """Raise SearchError, with the nearest name, for a sampler that is not known."""
    if name not in _MAKERS:
        raise SearchError(
            f'unknown sampler "{name}".{nearest_name(name, SAMPLERS)} Known: {", ".join(SAMPLERS)}'
        )


def make_sampler(
    name: str, space: Space, memory: MemoryOf, *, limits: Limits, seed: int, done: int = 0, worker: int = 0
) -> BaseSampler:
    """Return a sampler by its name, for a study that has `done` trials.

    Optuna's samplers keep their random state in memory only: one that goes on after `done` trials, or beside
    other workers, is seeded anew, or it would propose its first assignments again. Raises SearchError for an
    unknown name.
    """
    check_sampler(name)
    if name not in _MODELLED:
        seed = int(np.random.SeedSequence((seed, done, worker)).generate_state(1)[0])
    return _MAKERS[name](space, memory, limits, seed)
