"""What a result of a search must hold, and which trial is the best of those that hold it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from numbers import Real

from sgq.errors import SearchError, nearest_name


@dataclass(frozen=True)
class Limits:
    """Accuracy (0 to 1) of at least `accuracy`, a drop of at most `accuracy_drop`, bytes of at most `memory`.

    A drop counts from the accuracy of the widest assignment.
    """

    accuracy: float | None = None
    accuracy_drop: float | None = None
    memory: float | None = None

    @classmethod
    def of(cls, limit: Mapping[str, float] | None) -> Limits:
        """Return the limits of a mapping such as {"accuracy_drop": 0.004}; None has none.

        Raises SearchError for an unknown name or a value that cannot be meant.
        """
        given = dict(limit or {})
        known = [field.name for field in fields(cls)]
        for name, value in given.items():
            if name not in known:
                raise SearchError(
                    f'unknown limit "{name}".{nearest_name(name, known)} Known: {", ".join(known)}'
                )
            most = float("inf") if name == "memory" else 1.0
            if not isinstance(value, Real) or isinstance(value, bool) or not 0.0 <= value <= most:
                wanted = "bytes of at least 0" if name == "memory" else "a number from 0 to 1"
                raise SearchError(f"limit {name}: expected {wanted} (got {value!r})")
        if {"accuracy", "accuracy_drop"} <= set(given):
            raise SearchError("expected one limit of accuracy (got accuracy and accuracy_drop)")
        return cls(**given)

    def least_accuracy(self, reference: float | None) -> float | None:
        """Return the accuracy (0 to 1) that has to be reached; None without such a limit.

        `reference` is the accuracy of the widest assignment, None while it is unknown.
        """
        if self.accuracy is not None or self.accuracy_drop is None:
            return self.accuracy
        return None if reference is None else reference - self.accuracy_drop

    @property
    def of_accuracy(self) -> bool:
        """Whether accuracy is limited."""
        return self.accuracy is not None or self.accuracy_drop is not None

    def hold(self, *, accuracy: float | None, memory: float, reference: float | None) -> bool:
        """Return whether an accuracy (None: unknown) and bytes are inside all limits."""
        least = self.least_accuracy(reference)
        if self.of_accuracy and (least is None or accuracy is None or accuracy < least - ROUNDING):
            return False
        return self.memory is None or memory <= self.memory

    def __str__(self) -> str:
        texts = {"accuracy": ">= {:g}", "accuracy_drop": "<= {:g}", "memory": "<= {:g} bytes"}
        given = ((name, getattr(self, name)) for name in texts)
        return ", ".join(f"{name} {texts[name].format(value)}" for name, value in given if value is not None)


ROUNDING = 1e-9
"""A drop of 2 of 500 nodes is 0.004, also where the subtraction of two floats says a little more."""
