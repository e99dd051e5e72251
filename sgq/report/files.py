"""Output files that are whole or absent: a reader never meets half a report."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from sgq.errors import UsageError


def writable_folder(folder: str | Path) -> Path:
    """Return the folder, made where it is missing; raise UsageError when nothing can be written there.

    Call it before a long job, so that a wrong output path costs no training.
    """
    folder = Path(folder)
    probe = folder / f".writable-{secrets.token_hex(4)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise UsageError(
            f"expected an output folder that can be written (got {folder}: {error.strerror})"
        ) from error
    return folder


def write_atomically(path: str | Path, content: str | bytes) -> None:
    """Write `content` (text as UTF-8) to `path`, whole or not at all; an earlier file stays until then.

    Folders are made where they are missing; raise UsageError, naming the folder, when that or the
    writing fails.
    """
    path = Path(path)
    data = content.encode("utf-8") if isinstance(content, str) else content
    # Beside the target, since os.replace is atomic only within one file system.
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_bytes(data)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(
            f"expected a folder in which {path.name} can be written (got {path.parent}: {error.strerror})"
        ) from error
