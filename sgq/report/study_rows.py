"""What the report of a study holds: one row a trial, one row a reference, limits and settings.

A study is a search that measured many assignments of choices (mostly bits) to axes. Accuracies are simulated
(fake-quant in float) and 0 to 1, packed bytes are modelled (computed from the plan).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sgq.report.rows import Family

State = Literal["finished", "stopped", "failed"]


@dataclass(frozen=True, kw_only=True)
class TrialRow:
    """One measured assignment of a choice to each axis.

    A stopped trial's finetuning ended at an early rung, so its accuracy is of a smaller `budget` (a share
    of the whole finetuning); a failed one says in `reason` why. `holds` means inside the limits, `on_front`
    that no other trial is both smaller and more accurate. `accuracy_val_again` is the mean over `repeats` of
    the best ones, that were measured again; one measurement may have been luck. `accuracy_error` is the
    standard error of the accuracy; limits are held by what is left without `accuracy_margin`: that error, or
    less where what is found is measured again.
    """

    number: int
    state: State
    packed_bytes: float
    accuracy_val: float | None
    assignment: tuple[tuple[str, int | str], ...]
    budget: float = 1.0
    seconds: float | None = None
    reason: str = ""
    on_front: bool = False
    holds: bool = True
    accuracy_val_again: float | None = None
    repeats: int = 0
    accuracy_error: float = 0.0
    accuracy_margin: float = 0.0


@dataclass(frozen=True, kw_only=True)
class ReferenceRow:
    """One model that the trials are held against: float, uniform bits, or the recipe made of the best trial.

    `family` says how the picture draws it.
    """

    name: str
    packed_bytes: float
    accuracy_val: float | None
    accuracy_test: float | None
    family: Family


@dataclass(frozen=True, kw_only=True)
class StudyReport:
    """All trials of a study, the references, and the settings and remarks behind both.

    `limit_accuracy` is the least validation accuracy and `limit_bytes` the most packed bytes that were asked
    for, `best` the number of the chosen trial. `hypervolume` are pairs of (evaluations, hypervolume of the
    front after them), where trials in order of their numbers count as one evaluation each, whatever their
    state.
    """

    title: str
    trials: tuple[TrialRow, ...] = ()
    references: tuple[ReferenceRow, ...] = ()
    limit_accuracy: float | None = None
    limit_bytes: float | None = None
    best: int | None = None
    hypervolume: tuple[tuple[int, float], ...] = ()
    sampler: str = ""
    settings: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def axes(self) -> tuple[str, ...]:
        """The names of all axes, in the order in which the trials name them."""
        return tuple(dict.fromkeys(name for trial in self.trials for name, _ in trial.assignment))

    @property
    def front(self) -> tuple[TrialRow, ...]:
        """The trials on the front, smallest first."""
        members = (trial for trial in self.trials if trial.on_front)
        return tuple(sorted(members, key=lambda trial: (trial.packed_bytes, trial.number)))

    @property
    def best_trial(self) -> TrialRow | None:
        """The chosen trial, None where none was chosen."""
        return next((trial for trial in self.trials if trial.number == self.best), None)

    @property
    def best_row(self) -> ReferenceRow | None:
        """The chosen trial as it is compared: with the mean of its repeats, where it was measured again."""
        trial = self.best_trial
        if trial is None:
            return None
        again = trial.accuracy_val_again
        return ReferenceRow(
            name=f"best: trial {trial.number}" + ("" if again is None else f", mean of {trial.repeats}"),
            packed_bytes=trial.packed_bytes,
            accuracy_val=trial.accuracy_val if again is None else again,
            accuracy_test=None,
            family="recipe",
        )

    @property
    def best_so_far(self) -> tuple[tuple[int, TrialRow], ...]:
        """Pairs of (evaluations, the best trial measured inside the limits until then), from the first on.

        Best is smallest where there is a limit on accuracy, and most accurate where there is none.
        """
        best: TrialRow | None = None
        pairs: list[tuple[int, TrialRow]] = []
        trials = sorted(self.trials, key=lambda trial: trial.number)
        for evaluations, trial in enumerate(trials, start=1):
            fits = trial.state == "finished" and trial.holds and trial.accuracy_val is not None
            if fits and (best is None or self._rank(trial) < self._rank(best)):
                best = trial
            if best is not None:
                pairs.append((evaluations, best))
        return tuple(pairs)

    @property
    def trial_counts(self) -> dict[State, int]:
        """How many trials are in each state."""
        counts = Counter(trial.state for trial in self.trials)
        states: tuple[State, ...] = ("finished", "stopped", "failed")
        return {state: counts[state] for state in states}

    def to_json(self) -> dict[str, Any]:
        """Return plain data, all figures exact; `from_json` is its exact inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> StudyReport:
        """Rebuild a study from what `to_json` gave, also after a round trip through a file."""
        trials = (
            TrialRow(
                **(trial | {"assignment": tuple((name, choice) for name, choice in trial["assignment"])})
            )
            for trial in data["trials"]
        )
        return cls(
            title=data["title"],
            trials=tuple(trials),
            references=tuple(ReferenceRow(**row) for row in data["references"]),
            limit_accuracy=data["limit_accuracy"],
            limit_bytes=data["limit_bytes"],
            best=data["best"],
            hypervolume=tuple((evaluations, volume) for evaluations, volume in data["hypervolume"]),
            sampler=data["sampler"],
            settings=tuple((name, value) for name, value in data["settings"]),
            notes=tuple(data["notes"]),
        )

    def _rank(self, trial: TrialRow) -> tuple[float, float]:
        accuracy = trial.accuracy_val or 0.0
        if self.limit_accuracy is None:
            return -accuracy, trial.packed_bytes
        return trial.packed_bytes, -accuracy
