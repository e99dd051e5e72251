"""What a search chooses from: axes with their choices, and assignments of one choice to each.

A choice's code is its place among its axis's choices; codes are what samplers and predictors work on. The
choices of an axis of bits are sorted, so that a higher code is a wider one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod
from typing import TypeAlias

import numpy as np

from sgq.errors import SearchError, nearest_name

Choice: TypeAlias = int | str
Assignment: TypeAlias = Mapping[str, Choice]
Codes: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class Axis:
    """One thing to choose: its name (`convs.0:message[0]`) and its choices, narrowest first.

    Integers are bits and are sorted; texts (names of quantizers) have no order and stay as given.
    """

    name: str
    choices: tuple[Choice, ...]

    def __post_init__(self) -> None:
        if not self.choices:
            raise SearchError(f'axis "{self.name}": expected at least one choice (got none)')
        kinds = {type(choice) for choice in self.choices}
        if kinds not in ({int}, {str}):
            raise SearchError(
                f'axis "{self.name}": expected choices that are all integers or all texts '
                f"(got {list(self.choices)})"
            )
        if kinds == {int} and min(int(choice) for choice in self.choices) < 1:
            raise SearchError(f'axis "{self.name}": expected bits of at least 1 (got {list(self.choices)})')
        if len(set(self.choices)) < len(self.choices):
            raise SearchError(f'axis "{self.name}": expected choices that differ (got {list(self.choices)})')
        if self.ordered:
            object.__setattr__(self, "choices", tuple(sorted(self.choices)))

    @property
    def ordered(self) -> bool:
        """Whether a higher code is a wider choice."""
        return isinstance(self.choices[0], int)


@dataclass(frozen=True)
class Space:
    """All assignments of one choice to each axis; see `Space.of` for making one from a mapping."""

    axes: tuple[Axis, ...]

    def __post_init__(self) -> None:
        if not self.axes:
            raise SearchError("expected a space with at least one axis of choices (got an empty space)")
        names = [axis.name for axis in self.axes]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise SearchError(f'expected axes that differ in name (got "{twice}" twice)')

    @classmethod
    def of(cls, choices: Mapping[str, Sequence[Choice]]) -> Space:
        """Return the space of a mapping from axis name to choices.

        Raises SearchError for an empty space, an axis without choices, or choices that are mixed or double.
        """
        return cls(tuple(Axis(name, tuple(of_axis)) for name, of_axis in choices.items()))

    @property
    def size(self) -> int:
        """How many assignments there are."""
        return prod(self.counts)

    @cached_property
    def counts(self) -> Codes:
        """How many choices each axis has."""
        return tuple(len(axis.choices) for axis in self.axes)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The axes' names."""
        return tuple(axis.name for axis in self.axes)

    @cached_property
    def widest(self) -> Codes:
        """The codes of the most bits everywhere; an axis without order has its first choice."""
        return tuple(len(axis.choices) - 1 if axis.ordered else 0 for axis in self.axes)

    @property
    def narrowest(self) -> Codes:
        """The codes of the fewest bits everywhere; an axis without order has its first choice."""
        return (0,) * len(self.axes)

    @property
    def texts(self) -> int:
        """How many combinations of choices the axes without order have."""
        return prod(len(axis.choices) for axis in self.axes if not axis.ordered)

    def beside_texts(self, codes: Codes) -> Iterator[Codes]:
        """Yield codes with every combination of choices of the axes without order."""
        yield from product(
            *(
                (code,) if axis.ordered else range(len(axis.choices))
                for axis, code in zip(self.axes, codes, strict=True)
            )
        )

    def uniform(self, bits: int) -> Codes | None:
        """Return the codes of one width everywhere, or None where an axis of bits has no such choice."""
        ordered = [axis for axis in self.axes if axis.ordered]
        if any(bits not in axis.choices for axis in ordered):
            return None
        return tuple(axis.choices.index(bits) if axis.ordered else 0 for axis in self.axes)

    @property
    def shared_widths(self) -> tuple[int, ...]:
        """The bits that every axis of bits can take, fewest first."""
        widths = [set(axis.choices) for axis in self.axes if axis.ordered]
        return (
            tuple(sorted(width for width in set.intersection(*widths) if isinstance(width, int)))
            if widths
            else ()
        )

    def assignment(self, codes: Sequence[int]) -> dict[str, Choice]:
        """Return the choices that codes stand for, by axis name."""
        return {axis.name: axis.choices[code] for axis, code in zip(self.axes, codes, strict=True)}

    def codes(self, assignment: Assignment) -> Codes:
        """Return the codes of an assignment; raise SearchError where it is not one of this space."""
        for name in assignment:
            if name not in self.names:
                raise SearchError(f'the space has no axis "{name}".{nearest_name(name, self.names)}')
        codes = []
        for axis in self.axes:
            if axis.name not in assignment:
                raise SearchError(f'the assignment has nothing for the axis "{axis.name}"')
            choice = assignment[axis.name]
            if choice not in axis.choices:
                raise SearchError(f'axis "{axis.name}" has choices {list(axis.choices)} (got {choice!r})')
            codes.append(axis.choices.index(choice))
        return tuple(codes)

    def every(self) -> Iterator[Codes]:
        """Yield all codes, narrowest first; the last axis changes fastest."""
        for flat in range(self.size):
            yield self.at(flat)

    def at(self, number: int) -> Codes:
        """Return the codes at a place in the order of `every`."""
        codes = []
        for count in reversed(self.counts):
            number, code = divmod(number, count)
            codes.append(code)
        return tuple(reversed(codes))

    def sample(self, generator: np.random.Generator, count: int) -> np.ndarray:
        """Return `count` random assignments as codes [count, axes], drawn independently."""
        return generator.integers(0, np.array(self.counts), size=(count, len(self.axes)))

    def to_json(self) -> dict[str, list[Choice]]:
        """Return the mapping that `Space.of` takes."""
        return {axis.name: list(axis.choices) for axis in self.axes}

    @property
    def digest(self) -> str:
        """A stable hash (hex) of names and choices."""
        text = json.dumps(list(self.to_json().items()), separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]
