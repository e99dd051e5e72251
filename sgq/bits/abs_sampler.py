"""Automatic bit selection as a sampler of Optuna: it models accuracy and proposes what pays most."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import intersection_search_space
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from sgq.bits.gaussian_process import ALL_TRAININGS, training_shares
from sgq.bits.leases import is_retired
from sgq.bits.limits import Limits
from sgq.bits.proposals import History, MemoryOf, Proposer
from sgq.bits.space import Axis, Codes, Space
from sgq.bits.steadying import sure_values
from sgq.bits.trials import BUDGET, ERROR, FLIPPED, REASON, TRAINING, accuracy_of

if TYPE_CHECKING:
    from optuna.study import Study

MOST_CHOICES = 64
"""A parameter with more values has no axis: it is drawn at random."""


class AbsSampler(BaseSampler):
    """Propose the assignments that are expected to improve accuracy against memory most.

    `space` and `memory` (bytes [assignments] of codes [assignments, axes]) describe a search over bits; the
    first objective is then accuracy. `limits` are where to look: inside them the least memory is looked for.
    Without a space, categorical and integer parameters of any single-objective study are its axes.

    What is proposed depends on the study's trials, on `seed`, and on when the cost model was last tuned: a
    resumed study knows all its trials, but need not propose what it would have without the break.
    """

    def __init__(
        self,
        space: Space | None = None,
        memory: MemoryOf | None = None,
        *,
        limits: Limits | None = None,
        seed: int = 0,
    ) -> None:
        self._space = space
        self._memory = memory
        self._limits = limits or Limits()
        self._seed = seed
        self._random = RandomSampler(seed=seed)
        self._proposer: tuple[object, Proposer] | None = None
        self._queue: list[Codes] = []

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the axes: those of the space, or the parameters that all finished trials have."""
        del trial
        if self._space is not None:
            coding = _coding_of(self._space)
            return {name: coding.distribution(name) for name in coding.space.names}
        found = intersection_search_space(study.get_trials(deepcopy=False))
        return {name: spread for name, spread in found.items() if not spread.single()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the next assignment to measure; parameters with too many values are drawn at random."""
        if self._memory is None:
            self._raise_error_if_multi_objective(study)
        coding = (
            _coding_of(self._space) if self._space is not None else _coding_of_distributions(search_space)
        )
        drawn = {
            name: self._random.sample_independent(study, trial, name, spread)
            for name, spread in search_space.items()
            if coding is None or name not in coding.values
        }
        if coding is None:
            return drawn
        history, excluded, reference = self._history(study, coding, trial)
        known = {tuple(codes) for codes in (*history.codes.tolist(), *history.pending.tolist())} | excluded
        self._queue = [codes for codes in self._queue if codes not in known]
        if not self._queue:
            proposer = self._proposer_for(coding, self._limits.least_accuracy(reference))
            proposed = proposer.propose(history, excluded=excluded)
            # A space that was measured whole has nothing unseen: any of it does.
            self._queue = proposed or [
                tuple(self._generator(len(known)).integers(0, coding.space.counts).tolist())
            ]
        return drawn | coding.parameters(self._queue.pop(0))

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return a random value: for parameters that are no axis, and before there is a history."""
        if self._memory is None:
            self._raise_error_if_multi_objective(study)
        return self._random.sample_independent(study, trial, param_name, param_distribution)

    def reseed_rng(self) -> None:
        """Draw random values anew, for a copy of the sampler in another thread."""
        self._random.reseed_rng()

    def _generator(self, count: int) -> np.random.Generator:
        return np.random.default_rng((self._seed, count))

    def _proposer_for(self, coding: Coding, least_accuracy: float | None) -> Proposer:
        key = (coding.space, least_accuracy)
        if self._proposer is None or self._proposer[0] != key:
            proposer = Proposer(
                coding.space,
                self._memory or (lambda codes: np.zeros(len(codes))),
                accuracy_limit=least_accuracy,
                memory_limit=self._limits.memory,
                seed=self._seed,
            )
            self._proposer = key, proposer
        return self._proposer[1]

    def _history(
        self, study: Study, coding: Coding, own: FrozenTrial
    ) -> tuple[History, set[Codes], float | None]:
        """Return what was measured, what failed, and the accuracy of the widest assignment."""
        sign = -1.0 if study.directions[0] is StudyDirection.MINIMIZE else 1.0
        measured: dict[Codes, _Measured] = {}
        pending: list[Codes] = []
        failed: set[Codes] = set()
        reference: float | None = None
        for trial in study.get_trials(deepcopy=False):
            codes = coding.codes(trial)
            if codes is None or trial.number == own.number:
                continue
            if trial.state is TrialState.COMPLETE and np.isfinite(trial.values[0]):
                value = sign * trial.values[0]
                one = _Measured(value) if self._memory is None else _Measured.of(trial, value)
                measured.setdefault(codes, one)
                if codes == coding.space.widest:
                    reference = one.value + one.margin
            elif trial.state is TrialState.RUNNING:
                pending.append(codes)
            elif trial.state is TrialState.FAIL and REASON in trial.user_attrs and not is_retired(trial):
                failed.add(codes)
        axes = len(coding.space.axes)
        history = History(
            codes=np.array(list(measured), dtype=np.int64).reshape(-1, axes),
            accuracy=_looked_by([*measured.values()]),
            complete=np.array([one.whole for one in measured.values()], dtype=bool),
            trainings=training_shares([one.training for one in measured.values()]),
            pending=np.array([codes for codes in pending if codes not in measured], dtype=np.int64).reshape(
                -1, axes
            ),
        )
        return history, failed, reference


class _Measured(NamedTuple):
    """What a trial says: its first value, which is an accuracy less its margin, and how sure it is."""

    value: float
    margin: float = 0.0
    error: float = 0.0
    flipped: float = math.nan
    whole: bool = True
    training: int = ALL_TRAININGS

    @classmethod
    def of(cls, trial: FrozenTrial, value: float) -> _Measured:
        """Return what a trial of a search of ours says in its attributes; those of another are its own."""
        attributes = trial.user_attrs
        flipped = attributes.get(FLIPPED)
        return cls(
            value=value,
            margin=accuracy_of(trial) - trial.values[0],
            error=float(attributes.get(ERROR, 0.0)),
            flipped=math.nan if flipped is None else float(flipped),
            whole=float(attributes.get(BUDGET, 1.0)) >= 1.0,
            training=int(attributes.get(TRAINING, ALL_TRAININGS)),
        )


def _looked_by(measured: Sequence[_Measured]) -> np.ndarray:
    """Return values [trials] without the luck that changed classes tell of."""
    numbers = [(one.value, one.margin, one.error, one.flipped) for one in measured]
    value, margin, error, flipped = np.array(numbers, dtype=float).reshape(-1, 4).T
    whole = np.array([one.whole for one in measured], dtype=bool)
    return sure_values(value + margin, margin, error, flipped, whole)


@dataclass(frozen=True)
class Coding:
    """How codes of a space stand in the parameters of a trial: the value of every code of every axis."""

    space: Space
    values: Mapping[str, tuple[Any, ...]]

    def parameters(self, codes: Sequence[int]) -> dict[str, Any]:
        """Return the parameters that stand for codes."""
        return {name: self.values[name][code] for name, code in zip(self.space.names, codes, strict=True)}

    def codes(self, trial: FrozenTrial) -> Codes | None:
        """Return the codes of a trial; None where it lacks a parameter or has a value of another range."""
        chosen = trial.params
        try:
            return tuple([code_of(chosen[name]) for name, code_of in self._code_of.items()])
        except (KeyError, ValueError):
            return None

    @cached_property
    def _code_of(self) -> dict[str, Callable[[Any], int]]:
        """What returns the code of a value, for every axis in order; choices of a study may have no hash."""
        return {
            axis.name: {value: code for code, value in enumerate(values)}.__getitem__
            if axis.ordered
            else values.index
            for axis, values in ((axis, self.values[axis.name]) for axis in self.space.axes)
        }

    def distribution(self, name: str) -> BaseDistribution:
        """Return what a parameter of the space is suggested from."""
        axis = next(axis for axis in self.space.axes if axis.name == name)
        values = self.values[name]
        return IntDistribution(values[0], values[-1]) if axis.ordered else CategoricalDistribution(values)


def _coding_of(space: Space) -> Coding:
    """Return the coding of a study of ours: codes for an axis of bits, the choices themselves for another."""
    return Coding(
        space,
        {axis.name: tuple(range(len(axis.choices))) if axis.ordered else axis.choices for axis in space.axes},
    )


def _coding_of_distributions(distributions: Mapping[str, BaseDistribution]) -> Coding | None:
    """Return the coding of parameters of any study; None where none has few enough values."""
    axes: list[Axis] = []
    values: dict[str, tuple[Any, ...]] = {}
    for name, spread in distributions.items():
        if isinstance(spread, CategoricalDistribution):
            values[name] = tuple(spread.choices)
            axes.append(Axis(name, tuple(map(str, range(len(spread.choices))))))
        elif isinstance(spread, IntDistribution) and (spread.high - spread.low) // spread.step < MOST_CHOICES:
            values[name] = tuple(range(spread.low, spread.high + 1, spread.step))
            axes.append(Axis(name, tuple(range(1, len(values[name]) + 1))))
    return Coding(Space(tuple(axes)), values) if axes else None
