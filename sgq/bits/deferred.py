"""An evaluation that is built where it runs: what goes to a worker process is how to build it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

from sgq.bits.finetuned import FinetunedAccuracy
from sgq.bits.space import Assignment
from sgq.bits.trials import Evaluation


class DeferredAccuracy:
    """A `FinetunedAccuracy` that `build()` makes on its first use, once a process.

    `build` must be picklable: a function at the top of a module, or a `functools.partial` of one.
    """

    def __init__(self, build: Callable[[], FinetunedAccuracy]) -> None:
        self.build = build

    @cached_property
    def built(self) -> FinetunedAccuracy:
        """The evaluation itself."""
        return self.build()

    def __call__(self, assignment: Assignment) -> Evaluation:
        """Return the validation accuracy of an assignment."""
        return self.built(assignment)

    def __getstate__(self) -> dict[str, Any]:
        return {"build": self.build}
