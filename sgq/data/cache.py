"""Where raw files are read and where PyG may write: a read-only raw root and a cache folder.

PyG writes `processed/` beside `raw/`. So raw files are copied into a building folder inside the cache,
processed there, and moved into place by one rename: processes that start at once cannot see half a result.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sgq.data.registry import DatasetRecord
from sgq.errors import DataError

RAW_ROOT_VARIABLE = "SGQ_DATA"
CACHE_VARIABLE = "SGQ_CACHE"


def raw_root(root: str | Path | None = None) -> Path | None:
    """Return the read-only folder of raw files: `root`, else SGQ_DATA, else None."""
    if root is None:
        root = os.environ.get(RAW_ROOT_VARIABLE) or None
    return None if root is None else Path(root).expanduser()


def cache_root() -> Path:
    """Return the folder that data sets are processed in: SGQ_CACHE, else `sgq` in the user's cache folder."""
    if given := os.environ.get(CACHE_VARIABLE):
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "sgq"


def read_through_cache(record: DatasetRecord, reader: Callable[..., Any], *, root: Path | None) -> Any:
    """Return the data set that `reader(root=…, **record.arguments)` makes, processed at most once.

    Files come from `root` when it holds `record.folder`/raw, else from PyG's own download. Raise DataError
    when the cache cannot be written, the files cannot be read or the download fails.
    """
    cache = cache_root()
    final = cache / record.folder
    if not final.is_dir():
        return _build(record, reader, root=root, cache=cache, final=final)
    try:
        return _open(reader, cache / record.reader_root, record)
    except Exception as error:  # a processed file can be broken in any way that torch.load knows
        raise DataError(
            f"cannot read {record.name} in the cache ({error}); remove {final} to process it again"
        ) from error


def _build(
    record: DatasetRecord, reader: Callable[..., Any], *, root: Path | None, cache: Path, final: Path
) -> Any:
    source = None if root is None else root / record.folder
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=".building-", dir=cache))
    except OSError as error:
        raise DataError(f"cannot write the cache folder {cache} ({error}); set {CACHE_VARIABLE}") from error
    try:
        try:
            if source is not None and (source / "raw").is_dir():
                _copy_files(source, building / record.folder)
            _open(reader, building / record.reader_root, record)
        except Exception as error:  # network, file system and parser each raise their own kinds
            raise DataError(_explain(record, source, error=error)) from error
        # Another process may have been faster; its folder holds the same data.
        with contextlib.suppress(OSError):
            (building / record.folder).rename(final)
        # Opened again where it lies now: ogb reads the files of its split only when asked for them.
        return _open(reader, cache / record.reader_root, record)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _copy_files(source: Path, target: Path) -> None:
    """Copy everything but `processed/`, which may be of other versions; ogb keeps its splits beside `raw/`.

    Only contents are copied: the folders of a read-only root are often read-only, the copies must not be.
    """
    for folder, subfolders, files in os.walk(source, followlinks=True):
        subfolders[:] = [name for name in subfolders if name != "processed"]
        copy = target / Path(folder).relative_to(source)
        copy.mkdir(parents=True)
        for name in files:
            shutil.copyfile(Path(folder, name), copy / name)


def _open(reader: Callable[..., Any], root: Path, record: DatasetRecord) -> Any:
    # PyG reports its processing and downloading on stderr; ogb does on stdout, which belongs to results.
    with contextlib.redirect_stdout(sys.stderr), contextlib.redirect_stderr(io.StringIO()):
        return reader(root=str(root), **record.arguments)


def _explain(record: DatasetRecord, source: Path | None, *, error: Exception) -> str:
    reason = f"{type(error).__name__}: {error}".splitlines()[0]
    if source is not None and (source / "raw").is_dir():
        return f"cannot process the raw files of {record.name} in {source / 'raw'} ({reason})"
    where = f"{source / 'raw'} is no folder" if source else f"{RAW_ROOT_VARIABLE} is not set"
    return (
        f"no raw files of {record.name}: {where}, and its download failed ({reason}). Put the files in "
        f"{record.folder}/raw under the folder that {RAW_ROOT_VARIABLE} names; they are processed in the "
        f"folder that {CACHE_VARIABLE} names (now {cache_root()})"
    )
