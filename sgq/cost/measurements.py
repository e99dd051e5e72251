"""A file of measured operations that only grows: what is in it need not be measured again.

One CSV row an operation: its key (columns of text or whole numbers, the same in all rows), then its timing.
A row is on its way to the disk before the next is measured; what a killed writer left of a last line is cut
off by the next one. Readers leave it out.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from sgq.cost.timing import Timing
from sgq.errors import ProfileError

Key = Mapping[str, str | int]
"""What was measured, by column."""

TIMING_COLUMNS = ("count", "median_s", "lower_quartile_s", "upper_quartile_s", "noisy")
_WHOLE = re.compile(r"-?[0-9]+")
_SHOWN = 60


@dataclass(frozen=True)
class Measurement:
    """One row: the values of the key in the order of its columns, and the timing."""

    columns: tuple[str, ...]
    values: tuple[str | int, ...]
    timing: Timing

    @property
    def key(self) -> dict[str, str | int]:
        """The key by column."""
        return dict(zip(self.columns, self.values, strict=True))


class MeasurementStore:
    """The measurements in a file that this process alone adds to; a context manager.

    Raise ProfileError, with the file and the line, for a damaged row, for columns other than `columns`, and
    while another process writes.
    """

    def __init__(self, path: str | Path, columns: Sequence[str]) -> None:
        self.path = Path(path)
        self.columns = _checked_columns(columns)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO = self.path.open("a+b")
        except OSError as error:
            raise ProfileError(
                f"{self.path}: expected a file of measurements that can be written (got {error.strerror})"
            ) from error
        try:
            _lock(self._file, self.path)
            rows = self._recovered()
        except BaseException:
            self._file.close()
            raise
        self._by_values = {row.values: row for row in rows}

    def __enter__(self) -> MeasurementStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._by_values)

    def __contains__(self, key: Key) -> bool:
        return self.values_of(key) in self._by_values

    @property
    def rows(self) -> tuple[Measurement, ...]:
        """All measurements, in the order in which they were made."""
        return tuple(self._by_values.values())

    def values_of(self, key: Key) -> tuple[str | int, ...]:
        """Return the key's values in the order of the columns; raise ProfileError for another key."""
        if set(key) != set(self.columns):
            raise ProfileError(
                f"{self.path}: expected a key of {', '.join(self.columns)} (got {', '.join(key)})"
            )
        return tuple(key[column] for column in self.columns)

    def append(self, key: Key, timing: Timing) -> None:
        """Write one measurement; raise ProfileError for a key that is in the file, or cannot be read back."""
        values = self.values_of(key)
        if values in self._by_values:
            raise ProfileError(f"{self.path}: expected a new measurement (got {_shown(key)} again)")
        for column, value in key.items():
            if isinstance(value, str) and (_WHOLE.fullmatch(value) or not value.isprintable()):
                raise ProfileError(
                    f"{self.path}: expected text in the column {column}, no number (got {value!r})"
                )
        numbers = (timing.count, timing.median_s, timing.lower_quartile_s, timing.upper_quartile_s)
        self._write(_line([*values, *numbers, str(timing.noisy).lower()]))
        self._by_values[values] = Measurement(self.columns, values, timing)

    def _recovered(self) -> list[Measurement]:
        """Cut off a torn last line, write the header of a new file, and return the rows of an old one."""
        self._file.seek(0)
        content = self._file.read()
        end = content.rfind(b"\n") + 1
        header = _line([*self.columns, *TIMING_COLUMNS])
        if end == 0 and not header.startswith(content):
            raise ProfileError(
                f"{self.path}:1: expected a file of measurements (got {_first_line(content)!r}); "
                "name a new one"
            )
        if end < len(content):
            self._file.truncate(end)
        if end == 0:
            self._write(header)
            return []
        return _rows(content[:end], self.path, self.columns)

    def _write(self, line: bytes) -> None:
        try:
            self._file.write(line)
            self._file.flush()
        except OSError as error:
            raise ProfileError(f"{self.path}: cannot write: {error.strerror}") from error


def read_measurements(path: str | Path, columns: Sequence[str] | None = None) -> list[Measurement]:
    """Return what a file holds, in order, without changing it; a torn last line is left out.

    Raise ProfileError where it cannot be read, has columns other than `columns`, or has a damaged row.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ProfileError(f"{path}: cannot read the measurements: {error.strerror}") from error
    end = content.rfind(b"\n") + 1
    if end == 0:
        raise ProfileError(f"{path}:1: expected a file of measurements (got {_first_line(content)!r})")
    return _rows(content[:end], path, None if columns is None else _checked_columns(columns))


def _rows(content: bytes, path: Path, columns: tuple[str, ...] | None) -> list[Measurement]:
    lines = _cells(content, path)
    _, header = next(lines)
    own = tuple(header[: -len(TIMING_COLUMNS)])
    if tuple(header[-len(TIMING_COLUMNS) :]) != TIMING_COLUMNS or not own:
        raise ProfileError(f"{path}:1: expected measurements: … , {', '.join(TIMING_COLUMNS)} (got {header})")
    if columns is not None and own != columns:
        raise ProfileError(f"{path}:1: expected the columns {', '.join(columns)} (got {', '.join(own)})")
    rows: list[Measurement] = []
    first_lines: dict[tuple[str | int, ...], int] = {}
    for number, cells in lines:
        place = f"{path}:{number}"
        if len(cells) != len(header):
            raise ProfileError(f"{place}: expected {len(header)} cells (got {len(cells)})")
        values = tuple(int(cell) if _WHOLE.fullmatch(cell) else cell for cell in cells[: len(own)])
        if values in first_lines:
            raise ProfileError(f"{place}: measured twice, first on line {first_lines[values]}")
        first_lines[values] = number
        rows.append(Measurement(own, values, _timing(cells[len(own) :], place)))
    return rows


def _cells(content: bytes, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield every line's number and cells; a measurement is one line."""
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            yield number, next(csv.reader([line.decode("utf-8")], strict=True), [])
        except (UnicodeDecodeError, csv.Error) as error:
            raise ProfileError(f"{path}:{number}: expected comma-separated values: {error}") from error


def _timing(cells: list[str], place: str) -> Timing:
    try:
        count, seconds = int(cells[0]), [float(cell) for cell in cells[1:4]]
        noisy = {"true": True, "false": False}[cells[4]]
    except (ValueError, KeyError) as error:
        raise ProfileError(
            f"{place}: expected {', '.join(TIMING_COLUMNS)} (got {', '.join(cells)[:_SHOWN]})"
        ) from error
    median_s, lower_s, upper_s = seconds
    if count < 1 or not all(map(math.isfinite, seconds)) or not 0.0 <= lower_s <= median_s <= upper_s:
        raise ProfileError(
            f"{place}: expected a count and seconds with the median between the quartiles "
            f"(got {', '.join(cells)[:_SHOWN]})"
        )
    return Timing(count, median_s, lower_s, upper_s, noisy)


def _checked_columns(columns: Sequence[str]) -> tuple[str, ...]:
    clashes = set(columns) & set(TIMING_COLUMNS)
    if not columns or clashes or len(set(columns)) < len(columns):
        raise ProfileError(
            f"expected key columns that differ, from each other and from {', '.join(TIMING_COLUMNS)} "
            f"(got {list(columns)})"
        )
    return tuple(columns)


def _line(cells: Sequence[object]) -> bytes:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerow(cells)
    return stream.getvalue().encode("utf-8")


def _first_line(content: bytes) -> str:
    return content.partition(b"\n")[0][:_SHOWN].decode("utf-8", errors="replace")


def _shown(key: Key) -> str:
    return ", ".join(f"{column} {value}" for column, value in key.items())


def _lock(file: BinaryIO, path: Path) -> None:
    """Take the file for this process alone, where the system can; the lock ends with the process."""
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ProfileError(f"{path}: another process is measuring into this file; wait for it") from error
    except OSError:
        return  # A file system without locks: nothing holds two writers apart.
