"""The evaluation of a search over one or several trainings of a model, built where it runs.

What goes to a worker process is how to build it. With several trainings each assignment is measured on one of
them: the cost model then learns what they have in common, and not the luck of one of them on its validation
nodes.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from sgq.bits.changes import Changes
from sgq.bits.finetuned import FinetunedAccuracy
from sgq.bits.space import Assignment
from sgq.bits.trials import Evaluation

Build = Callable[[], FinetunedAccuracy]


class DeferredAccuracy:
    """The `FinetunedAccuracy` that `build()` makes on its first use, once a process, and `others` like it.

    An accuracy is that of the first float model less the drop from the run's reference, which is of the same
    training and seed (`FinetunedAccuracy.reference`), and so without the luck of its best epoch. Its error is
    that of this one drop. Its margin is about what the error of the mean of all trainings will be, which
    decides in the end (`sgq.bits.confirmation`): smaller by the root of their number, as far as each changes
    other nodes. `build` and `others`, which are for other trainings of the model, must be picklable:
    functions at the top of a module, or `functools.partial` of such.
    """

    def __init__(self, build: Build, others: Sequence[Build] = ()) -> None:
        self.builds = (build, *others)
        self._built: dict[int, FinetunedAccuracy] = {}

    @property
    def built(self) -> FinetunedAccuracy:
        """The evaluation of the first training."""
        return self._of_training(0)

    @property
    def trainings(self) -> int:
        """How many float models there are."""
        return len(self.builds)

    @property
    def evaluations(self) -> tuple[FinetunedAccuracy, ...]:
        """Those of all trainings; it builds them."""
        return tuple(self._of_training(index) for index in range(self.trainings))

    @property
    def digest(self) -> str:
        """What the accuracies are of: the digests of all trainings. It builds them all."""
        return "+".join(evaluation.digest for evaluation in self.evaluations)

    def __call__(self, assignment: Assignment) -> Evaluation:
        """Return the validation accuracy of an assignment, on a training that depends on it alone."""
        name = repr(sorted(assignment.items())).encode()
        return self._measured(assignment, training=zlib.crc32(name), seed=self.built.seed)

    def again(self, assignment: Assignment, repeat: int) -> Evaluation:
        """Return its validation accuracy in a repeat (1, 2, …): with another seed, trainings take turns."""
        return self._measured(assignment, training=repeat - 1, seed=self.built.seed + repeat)

    def _measured(self, assignment: Assignment, *, training: int, seed: int) -> Evaluation:
        training %= self.trainings
        evaluation = self._of_training(training)
        reference = evaluation.reference(seed)
        found = evaluation.of_plan(evaluation.space.plan_of(assignment), seed=seed)
        changes = Changes.parse(found.changed).since(Changes.parse(reference.changed))
        drop = reference.accuracy - found.accuracy
        return replace(
            found,
            accuracy=min(1.0, max(0.0, self.built.float_accuracy - drop)),
            error=changes.error,
            changed=str(replace(changes, seen=0, flipped=())),  # of all rows their share is enough
            flipped=changes.flipped_share,
            training=training if self.trainings > 1 else None,
            margin=changes.error / math.sqrt(self.trainings) if self.trainings > 1 else None,
        )

    def _of_training(self, index: int) -> FinetunedAccuracy:
        if index not in self._built:
            built = self.builds[index]()
            if index and built.least_accuracy is not None and self.built.least_accuracy is not None:
                # It is given for the first one: that of another is as far below its own float model.
                lead = built.float_accuracy - self.built.float_accuracy
                built.least_accuracy = self.built.least_accuracy + lead
            self._built[index] = built
        return self._built[index]

    def __getstate__(self) -> dict[str, Any]:
        return {"builds": self.builds, "_built": {}}
