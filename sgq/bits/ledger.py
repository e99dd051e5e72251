"""What a worker knows of the trials of its study; each finished one is read once, for it does not change."""

from __future__ import annotations

from collections.abc import Sequence

from optuna.trial import FrozenTrial

from sgq.bits.space import Codes, Space
from sgq.bits.trials import Trial, codes_of, is_live, is_measured, is_taken, record_of


class Ledger:
    """The records of a study, and its trials by their codes."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._read: set[int] = set()
        self._records: dict[int, Trial] = {}
        self._measured: dict[Codes, FrozenTrial] = {}
        self._taken: set[Codes] = set()
        self._live: list[FrozenTrial] = []

    def read(self, trials: Sequence[FrozenTrial]) -> None:
        """Take up all trials of the study as they are now."""
        self._live = [trial for trial in trials if is_live(trial)]
        for trial in trials:
            if trial.number in self._read or is_live(trial):
                continue
            self._read.add(trial.number)
            codes = codes_of(self._space, trial)
            if codes is not None and is_taken(trial):
                self._taken.add(codes)
            if codes is not None and is_measured(trial):
                self._measured.setdefault(codes, trial)
            record = record_of(self._space, trial)
            if record is not None:
                self._records[record.number] = record

    @property
    def records(self) -> tuple[Trial, ...]:
        """The records of all trials that count as evaluated, by number."""
        return tuple(record for _, record in sorted(self._records.items()))

    @property
    def taken(self) -> set[Codes]:
        """The assignments that need no other trial; see `taken_codes`."""
        live = (codes_of(self._space, trial) for trial in self._live)
        return self._taken.union(codes for codes in live if codes is not None)

    def twin(self, codes: Codes, number: int) -> FrozenTrial | None:
        """Return a trial with the same codes: measured, or running or queued before that number."""
        known = self._measured.get(codes)
        if known is not None:
            return known
        earlier = (trial for trial in self._live if trial.number < number)
        return next((trial for trial in earlier if codes_of(self._space, trial) == codes), None)
