"""A PostgreSQL server of the tests' own: on loopback, on a free port, in a folder that goes with it."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

START_S = 20.0
USER = "searcher"


@contextmanager
def running_server() -> Iterator[str]:
    """Start a server and yield the URL of an empty database; skip the test where none is installed."""
    binaries = _binaries()
    # Not pytest's own folder: that one is closed to the user that the server runs as.
    folder = Path(tempfile.mkdtemp(prefix="sgq-postgres-"))
    try:
        account = _account()
        if account:
            shutil.chown(folder, **account)
        data = folder / "data"
        command = [str(binaries / "initdb"), "-D", str(data), "-A", "trust", "-U", USER, "--no-sync"]
        subprocess.run(
            [*command, "--no-instructions", "-E", "UTF8", "--locale=C"],
            check=True,
            capture_output=True,
            cwd=folder,
            **_as(account),
        )
        port = _free_port()
        options = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": "",
            "fsync": "off",
            "shared_buffers": "16MB",
            "dynamic_shared_memory_type": "mmap",
        }
        words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        log_path = folder / "log"
        with log_path.open("wb") as log:
            server = subprocess.Popen(
                [str(binaries / "postgres"), "-D", str(data), *words],
                stdout=log,
                stderr=log,
                cwd=folder,
                **_as(account),
            )
            try:
                _await(server, port, log_path)
                yield f"postgresql://{USER}@127.0.0.1:{port}/postgres"
            finally:
                _stop(server)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _binaries() -> Path:
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if config := shutil.which("pg_config"):
        told = subprocess.run([config, "--bindir"], capture_output=True, text=True, check=False)
        folders.append(Path(told.stdout.strip()))
    if found := shutil.which("initdb"):
        folders.append(Path(found).parent)
    for folder in folders:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    pytest.skip("PostgreSQL is not installed")


def _account() -> dict[str, str]:
    """Name the user and the group to run as; initdb refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            group = pwd.getpwnam(name).pw_gid
        except KeyError:
            continue
        return {"user": name, "group": _group_name(group)}
    pytest.skip("there is no user but root to run PostgreSQL as")


def _group_name(number: int) -> str:
    import grp

    return grp.getgrgid(number).gr_name


def _as(account: dict[str, str]) -> dict[str, Any]:
    return {**account, "extra_groups": []} if account else {}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Return once the server says in its log that it is ready; a port alone opens before that."""
    until = time.monotonic() + START_S
    while time.monotonic() < until and server.poll() is None:
        if b"ready to accept connections" in log.read_bytes():
            return
        time.sleep(0.02)
    raise RuntimeError(f"PostgreSQL did not start on port {port}:\n{log.read_text(errors='replace')}")


def _stop(server: subprocess.Popen[bytes]) -> None:
    # SIGINT is its fast shutdown, which does not wait for clients; SIGQUIT its immediate one.
    for sign in (signal.SIGINT, signal.SIGQUIT):
        if server.poll() is None:
            server.send_signal(sign)
            try:
                server.wait(timeout=10)
            except subprocess.TimeoutExpired:
                continue
    if server.poll() is None:
        server.kill()
        server.wait()
