"""Output files that are whole or absent: a reader never meets half a report."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Mapping
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
    write_together(path.parent, {path.name: content})


def write_together(folder: str | Path, contents: Mapping[str, str | bytes]) -> None:
    """Write files of one folder by name: like `write_atomically`, and none before all could be written."""
    folder = Path(folder)
    # Beside the target, since os.replace is atomic only within one file system.
    partials = {name: folder / f".{name}.{secrets.token_hex(4)}" for name in contents}
    name = next(iter(contents), "")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            for name, content in contents.items():
                if (folder / name).is_dir():
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
                partials[name].write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
            for name, partial in partials.items():
                os.replace(partial, folder / name)
        finally:
            for partial in partials.values():
                partial.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(
            f"expected a folder in which {name} can be written (got {folder}: {error.strerror})"
        ) from error
