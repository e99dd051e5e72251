"""Bits by integer programming: what each axis alone costs in accuracy and saves in memory, then the best sum.

The usual way of mixed-precision quantization (HAWQ-V3, arXiv 2011.10680): sensitivities are measured one axis
at a time beside the widest choices and taken to add up. Interactions are not seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from scipy.optimize import Bounds, LinearConstraint, milp

from sgq.bits.limits import Limits
from sgq.bits.proposals import MemoryOf
from sgq.bits.space import Codes, Space
from sgq.bits.space_sampler import SpaceSampler
from sgq.bits.trials import codes_of, is_measured, parameters_of, taken_codes

SHARES = (1.0, 0.5, 1.5, 0.75, 1.25, 0.25, 2.0)
"""The accuracy limit's drop times these are the first drops that are solved for."""
SWEPT_DROP, SWEEP = 0.2, 400
"""Then drops from 0 to 20 points, coarse to fine."""
SECONDS_A_SOLUTION = 1.0


class IntegerProgrammeSampler(SpaceSampler):
    """Measure every axis alone, then solve the integer programme for one drop after another."""

    def __init__(self, space: Space, memory: MemoryOf, *, limits: Limits, seed: int = 0) -> None:
        super().__init__(space, seed=seed)
        self._memory = memory
        self._limits = limits
        self._generator = np.random.default_rng(seed)
        self._alone = list(_one_axis_each(space))
        self._solved_with = -1
        self._solutions: Iterator[Codes] = iter(())

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the next single-axis assignment, the next solution, or a random one after them."""
        del search_space
        trials = self.others(study, trial)
        taken = taken_codes(self._space, trials)
        for codes in self._alone:
            if codes not in taken:
                return parameters_of(self._space, codes)
        measured = {codes_of(self._space, other): other for other in trials if is_measured(other)}
        alone = sum(codes in measured for codes in self._alone)
        if alone != self._solved_with:  # other workers may still have measured some of them
            self._solved_with, self._solutions = alone, self._solve(measured)
        chosen = next((found for found in self._solutions if found not in taken), None)
        return parameters_of(self._space, chosen or self._space.sample(self._generator, 1)[0].tolist())

    def _solve(self, trials: dict[Codes | None, FrozenTrial]) -> Iterator[Codes]:
        """Yield the least memory at one drop after another, each under the sum of the axes' own effects."""
        widest = self._space.widest
        top = _accuracy(trials.get(widest))
        reference = float(self._memory(np.array([widest]))[0])
        drops, savings = [], []
        for codes in self._alone[1:]:
            drops.append(max(0.0, top - _accuracy(trials.get(codes))))
            savings.append(reference - float(self._memory(np.array([codes]))[0]))
        owner = [next(a for a, code in enumerate(codes) if code != widest[a]) for codes in self._alone[1:]]
        once = np.zeros((len(self._space.axes), len(owner)))
        once[owner, np.arange(len(owner))] = 1.0
        least = self._limits.least_accuracy(top)
        limited = [] if least is None else [max(0.0, top - least) * share for share in SHARES]
        swept = [SWEPT_DROP * step / SWEEP for step in _coarse_to_fine(SWEEP)]
        for drop in (*limited, *swept):
            solution = milp(
                -np.array(savings),
                integrality=np.ones(len(owner)),
                bounds=Bounds(0, 1),
                constraints=[LinearConstraint(once, -np.inf, 1.0), LinearConstraint([drops], -np.inf, drop)],
                options={"time_limit": SECONDS_A_SOLUTION},
            )
            if solution.x is None:
                continue
            chosen = list(widest)
            for index in np.flatnonzero(solution.x > 0.5):
                chosen[owner[index]] = self._alone[1 + index][owner[index]]
            yield tuple(chosen)


def _one_axis_each(space: Space) -> Iterator[Codes]:
    """Yield the widest assignment, then every other choice of each axis beside it."""
    yield space.widest
    for axis, count in enumerate(space.counts):
        for code in range(count):
            if code != space.widest[axis]:
                yield (*space.widest[:axis], code, *space.widest[axis + 1 :])


def _accuracy(trial: FrozenTrial | None) -> float:
    """Return what was measured; an assignment that failed is taken for useless."""
    return trial.values[0] if trial is not None and trial.state is TrialState.COMPLETE else 0.0


def _coarse_to_fine(count: int) -> list[int]:
    """Return 1 to count, every half of it first, then the quarters between, and so on."""
    order: list[int] = []
    step = count
    while step >= 1:
        order += [number for number in range(step, count + 1, step) if number not in order]
        step //= 2
    return order
