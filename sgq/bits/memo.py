"""Results of evaluations by a key of all that decides them: one JSON line each, shared by processes.

A line is appended by one write, which is whole whoever else appends; a torn last line of a killed process is
left alone and read as absent.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

from sgq.bits.trials import Evaluation


class Memo:
    """Evaluations by key, in a file (None: in this process alone)."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known: dict[str, Evaluation] = {}
        self._read = 0

    def get(self, key: str) -> Evaluation | None:
        """Return the evaluation of a key; what other processes have written meanwhile is read first."""
        if key not in self._known:
            self._refresh()
        return self._known.get(key)

    def put(self, key: str, evaluation: Evaluation) -> None:
        """Remember an evaluation."""
        self._known[key] = evaluation
        if self._path is None:
            return
        line = json.dumps({"key": key, **asdict(evaluation)}) + "\n"
        # A line end first: it closes whatever a killed process has left unfinished.
        handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, f"\n{line}".encode())
        finally:
            os.close(handle)

    def _refresh(self) -> None:
        if self._path is None or not self._path.exists():
            return
        with self._path.open("rb") as stream:
            stream.seek(self._read)
            content = stream.read()
        whole = content[: content.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            try:
                fields = json.loads(line)
                key = fields.pop("key")
                self._known[key] = Evaluation(**fields)
            except (ValueError, KeyError, TypeError, AttributeError):
                continue  # a line that was torn, or of another version: as if it had never been
