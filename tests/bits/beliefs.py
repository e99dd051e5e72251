"""Searches of a table, and what a test lets the cost model believe of assignments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from sgq.bits import Evaluation, SearchResult, search
from sgq.bits.space import Assignment
from tests.bits.tables import CHOICES, accuracy, memory
from tests.bits.trainings import LUCKY, Widths, short

LIMIT = 0.885
Believe = Callable[[Callable[[Assignment], float]], None]


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
