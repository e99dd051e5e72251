"""Which of the trials inside an accuracy limit are there by luck: the least ones are measured again.

Of many noisy measurements around a limit the best one is lucky. Trials that the cost model believes inside
the limit are finetuned anew, with other seeds and, where there are any, from other trainings of the float
model. The smallest one wins whose mean holds the limit by one standard error, of repeats and nodes together,
as Breiman et al. choose a tree (1984, 3.4.3). What varies much has to hold the limit by more. From the first
one that holds on, what is measured are smaller assignments that the model, which knows the repeats by then,
expects to hold as well.

Each one that is tried has its own chance to hold by luck, on the same validation nodes: of two dozen at the
limit several may. One standard error is therefore a rule to choose by, and no bound on what the chosen one
loses elsewhere.
"""

from __future__ import annotations

import hashlib
import math
import statistics
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sgq.bits.candidates import believed_inside, steady_values, trainings_of
from sgq.bits.changes import Changes, independent_error, joint_error, two_way_error
from sgq.bits.deferred import DeferredAccuracy
from sgq.bits.gaussian_process import ALL_TRAININGS, training_shares
from sgq.bits.limits import ROUNDING
from sgq.bits.pool import Workers
from sgq.bits.refinement import Known, Refiner
from sgq.bits.searching import SearchResult, search
from sgq.bits.space import Assignment, Codes, Space
from sgq.bits.trials import Evaluation, Trial

CANDIDATES = 3
REPEATS = 10
ROUNDS = 8
"""Rounds until one holds."""
MOST_SMALLER = 24
"""Assignments below it that are measured at most."""


@dataclass(frozen=True)
class Confirmation:
    """A trial, the accuracies (0 to 1) that it had in repeats, and the error of their mean over nodes.

    `independent` is the part of that error which is in the error over repeats, too (`sgq.bits.changes`).
    `trainings` are the numbers of those that the repeats were measured on; empty where there is one.
    """

    trial: Trial
    accuracies: tuple[float, ...]
    error: float = 0.0
    independent: float = 0.0
    trainings: tuple[int, ...] = ()

    @property
    def accuracy(self) -> float:
        """The mean accuracy over the repeats."""
        return statistics.fmean(self.accuracies)

    @property
    def least_accuracy(self) -> float:
        """The mean less its standard error over repeats and nodes.

        Repeats share their nodes: more of them do not make the error over nodes vanish.
        """
        over_repeats = statistics.stdev(self.accuracies) / math.sqrt(len(self.accuracies))
        return self.accuracy - two_way_error(over_repeats, self.error, self.independent)

    def least_after(self, repeats: int) -> float:
        """Return what `least_accuracy` would be after so many repeats of the same mean and spread.

        Its error is taken to shrink by the root of their number, as if they did not share nodes.
        """
        error = self.accuracy - self.least_accuracy
        return self.accuracy - error * math.sqrt(len(self.accuracies) / repeats)


@dataclass(frozen=True)
class LeftOut:
    """A trial one of whose repeats failed, so that it has no mean over them, and why."""

    trial: Trial
    reason: str


@dataclass(frozen=True)
class Confirmed:
    """All trials that were measured again, and the smallest of them that holds; None where none does.

    Those that the search did not have are numbered after its own. `left_out` could not be measured again.
    Those of `measured` that were below the limit after half of their repeats have only these; where Ctrl-C
    ended the repeats (`interrupted`), some others have not all of theirs.
    """

    chosen: Confirmation | None
    measured: tuple[Confirmation, ...]
    interrupted: bool = False
    left_out: tuple[LeftOut, ...] = ()

    @property
    def nearest(self) -> Confirmation | None:
        """The chosen one, or else the one that comes nearest to the limit."""
        return self.chosen or max(self.measured, key=lambda item: item.least_accuracy, default=None)


@dataclass(frozen=True)
class Repeated:
    """An evaluation of {"candidate": index, "turn": number}: one of some assignments, another time.

    A candidate has as many turns as there are `repeats`: these in an order of its own (`order_of`).
    """

    accuracy: DeferredAccuracy
    candidates: tuple[Assignment, ...]
    repeats: int

    def __call__(self, assignment: Assignment) -> Evaluation:
        """Return the validation accuracy of a candidate in a turn."""
        candidate = self.candidates[int(assignment["candidate"]) - 1]
        order = order_of(candidate, self.repeats)
        return self.accuracy.again(candidate, order[int(assignment["turn"]) - 1])


def order_of(candidate: Assignment, repeats: int) -> tuple[int, ...]:
    """Return the numbers of repeats, from 1, in the order that a candidate has them: it begins anywhere.

    A repeat has a seed and a training: what is refuted after half of them is not so by the luck of the same
    few.
    """
    first = zlib.crc32(repr(sorted(candidate.items())).encode())
    return tuple(1 + (first + turn) % repeats for turn in range(repeats))


def nothing(assignment: Assignment) -> float:
    """Return 0 bytes: confirming looks at accuracy alone."""
    del assignment
    return 0.0


def confirm(
    result: SearchResult,
    accuracy: DeferredAccuracy,
    *,
    least_accuracy: float,
    storage: str | Path | None,
    study: str,
    workers: int | Workers = 1,
    smaller: int = MOST_SMALLER,
) -> Confirmed:
    """Measure trials again, from the smallest up, until the mean of one holds the limit less its error.

    Up to eight rounds of three candidates, with ten repeats each or, of several trainings, as many as give
    each training as many turns; what is below the limit after half of them, which are others for each
    candidate, has no more. Then up to so many
    `smaller` ones (`sgq.bits.refinement`), three a round. Where trials run out before one holds, candidates
    are what the cost model, taught by their repeats, expects to hold below the widest assignment.
    Finished repeats are in the storage beside the search, and are resumed. Ctrl-C ends it with those rounds
    that were measured, whether it strikes in one or between two.
    """
    rounds = _Rounds(accuracy, least_accuracy, storage, workers)
    try:
        _all_rounds(result, rounds, study, smaller)
    except KeyboardInterrupt:
        rounds.interrupted = True
    return Confirmed(rounds.chosen, tuple(rounds.measured), rounds.interrupted, tuple(rounds.left_out))


def _all_rounds(result: SearchResult, rounds: _Rounds, study: str, smaller: int) -> None:
    """Measure what is believed inside until one holds, then smaller ones."""
    ranked = believed_inside(result, rounds.least_accuracy)
    for number in range(ROUNDS):
        if rounds.chosen is not None or rounds.interrupted:
            break
        candidates = ranked[number * CANDIDATES : (number + 1) * CANDIDATES]
        if not candidates:
            candidates = _below(result, rounds, result.space.widest, count=CANDIDATES)
        if not candidates:
            break
        rounds.measure(candidates, f"{study}-confirm-{number}")
    before = len(rounds.tried)
    while rounds.chosen is not None and not rounds.interrupted:
        done = len(rounds.tried) - before
        holding = result.space.codes(rounds.chosen.trial.assignment)
        candidates = _below(result, rounds, holding, count=min(CANDIDATES, smaller - done))
        if not candidates:
            break
        rounds.measure(candidates, f"{study}-smaller-{done}")


class _Rounds:
    """Candidates that were measured again, round by round, and the smallest of them that holds."""

    def __init__(
        self,
        accuracy: DeferredAccuracy,
        least_accuracy: float,
        storage: str | Path | None,
        workers: int | Workers,
    ) -> None:
        self.accuracy = accuracy
        self.least_accuracy = least_accuracy
        self.measured: list[Confirmation] = []
        self.left_out: list[LeftOut] = []
        self.tried: list[Trial] = []
        self.interrupted = False
        self._storage = storage
        self._workers = workers

    def measure(self, candidates: Sequence[Trial], study: str) -> None:
        """Measure the first half of the repeats of candidates, then the rest of those that may yet hold.

        What is below the limit by then would have to be above it by more than its error from there on. Both
        halves are in studies of their own. Of what Ctrl-C ended in its second half, those repeats count that
        there are.
        """
        repeats = self.repeats
        half = repeats // 2
        self.tried += candidates
        found = self._repeated(candidates, study, range(1, half + 1))
        left = [
            trial
            for trial in candidates
            if len(found[trial.number]) == half and self._may_hold(found[trial.number])
        ]
        if left and not self.interrupted:
            more = self._repeated(left, f"{study}-rest", range(half + 1, repeats + 1))
            found |= {number: (*found[number], *rest) for number, rest in more.items()}
        for trial in candidates:
            own = found[trial.number]
            failed = [repeat for repeat in own if repeat.accuracy is None]
            if failed:
                self.left_out.append(LeftOut(trial, failed[0].reason))
            elif len(own) >= half:
                self.measured.append(_confirmation(trial, own))

    def _may_hold(self, repeats: Sequence[Trial]) -> bool:
        """Whether the mean of some repeats holds the limit; False where one failed."""
        accuracies = [repeat.accuracy for repeat in repeats if repeat.accuracy is not None]
        whole = len(accuracies) == len(repeats)
        return whole and statistics.fmean(accuracies) >= self.least_accuracy - ROUNDING

    def _repeated(
        self, candidates: Sequence[Trial], study: str, turns: range
    ) -> dict[int, tuple[Trial, ...]]:
        """Return such turns of each candidate, by its number; fewer where Ctrl-C ended them."""
        space = Space.of({"candidate": range(1, len(candidates) + 1), "turn": turns})
        objective = {
            f"candidate {place}": str(dict(trial.assignment))
            for place, trial in enumerate(candidates, start=1)
        }
        result = search(
            space,
            Repeated(self.accuracy, tuple(trial.assignment for trial in candidates), self.repeats),
            nothing,
            trials=space.size,
            sampler="exhaustive",
            storage=self._storage,
            # A search that went on has other candidates, and so another study.
            study=f"{study}-{hashlib.sha256(repr((space.names, objective)).encode()).hexdigest()[:8]}",
            workers=self._workers,
            resume=None,  # another process of the search may have begun them
            objective=objective,
        )
        self.interrupted = result.interrupted
        return {
            trial.number: tuple(one for one in result.trials if one.assignment["candidate"] == place)
            for place, trial in enumerate(candidates, start=1)
        }

    @property
    def repeats(self) -> int:
        """How often each candidate is measured again: every training has as many turns."""
        return math.ceil(REPEATS / self.accuracy.trainings) * self.accuracy.trainings

    @property
    def chosen(self) -> Confirmation | None:
        """The one of least memory that holds the limit less its error, by all of its repeats."""
        least = self.least_accuracy - ROUNDING
        whole = (item for item in self.measured if len(item.accuracies) == self.repeats)
        holding = (item for item in whole if item.least_accuracy >= least)
        return min(holding, key=lambda item: item.trial.memory, default=None)


def _below(result: SearchResult, rounds: _Rounds, holding: Codes, *, count: int) -> list[Trial]:
    """Return what the cost model expects to hold, of less memory than `holding`: trials, or new ones."""
    space, memory = result.space, rounds.accuracy.built.space.memory.of_codes
    again = {space.codes(item.trial.assignment): item for item in rounds.measured}
    once = {space.codes(trial.assignment): trial for trial in result.trials}
    measured = [trial for trial in result.trials if trial.accuracy is not None]
    steady = zip(measured, steady_values(measured), strict=True)
    alone = {space.codes(trial.assignment): value for trial, value in steady}
    alone = {codes: value for codes, value in alone.items() if codes not in again}
    accuracies = [*alone.values(), *(item.least_after(rounds.repeats) for item in again.values())]
    trainings = rounds.accuracy.trainings
    known = Known(
        codes=np.array([*alone, *again]),
        above=np.array(accuracies) - rounds.least_accuracy,
        repeats=np.array([1] * len(alone) + [len(item.accuracies) for item in again.values()]),
        trainings=np.concatenate(
            (
                trainings_of([once[codes] for codes in alone], trainings),
                *(
                    training_shares(item.trainings or [ALL_TRAININGS], trainings).mean(0, keepdims=True)
                    for item in again.values()
                ),
            )
        ),
    )
    failed = [codes for codes, trial in once.items() if trial.state == "failed"]
    tried = [space.codes(trial.assignment) for trial in rounds.tried]
    refiner = Refiner(
        space,
        memory,
        seed=rounds.accuracy.built.seed,
        repeats=rounds.repeats,
        memory_limit=result.limits.memory,
    )
    wanted = refiner.smaller(known, holding, excluded=[*failed, *tried], count=count)
    number = 1 + max(trial.number for trial in (*result.trials, *rounds.tried))
    new = [
        Trial(number + place, space.assignment(codes), float(memory(np.array([codes]))[0]), accuracy=None)
        for place, codes in enumerate(wanted)
    ]
    return [once.get(codes, trial) for codes, trial in zip(wanted, new, strict=True)]


def _confirmation(trial: Trial, repeats: Sequence[Trial]) -> Confirmation:
    """Return what repeats of a trial came to; one that the search did not measure has their accuracy."""
    accuracies = tuple(repeat.accuracy or 0.0 for repeat in repeats)
    trainings = tuple(repeat.training for repeat in repeats if repeat.training is not None)
    item = Confirmation(trial, accuracies, *_errors_over_nodes(repeats), trainings)
    if trial.accuracy is not None:
        return item
    error = item.accuracy - item.least_accuracy
    seconds = math.fsum(repeat.seconds for repeat in repeats)
    return replace(item, trial=replace(trial, accuracy=item.accuracy, error=error, seconds=seconds))


def _errors_over_nodes(repeats: Sequence[Trial]) -> tuple[float, float]:
    """Return the error over nodes of the mean of repeats, and the part of it that is in each by itself."""
    runs = [Changes.parse(repeat.changed) for repeat in repeats]
    return joint_error(runs), independent_error(runs)
