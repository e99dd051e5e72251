"""Where the parts of a YAML file stand in it, and the faults found there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sgq.errors import RecipeError, SgqError

Path = tuple[str | int, ...]
"""The keys and list indices that lead from the top of a document to one of its nodes."""


@dataclass(frozen=True, order=True)
class Position:
    """A place in a text file; line and column count from 1."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.line}:{self.column}"


START = Position(1, 1)


@dataclass(frozen=True, order=True)
class Fault:
    """One thing that is wrong in a file, and where; faults sort by position."""

    position: Position
    message: str


@dataclass(frozen=True)
class Positions:
    """The position of every node of a document: of its value and, in a mapping, of its key."""

    file: str
    values: Mapping[Path, Position]
    keys: Mapping[Path, Position]

    def data_path(self, location: Path) -> Path:
        """Return the part of `location` that is in the document: keys that it does not have are left out."""
        path: Path = ()
        for part in location:
            if (*path, part) in self.values:
                path = (*path, part)
        return path

    def of_value(self, location: Path) -> Position:
        """Return where the value at `location` starts, or the nearest mapping or list around it."""
        return self.values.get(self.data_path(location), START)

    def of_key(self, location: Path) -> Position:
        """Return where the key that leads to `location` starts, or its value's start in a list."""
        path = self.data_path(location)
        return self.keys.get(path, self.of_value(path))

    def place(self, location: Path) -> str:
        """Return `file:line:col` of the value at `location`."""
        return f"{self.file}:{self.of_value(location)}"


def raise_faults(file: str, faults: Iterable[Fault], *, error: type[SgqError] = RecipeError) -> None:
    """Raise an error with one line a fault, sorted by position; do nothing without faults."""
    lines = [f"{file}:{fault.position}: {fault.message}" for fault in sorted(set(faults))]
    if lines:
        raise error("\n".join(lines))
