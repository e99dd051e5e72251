"""Trainings of a model for tests of a selection: a table instead of finetuning, and luck that is known."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sgq.bits import Evaluation
from sgq.bits.changes import Changes
from sgq.bits.deferred import DeferredAccuracy
from sgq.bits.space import Assignment, Space
from sgq.recipe import LoadedRecipe, parse_recipe
from tests.bits.tables import SPACE, TOP, accuracy, memory

SEED = 7
FLOAT = TOP + 0.02
"""The float model is two points above the widest assignment."""
TEXT = """\
version: 1
name: table
about: bits, to be searched, of a table
degree_buckets: {edges: [3]}
rules:
  - match: {component: weight}
    bits: {choices: [2, 4, 8], axis: weight}
  - match: {component: input, rows: node}
    bits: {choices: [2, 4, 8], axis: input}
  - match: {component: message, rows: node}
    bits: {by_bucket: [{choices: [2, 4, 8], axis: "message[0]"}, {choices: [2, 4, 8], axis: "message[1]"}]}
"""
Widths = tuple[int, int, int, int]
"""An assignment in short: bits of weight, input, message[0] and message[1]."""
LEAST: Widths = (4, 4, 8, 4)
"""The least memory without any loss, 52 bytes."""
LUCKY: Widths = (2, 4, 8, 4)
"""It loses two points and has 50 bytes."""
SMALL = Space.of({"weight": (2, 4, 8), "input": (4, 8), "message[0]": (8,), "message[1]": (2, 4)})
"""12 of the assignments, for what is kept in a file."""
STEADY = (0.0,)
UNCHANGED = str(Changes(500))
"""No row is known to change, so that errors are those over repeats alone."""


def of(*widths: int) -> dict[str, Any]:
    return dict(zip(SPACE.names, widths, strict=True))


def short(assignment: Assignment) -> Widths:
    weight, of_input, first, second = (int(assignment[name]) for name in SPACE.names)
    return weight, of_input, first, second


@dataclass(frozen=True)
class TableBytes:
    """The bytes of the table, one by one or many at once."""

    space: Space

    def of_codes(self, codes: np.ndarray) -> np.ndarray:
        return np.array([memory(self.space.assignment(row)) for row in codes.tolist()])

    def __call__(self, assignment: Assignment) -> float:
        return memory(assignment)


@dataclass(frozen=True)
class TableSpace:
    """Stands for a `PlannedSpace` whose plans are the assignments themselves."""

    space: Space = SPACE
    recipe: LoadedRecipe = field(default_factory=partial(parse_recipe, TEXT))

    @property
    def memory(self) -> TableBytes:
        return TableBytes(self.space)

    def plan_of(self, assignment: Assignment) -> Assignment:
        return assignment


@dataclass
class Training:
    """Stands for a `FinetunedAccuracy`: the accuracy of the table and luck; every use is a line of a file.

    `luck` has for an assignment what the search measures too much, and then each repeat, the last of them
    from then on; `elsewhere` is that of all others. The model is `better` than the table, before and after.
    The reference of drops is by `lead` above the float model.
    The second repeat of `broken` raises, and what comes after `interrupt` uses is struck by Ctrl-C, once.
    """

    log: Path
    name: str = "first"
    luck: Mapping[Widths, Sequence[float]] = field(default_factory=dict)
    elsewhere: Sequence[float] = STEADY
    better: float = 0.0
    lead: float = 0.0
    broken: Widths | None = None
    interrupt: int | None = None
    least_accuracy: float | None = None
    training: str = "as always"
    seed: int = SEED
    space: TableSpace = field(default_factory=TableSpace)

    @property
    def float_accuracy(self) -> float:
        return FLOAT + self.better

    @property
    def digest(self) -> str:
        return f"weights of {self.name}"

    def of_plan(self, plan: Assignment, *, seed: int) -> Evaluation:
        struck = self.log.with_suffix(".struck")
        if len(uses(self.log)) == self.interrupt and not struck.exists():
            struck.touch()
            raise KeyboardInterrupt
        widths, repeat = short(plan), seed - SEED
        with self.log.open("a") as stream:
            stream.write(json.dumps([self.name, repeat, widths]) + "\n")
        if repeat == 2 and widths == self.broken:
            raise RuntimeError("broken")
        luck = self.luck.get(widths, self.elsewhere)
        return Evaluation(accuracy(plan) + self.better + luck[min(repeat, len(luck) - 1)], changed=UNCHANGED)

    def reference(self, seed: int) -> Evaluation:
        del seed
        return Evaluation(self.float_accuracy + self.lead, changed=UNCHANGED)


def uses(log: Path) -> list[tuple[str, int, Widths]]:
    """Return the training, the repeat (0: the search) and the assignment of every use."""
    lines = map(json.loads, log.read_text().splitlines() if log.exists() else ())
    return [(name, repeat, tuple(widths)) for name, repeat, widths in lines]


def repeats(log: Path) -> list[tuple[str, int, Widths]]:
    return [use for use in uses(log) if use[1]]


def deferred(log: Path, *others: dict[str, Any], **options: Any) -> DeferredAccuracy:
    """Return the evaluation on a training, and on others that differ from it in some options."""
    builds: list[Any] = [partial(Training, log, **{**options, **changes}) for changes in ({}, *others)]
    return DeferredAccuracy(builds[0], builds[1:])
