"""Which validation nodes a quantized model gets wrong that another model got right, and the reverse.

From them comes the standard error of a drop: of one run (McNemar, 1947), and of the mean of several runs that
share nodes. There a node counts as one observation however many runs it is in (a cluster), so repeats on the
same nodes do not make the error over nodes vanish. A run is a cluster of its nodes as well: both together
give the two-way error of Cameron, Gelbach and Miller (Robust Inference with Multiway Clustering, 2011).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from sgq.errors import SearchError


@dataclass(frozen=True)
class Changes:
    """The rows that went `wrong` and those that came `right`, by number in the data, of `rows` in all.

    `flipped` are those that changed their class, of `seen` rows with or without a label, by their place.
    """

    rows: int
    wrong: tuple[int, ...] = ()
    right: tuple[int, ...] = ()
    seen: int = 0
    flipped: tuple[int, ...] = ()

    @property
    def drop(self) -> float:
        """The drop of accuracy from the other model, 0 to 1."""
        return (len(self.wrong) - len(self.right)) / self.rows

    @property
    def error(self) -> float:
        """The standard error of the drop: of n rows, b wrong, c right, its square is (b+c−(b−c)²/n) / n²."""
        changed = len(self.wrong) + len(self.right)
        return math.sqrt(max(0.0, changed - (self.drop * self.rows) ** 2 / self.rows)) / self.rows

    @property
    def flipped_share(self) -> float | None:
        """The share of rows seen that changed their class; None where none was looked at."""
        return len(self.flipped) / self.seen if self.seen else None

    def since(self, other: Changes) -> Changes:
        """Return what changes from another run to this one, both of which changed from one model.

        What flipped in both is taken to have flipped to the same class.
        """
        wrong, right = set(self.wrong), set(self.right)
        wrong_before, right_before = set(other.wrong), set(other.right)
        return Changes(
            self.rows,
            wrong=tuple(sorted((wrong - wrong_before) | (right_before - right))),
            right=tuple(sorted((right - right_before) | (wrong_before - wrong))),
            seen=min(self.seen, other.seen),
            flipped=tuple(sorted(set(self.flipped) ^ set(other.flipped))),
        )

    def __str__(self) -> str:
        """Return the changes as a line that `parse` reads."""
        parts = (self.rows, self.wrong, self.right, self.seen, self.flipped)
        return ";".join(",".join(map(str, part)) if isinstance(part, tuple) else str(part) for part in parts)

    @classmethod
    def parse(cls, text: str) -> Changes:
        """Return what `str` wrote; raise SearchError for anything else."""
        try:
            rows, wrong, right, seen, flipped = text.split(";")
            listed = (tuple(map(int, filter(None, part.split(",")))) for part in (wrong, right, flipped))
            wrong_rows, right_rows, flipped_rows = listed
            return cls(int(rows), wrong_rows, right_rows, int(seen), flipped_rows)
        except ValueError:
            raise SearchError(
                f"expected changed rows as rows;wrong;right;seen;flipped (got {text[:60]!r})"
            ) from None


def joint_error(runs: Sequence[Changes]) -> float:
    """Return the standard error, over nodes, of the mean drop of several runs.

    Each node's changes in all runs are added up first: their sum of squares is the variance.
    """
    weights: defaultdict[int, float] = defaultdict(float)
    for run in runs:
        for sign, changed in ((1.0, run.wrong), (-1.0, run.right)):
            for row in changed:
                weights[row] += sign / (run.rows * len(runs))
    mean = sum(run.drop for run in runs) / len(runs)
    rows = max(run.rows for run in runs)
    return math.sqrt(max(0.0, sum(weight * weight for weight in weights.values()) - mean * mean / rows))


def independent_error(runs: Sequence[Changes]) -> float:
    """Return what the standard error of the mean drop were if every node of every run changed by itself.

    The error over nodes and that over runs both have it in them.
    """
    return math.sqrt(sum(run.error**2 for run in runs)) / len(runs)


def two_way_error(over_runs: float, over_nodes: float, independent: float) -> float:
    """Return the standard error over runs and nodes: what is in both errors counts once."""
    both = over_runs**2 + over_nodes**2 - independent**2
    return max(over_runs, over_nodes, math.sqrt(max(0.0, both)))
