"""The study of a search in a storage: made once, found again, and refused where it is another one."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import optuna
from optuna.exceptions import DuplicatedStudyError
from optuna.samplers import BaseSampler, RandomSampler
from optuna.storages import BaseStorage
from optuna.study import StudyDirection

from sgq.bits.limits import Limits
from sgq.bits.space import Space
from sgq.errors import SearchError

DIRECTIONS = (StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE)
"""Accuracy, then bytes."""
TERMS = "sgq:terms"
VERSION = 2
"""Of what a trial says. Since 2 its error is that of its own run, where there are several trainings."""


@dataclass(frozen=True)
class Terms:
    """What a study is about; a resumed search has to have the same.

    `objective` says what is measured (model, data, recipe …), by name; `packed_bytes` what some assignments
    weigh (`sgq.bits.memory.sampled_bytes`), so that bytes of two memories are never mixed.
    """

    space: Space
    sampler: str
    limits: Limits
    seed: int
    objective: Mapping[str, str]
    packed_bytes: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "version": VERSION,
            "space": self.space.to_json(),
            "sampler": self.sampler,
            "limits": asdict(self.limits),
            "seed": self.seed,
            "objective": dict(self.objective),
            "bytes": dict(self.packed_bytes),
        }


def join_study(storage: BaseStorage, name: str, terms: Terms, *, resume: bool | None) -> optuna.Study:
    """Return the study of that name: a new one, or, with `resume`, the one that the storage holds.

    None takes either. Raises SearchError when there is one already and `resume` is False, when there is none
    to resume, and, with every difference, when the one there has other terms.
    """
    stored = {study.study_name: study for study in optuna.get_all_study_summaries(storage)}
    if resume and name not in stored:
        others = f"; it holds {', '.join(sorted(stored))}" if stored else ""
        raise SearchError(f'expected a study "{name}" to resume (got none in the storage{others})')
    if resume is False and name in stored:
        raise SearchError(
            f'the storage holds a study "{name}" already: go on with it by --resume (resume=True), or take '
            "another storage or study name"
        )
    if name not in stored:
        with QuietOptuna():
            try:
                study = optuna.create_study(
                    storage=storage, study_name=name, directions=DIRECTIONS, sampler=RandomSampler()
                )
            except DuplicatedStudyError as error:
                if resume is None:
                    return join_study(storage, name, terms, resume=True)
                raise SearchError(
                    f'another process has just made the study "{name}": use --resume'
                ) from error
        study.set_user_attr(TERMS, terms.to_json())
        return study
    study = load_study(storage, name)
    if (
        TERMS not in study.user_attrs
        and study.directions == list(DIRECTIONS)
        and not study.get_trials(deepcopy=False)
    ):
        study.set_user_attr(TERMS, terms.to_json())  # whoever made it was killed just then, or is about to
    check_terms(study.user_attrs.get(TERMS), terms, name)
    return study


def load_study(storage: BaseStorage, name: str, sampler: BaseSampler | None = None) -> optuna.Study:
    """Return a study of a storage, with the sampler that it goes on with."""
    return optuna.load_study(study_name=name, storage=storage, sampler=sampler or RandomSampler())


def check_terms(found: Mapping[str, Any] | None, terms: Terms, name: str) -> None:
    """Raise SearchError, listing every difference, where a stored study has other terms."""
    if not isinstance(found, Mapping) or found.get("version") != VERSION:
        raise SearchError(
            f'the study "{name}" is not one of bit selection, or of another version of sgq: take another '
            "storage or study name"
        )
    wanted = json.loads(json.dumps(terms.to_json()))
    of_parts = {part: _differences(part, found.get(part), wanted[part]) for part in wanted}
    if of_parts["space"]:
        del of_parts["bytes"]  # they are of other assignments
    lines = [line for of_part in of_parts.values() for line in of_part]
    if lines:
        shown = "\n".join(f"  {line}" for line in lines)
        raise SearchError(f'the study "{name}" is of another search (stored -> now):\n{shown}')


def _differences(part: str, stored: Any, now: Any) -> list[str]:
    if isinstance(stored, dict) and isinstance(now, dict):
        names = dict.fromkeys((*stored, *now))
        lines = [
            f"{part} {name}: {_text(stored.get(name))} -> {_text(now.get(name))}"
            for name in names
            if stored.get(name) != now.get(name)
        ]
        if not lines and list(stored) != list(now):
            return [f"{part}: the order of the names -> another order"]
        return lines
    return [] if stored == now else [f"{part}: {_text(stored)} -> {_text(now)}"]


def _text(value: Any) -> str:
    return "none" if value is None else str(value)


class QuietOptuna:
    """A block in which Optuna logs only errors and does not warn of what is experimental."""

    def __enter__(self) -> None:
        self._verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)

    def __exit__(self, *error: object) -> None:
        self._warnings.__exit__(*error)  # type: ignore[arg-type]
        optuna.logging.set_verbosity(self._verbosity)
