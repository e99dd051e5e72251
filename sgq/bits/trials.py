"""What a search measured: one record a trial, and how it is kept in a trial of Optuna."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Literal

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from sgq.bits.leases import is_retired, retire_dead
from sgq.bits.space import Axis, Choice, Codes, Space

State = Literal["finished", "stopped", "failed"]

BUDGET, SECONDS, MEMORY, REASON, COPY = "budget", "seconds", "memory", "reason", "not_counted"
"""User attributes of a trial: share of the budget, seconds, bytes, why it failed, why it does not count."""
ACCURACY, ERROR, CHANGED = "accuracy", "error", "changed"
"""Those of an accuracy with a standard error, of the error, and of the rows that changed; the trial's first
value is the accuracy less the margin."""
TRAINING, FLIPPED = "training", "flipped"
"""Those of the training that was measured on, where there are several, and of the share of flipped rows."""
MOST_TRAININGS = 1000
"""The cost model learns the luck of each: a number beyond is one of something else, such as a seed."""
OVER_MEMORY = "over the memory limit"
"""Why a trial does not count that nobody has to try again."""
MOST_DEATHS = 2
DIED_TWICE = "its worker died twice"
"""An assignment at which so many workers died fails for that: it may be what killed them."""


@dataclass(frozen=True)
class Trial:
    """One measured assignment. `memory` is in bytes, `accuracy` from 0 to 1 (None where it failed).

    `error` is the accuracy's standard error; limits have to be held by what is left without the `margin`
    (None: without the error). A stopped trial had only the share `budget` of its epochs: its accuracy was
    hopeless by then. `changed`, `training` and `flipped` are the evaluation's.
    """

    number: int
    assignment: dict[str, Choice]
    memory: float
    accuracy: float | None
    state: State = "finished"
    budget: float = 1.0
    seconds: float = 0.0
    reason: str = ""
    error: float = 0.0
    changed: str = ""
    training: int | None = None
    margin: float | None = None
    flipped: float | None = None

    @property
    def taken_off(self) -> float:
        """The margin, or the error where there is none of its own."""
        return self.error if self.margin is None else self.margin

    @property
    def sure(self) -> float | None:
        """The accuracy less its margin."""
        return None if self.accuracy is None else self.accuracy - self.taken_off


@dataclass(frozen=True)
class Evaluation:
    """What an `evaluate` may return instead of a number: an accuracy (0 to 1) at a share of the budget.

    `error` is its standard error, `margin` what a search takes off it before it holds its limits, and looks
    (None: the error; less, where what is found is measured again and has to hold the limit then).
    `changed` are the rows that it is of (`sgq.bits.changes.Changes` as text), where they are known, and
    `training` the number, from 0, of the one of several trainings that it was measured on: all that is
    measured on one has its luck in common. `flipped` is the share of rows, of those without a label as well,
    whose class is another one than without any quantization (or with the most bits): it is known far more
    surely than a drop, and what it costs is learned (`sgq.bits.steadying`).
    """

    accuracy: float
    budget: float = 1.0
    error: float = 0.0
    changed: str = ""
    training: int | None = None
    margin: float | None = None
    flipped: float | None = None


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """Return what Optuna's samplers choose from: the codes of an axis of bits, the choices of another."""
    return {axis.name: _distribution(axis) for axis in space.axes}


def _distribution(axis: Axis) -> BaseDistribution:
    return (
        IntDistribution(0, len(axis.choices) - 1) if axis.ordered else CategoricalDistribution(axis.choices)
    )


def suggest(trial: optuna.Trial, space: Space) -> None:
    """Have the study's sampler choose every axis of a trial."""
    for axis in space.axes:
        if axis.ordered:
            trial.suggest_int(axis.name, 0, len(axis.choices) - 1)
        else:
            trial.suggest_categorical(axis.name, axis.choices)


def parameters_of(space: Space, codes: Sequence[int]) -> dict[str, Choice]:
    """Return the parameters of an Optuna trial that stand for codes."""
    return {
        axis.name: int(code) if axis.ordered else axis.choices[code]
        for axis, code in zip(space.axes, codes, strict=True)
    }


def codes_of(space: Space, trial: FrozenTrial) -> Codes | None:
    """Return the codes of a trial, also of a queued one; None for one that has not got all of them yet."""
    chosen = {**trial.system_attrs.get(_QUEUED, {}), **trial.params}
    if any(name not in chosen for name in space.names):
        return None
    return tuple(
        chosen[axis.name] if axis.ordered else axis.choices.index(chosen[axis.name]) for axis in space.axes
    )


_QUEUED = "fixed_params"
"""Where Optuna keeps what an enqueued trial will have."""


def taken_codes(space: Space, trials: Iterable[FrozenTrial]) -> set[Codes]:
    """Return the assignments that need no other trial: measured, running, queued or given up.

    One that was interrupted, or whose worker died, is free again; see `MOST_DEATHS`.
    """
    taken = (codes_of(space, trial) for trial in trials if is_taken(trial))
    return {codes for codes in taken if codes is not None}


def is_taken(trial: FrozenTrial) -> bool:
    """Whether the assignment of a trial needs no other one."""
    return is_live(trial) or is_measured(trial) or trial.user_attrs.get(COPY) == OVER_MEMORY


def retire(study: optuna.Study, *, now: float | None = None) -> tuple[int, ...]:
    """Give back the trials of dead workers, and fail one at whose assignment `MOST_DEATHS` of them died.

    Return the numbers of both; see `sgq.bits.leases.retire_dead`.
    """

    def given_up(trial: FrozenTrial) -> str:
        if MEMORY not in trial.user_attrs:
            return ""  # its evaluation had not begun
        earlier = (other.params for other in study.get_trials(deepcopy=False) if is_retired(other))
        deaths = 1 + sum(params == trial.params for params in earlier)
        return DIED_TWICE if deaths >= MOST_DEATHS else ""

    return retire_dead(study, now=now, given_up=given_up)


def is_live(trial: FrozenTrial) -> bool:
    """Whether a trial of Optuna is in the queue or running."""
    return trial.state in (TrialState.WAITING, TrialState.RUNNING)


def is_measured(trial: FrozenTrial) -> bool:
    """Whether a trial of Optuna counts: it has a result, or a reason why not, and is no copy of another."""
    if COPY in trial.user_attrs or is_retired(trial):
        return False
    return trial.state is TrialState.COMPLETE or (
        trial.state is TrialState.FAIL and REASON in trial.user_attrs
    )


def record_of(space: Space, trial: FrozenTrial) -> Trial | None:
    """Return the record of a trial that counts as evaluated, else None."""
    codes = codes_of(space, trial)
    if codes is None or not is_measured(trial):
        return None
    attributes = trial.user_attrs
    budget = float(attributes.get(BUDGET, 1.0))
    failed = trial.state is TrialState.FAIL
    return Trial(
        number=trial.number,
        assignment=space.assignment(codes),
        memory=float(attributes[MEMORY]) if failed else trial.values[1],
        accuracy=None if failed else accuracy_of(trial),
        state="failed" if failed else "finished" if budget >= 1.0 else "stopped",
        budget=budget,
        seconds=float(attributes.get(SECONDS, 0.0)),
        reason=str(attributes.get(REASON, "")),
        error=float(attributes.get(ERROR, 0.0)),
        changed=str(attributes.get(CHANGED, "")),
        training=attributes.get(TRAINING),
        flipped=attributes.get(FLIPPED),
        margin=None if failed or ACCURACY not in attributes else attributes[ACCURACY] - trial.values[0],
    )


def accuracy_of(trial: FrozenTrial) -> float:
    """Return the accuracy of a finished trial of a search, its margin not taken off."""
    return float(trial.user_attrs.get(ACCURACY, trial.values[0]))


def records_of(space: Space, trials: Iterable[FrozenTrial]) -> tuple[Trial, ...]:
    """Return the records of all trials that count as evaluated, by number."""
    records = (record_of(space, trial) for trial in trials)
    return tuple(
        sorted((record for record in records if record is not None), key=lambda record: record.number)
    )


def fault_of(found: Evaluation) -> str:
    """Return what an evaluation has that cannot be meant, or an empty text."""
    for name, value in (
        ("an accuracy", found.accuracy),
        ("a budget", found.budget),
        ("a standard error", found.error),
        ("a margin", 0.0 if found.margin is None else found.margin),
        ("a share of changed classes", 0.0 if found.flipped is None else found.flipped),
    ):
        if not is_accuracy(value):
            return f"expected {name} from 0 to 1 (got {value!r})"
    if not isinstance(found.changed, str):
        return f"expected changed rows as a text (got {found.changed!r})"
    if found.training is not None and not _is_training(found.training):
        return f"expected the number of a training from 0 to {MOST_TRAININGS - 1} (got {found.training!r})"
    return ""


def _is_training(value: object) -> bool:
    try:
        return 0 <= operator.index(value) < MOST_TRAININGS  # type: ignore[arg-type]
    except TypeError:
        return False


def is_accuracy(value: object) -> bool:
    """Whether an `evaluate` may have meant it: a finite number from 0 to 1, of Python's or numpy's."""
    return isinstance(value, Real) and not isinstance(value, bool) and 0.0 <= float(value) <= 1.0
