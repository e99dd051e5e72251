"""Searches of a table, and a cost model that believes what a test says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sgq.bits import Evaluation, SearchResult, Space, candidates, refinement, search
from sgq.bits.space import Assignment
from tests.bits.tables import CHOICES, accuracy, memory
from tests.bits.trainings import LUCKY, Widths, short

LIMIT = 0.885
Believe = Callable[[Callable[[Assignment], float]], None]


def believing(monkeypatch: pytest.MonkeyPatch) -> Believe:
    """Return how to let the cost model believe in so much accuracy above the limit (below: less than 0)."""

    def put(belief: Callable[[Assignment], float]) -> None:
        class Model:
            noise = 0.0

            def __init__(self, space: Space) -> None:
                self.space = space

            def fit(
                self,
                codes: np.ndarray,
                values: np.ndarray,
                *,
                trainings: np.ndarray,
                repeats: np.ndarray | None = None,
            ) -> None:
                assert codes.shape == (len(values), len(self.space.axes))
                assert repeats is None or repeats.shape == values.shape
                assert trainings.shape == values.shape

            def mean(self, codes: np.ndarray) -> np.ndarray:
                return np.array([belief(self.space.assignment(row)) for row in codes.tolist()])

            def predict(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
                return self.mean(codes), np.full(len(codes), 1e-9)

        monkeypatch.setattr(candidates, "GaussianProcess", Model)
        monkeypatch.setattr(refinement, "GaussianProcess", Model)

    return put


def only(beliefs: Mapping[Widths, float]) -> Callable[[Assignment], float]:
    return lambda assignment: beliefs.get(short(assignment), -1.0)


def searched(
    evaluate: Callable[[Assignment], float | Evaluation] = accuracy,
    *,
    least: float = LIMIT,
    **limits: float,
) -> SearchResult:
    """Return all 81 assignments, measured."""
    return search(CHOICES, evaluate, memory, 81, "exhaustive", {"accuracy": least, **limits})


def measured_before(*widths: Widths) -> SearchResult:
    """Return a search that measured the widest assignment and those."""
    result = searched()
    wanted = {(8, 8, 8, 8), *widths}
    return replace(result, trials=tuple(t for t in result.trials if short(t.assignment) in wanted))


def widths(trials: Any) -> list[Widths]:
    return [short(getattr(item, "trial", item).assignment) for item in trials]


def lucky(assignment: Assignment) -> float:
    """Return the accuracy of the table, three points too much of one assignment."""
    return accuracy(assignment) + 0.03 * (short(assignment) == LUCKY)
