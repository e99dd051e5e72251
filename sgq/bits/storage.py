"""Where the studies of a search are kept: in memory, in a journal file, in PostgreSQL or behind a proxy.

Whatever is wrong with a storage is said when it is opened, in one line and without the password.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import BaseStorage, GrpcStorageProxy, InMemoryStorage, JournalStorage, RDBStorage
from sqlalchemy import text
from sqlalchemy.engine import URL, create_engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from sgq.bits.journal import Journal
from sgq.errors import SearchError, UsageError, nearest_name
from sgq.report.files import writable_folder

CONNECT_S = 10.0
"""How many seconds a server may take to answer when its storage is opened."""

_POSTGRES = ("postgresql", "postgres", "postgresql+psycopg")
_KNOWN = "a path, postgresql://user@host/database or grpc://host:port"
# More than one letter, so that a drive (C:/searches) is none; one slash, since pathlib makes one of two.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(/+)")
_TABLES_LOCK = int.from_bytes(b"sgqbits1")


def open_storage(where: str | Path | None) -> BaseStorage:
    """Return the storage that `where` names; raise SearchError or UsageError when it cannot be used.

    None keeps the studies in memory, `postgresql://user@host/database` in PostgreSQL, `grpc://host:port`
    behind Optuna's proxy server; anything else is the path of a journal file, made where it is missing.
    """
    if where is None:
        return InMemoryStorage()
    scheme = _SCHEME.match(str(where))
    if scheme is None:
        return _journal(Path(where))
    name, slashes = scheme.group(1).lower(), scheme.group(2)
    if name == "sqlite" or name.startswith("sqlite+"):
        raise SearchError(
            f"storage: expected {_KNOWN} (got {name}://, which parallel searches cannot share); "
            "for a file, give its path alone: it becomes a journal"
        )
    if name not in (*_POSTGRES, "grpc"):
        raise SearchError(
            f"storage: expected {_KNOWN} (got the scheme {name}://)."
            f"{nearest_name(name, ('postgresql', 'grpc'))}"
        )
    if isinstance(where, Path) or len(slashes) < 2:
        raise SearchError(f"storage: expected {name}:// as a text with two slashes (got {name}:/)")
    return _proxy(where) if name == "grpc" else _postgres(where)


@contextmanager
def opened(where: str | Path | None) -> Iterator[BaseStorage]:
    """Open a storage as `open_storage` does, and close its connections at the end of the block."""
    storage = open_storage(where)
    try:
        yield storage
    finally:
        if isinstance(storage, RDBStorage):
            storage.engine.dispose()
        elif isinstance(storage, GrpcStorageProxy):
            storage.close()


def _journal(path: Path) -> JournalStorage:
    if path.exists() and not path.is_file():
        kind = "a folder" if path.is_dir() else "something else"
        raise UsageError(f"storage: expected the path of a journal file (got {path}, which is {kind})")
    writable_folder(path.parent)
    try:
        path.open("ab").close()
    except OSError as error:
        raise UsageError(
            f"storage: expected a journal file that can be written (got {path}: {error.strerror})"
        ) from error
    return JournalStorage(Journal(path))


def _postgres(where: str) -> RDBStorage:
    try:
        url = make_url(where).set(drivername="postgresql+psycopg")
    except (ArgumentError, ValueError):
        # Without the cause, which can quote a part of the password.
        raise SearchError(
            "storage: expected postgresql://user:password@host:port/database, special characters in the "
            "password as %xx (got a URL that cannot be read)"
        ) from None
    # The query of the URL comes first: a person who names a timeout there means it.
    arguments = {} if "connect_timeout" in url.query else {"connect_timeout": int(CONNECT_S)}
    # Optuna fills in {SCHEMA_VERSION}; other braces are the URL's own.
    filled = url.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")
    try:
        engine = create_engine(url, connect_args=arguments, poolclass=NullPool)
        # Optuna's making of the tables fails when two processes do it at once.
        with engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _TABLES_LOCK})
            return RDBStorage(filled, engine_kwargs={"pool_pre_ping": True, "connect_args": arguments})
    except ImportError as error:
        raise SearchError(
            "storage: expected the driver psycopg for PostgreSQL (got none that can be loaded); "
            'install it: pip install "sgq[postgres]"'
        ) from error
    except (SQLAlchemyError, StorageInternalError, RuntimeError) as error:
        raise SearchError(
            f"storage: expected a PostgreSQL database that can be used (got {_without_secrets(url)}: "
            f"{_reason(error, url)})"
        ) from error


def _without_secrets(url: URL) -> str:
    # libpq takes a password in the query as well, which SQLAlchemy would not hide.
    return url.set(drivername="postgresql", query={}).render_as_string()


def _reason(error: Exception, url: URL) -> str:
    cause = error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ else error
    if isinstance(cause, DBAPIError) and cause.orig is not None:
        cause = cause.orig
    line = next(iter(str(cause).splitlines()), "") or type(cause).__name__
    secrets = (url.password, url.query.get("password"))
    for secret in secrets:
        if isinstance(secret, str) and secret:
            line = line.replace(secret, "***")
    return line


def _proxy(where: str) -> GrpcStorageProxy:
    try:
        parts = urlsplit(where)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise SearchError(f"storage: expected grpc://host:port (got {error})") from error
    if not host or not port or parts.netloc.count("@") or parts.path.strip("/"):
        raise SearchError(
            f"storage: expected grpc://host:port and nothing else (got the host {host} and the port {port})"
        )
    storage = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            storage = GrpcStorageProxy(host=f"[{host}]" if ":" in host else host, port=port)
        storage.wait_server_ready(timeout=CONNECT_S)
        # Shows that it is Optuna's server, and that the storage behind it answers.
        storage.get_all_studies()
    except Exception as error:
        if storage is not None:
            storage.close()
        raise SearchError(
            f"storage: expected a server of Optuna's gRPC proxy (got none at {host}:{port}: {_status(error)})"
        ) from error
    return storage


def _status(error: Exception) -> str:
    """Return what an error of gRPC says: its details stand in a method, beside a text of many lines."""
    details = getattr(error, "details", None)
    if callable(details):
        return str(details()).partition("\n")[0]
    return str(error).partition("\n")[0] or type(error).__name__
