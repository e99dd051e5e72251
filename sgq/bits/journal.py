"""Optuna's journal file, made to survive the death of its writers.

A killed process frees the lock at once, since the kernel holds it, and leaves at most a torn last line, which
the next writer cuts off. Readers take no lock: what stands before a newline that was seen never changes.
"""

from __future__ import annotations

import errno
import io
import json
import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.storages.journal._file import BaseJournalFileLock, get_lock_file

from sgq.errors import SearchError

_LOCK_SUFFIX = ".lock"
_FIRST_BYTES = b'{"op_code":'
_BLOCK = 4096
_LONGEST_FIRST_LINE = 1 << 20


class KernelLock(BaseJournalFileLock):
    """Exclude all other writers of a journal by `flock` on `<file>.lock`.

    The lock file stays when the lock is released; the lock ends with its holder, however that ends.
    """

    def __init__(self, file_path: str) -> None:
        self._lock_file = file_path + _LOCK_SUFFIX
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Return True once the lock is held; raise SearchError where files cannot be locked."""
        try:
            while (descriptor := self._locked()) is None:
                pass
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise SearchError(
                    f"{self._lock_file}: expected a lock file (got a link, as Optuna's own journals make "
                    "them); stop the program that writes this journal without sgq, then delete the link"
                ) from error
            raise SearchError(
                f"{self._lock_file}: expected a file that can be made and locked (got {error.strerror}); "
                "keep the journal where files can be locked, or use PostgreSQL"
            ) from error
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Free the lock; raise RuntimeError when it is not held."""
        import fcntl

        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            raise RuntimeError("expected a lock that is held (got one that is free)")
        try:
            # Closing alone would not free it while a forked process still has the descriptor.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        finally:
            os.close(descriptor)

    def _locked(self) -> int | None:
        """Return a descriptor of the locked file, or None when another file took its place meanwhile."""
        import fcntl

        descriptor = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_at(self._lock_file, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return None


class Journal(JournalFileBackend):
    """Keep the operations of studies in a file, a line of JSON each, that any number of processes append to.

    Raise SearchError, naming the file and the line, for a file that is no journal or a damaged one.
    """

    def __init__(self, file_path: str | Path) -> None:
        # The lock is beside the file itself, so that all writers share it, whatever links they use.
        path = os.path.realpath(file_path)
        if os.path.exists(path):
            _expect_journal(path)
        super().__init__(path, _lock_of(path))
        # The number of lines read so far, and where the next one starts.
        self._place = (0, 0)

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """Yield the operations from that number on, as far as their lines are complete."""
        number, offset = self._place if self._place[0] <= log_number_from else (0, 0)
        with self._named(), open(self._file_path, "rb", buffering=0, opener=_existing) as file:
            end = _end_of_lines(file)
            if end < offset:
                raise SearchError(
                    f"{self._file_path}: expected a journal that only grows (got {end} bytes where {offset} "
                    "were read before); another program has changed it"
                )
            file.seek(offset)
            # Buffered only from here on: what stood after the newline that was found may have changed since.
            lines = io.BufferedReader(file)
            while offset < end:
                line = lines.readline()
                number, offset = number + 1, offset + len(line)
                if number <= log_number_from:
                    continue
                log = _operation(line)
                if log is None:
                    raise SearchError(
                        f"{self._file_path}:{number}: expected an operation of a study (got {_shown(line)}); "
                        "the journal is damaged: restore it from a copy, or search into a new file"
                    )
                self._place = (number, offset)
                yield log

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write the operations to the disk, after cutting off what a killed writer left half written."""
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode("utf-8")
        with get_lock_file(self._lock), self._named(), open(self._file_path, "a+b", opener=_existing) as file:
            end = _end_of_lines(file)
            if end < file.seek(0, os.SEEK_END):
                file.truncate(end)
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Make SearchErrors, which name the journal, of what the system refuses."""
        try:
            yield
        except OSError as error:
            raise SearchError(
                f"{self._file_path}: expected a journal that can be read and written (got {error.strerror})"
            ) from error


def _lock_of(path: str) -> BaseJournalFileLock:
    try:
        import fcntl  # noqa: F401
    except ImportError:
        return JournalFileOpenLock(path)
    return KernelLock(path)


def _is_at(path: str, descriptor: int) -> bool:
    """Whether the path still leads to the open file; it does not after a person has deleted the file."""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _existing(path: str, flags: int) -> int:
    """Open a file that is there: a journal that was deleted must not come back without its beginning."""
    return os.open(path, flags & ~os.O_CREAT)


def _end_of_lines(file: BinaryIO) -> int:
    """Return where the last complete line ends, just after its newline; 0 when there is none."""
    position = file.seek(0, os.SEEK_END)
    while position:
        start = max(position - _BLOCK, 0)
        file.seek(start)
        newline = file.read(position - start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        position = start
    return 0


def _operation(line: bytes) -> dict[str, Any] | None:
    """Return the operation that a line of a journal holds, or None when it holds none."""
    try:
        log = json.loads(line)
    except ValueError:
        return None
    if not isinstance(log, dict) or type(log.get("op_code")) is not int or "worker_id" not in log:
        return None
    return log


def _expect_journal(path: str) -> None:
    try:
        with open(path, "rb") as file:
            line = file.readline(_LONGEST_FIRST_LINE)
    except OSError as error:
        raise SearchError(f"{path}: expected a journal that can be read (got {error.strerror})") from error
    if not line or _operation(line) is not None:
        return
    # A first line can be torn too; of another program's file without a newline nothing may be cut off.
    if not line.endswith(b"\n") and line[: len(_FIRST_BYTES)] == _FIRST_BYTES[: len(line)]:
        return
    raise SearchError(
        f"{path}: expected the journal of a search (got a file whose first line is {_shown(line)}); "
        "name a new file"
    )


def _shown(line: bytes) -> str:
    text = line.decode("utf-8", errors="replace").rstrip("\n")
    return ascii(text if len(text) <= 40 else f"{text[:40]}…")
