"""Every kind of storage opens by its name, and one that cannot be used says so in a line."""

from __future__ import annotations

import multiprocessing
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import GrpcStorageProxy, InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages._grpc.server import make_server
from sqlalchemy import text

from sgq.bits import storage as storage_module
from sgq.bits.leases import LEASE, held, is_retired, retire_dead
from sgq.bits.storage import open_storage
from sgq.errors import SearchError, UsageError
from tests.bits.postgres import running_server

SPAWN = multiprocessing.get_context("spawn")


def objective(trial: optuna.Trial) -> float:
    x: float = trial.suggest_float("x", -1, 1)
    return x * x


def search(where: str, count: int) -> None:
    """Take part in the study of a storage, with a lease on each trial."""
    storage = open_storage(where)
    study = optuna.create_study(storage=storage, study_name="search", load_if_exists=True)
    for _ in range(count):
        trial = study.ask()
        with held(study._storage, trial._trial_id):
            value = objective(trial)
        study.tell(trial, value)
    close(storage)


def close(storage: Any) -> None:
    if isinstance(storage, RDBStorage):
        storage.engine.dispose()
    elif isinstance(storage, GrpcStorageProxy):
        storage.close()


def search_together(where: str, processes: int = 2, count: int = 5) -> None:
    workers = [SPAWN.Process(target=search, args=(where, count)) for _ in range(processes)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0


def assert_all_there(storage: optuna.storages.BaseStorage, count: int) -> None:
    study = optuna.load_study(storage=storage, study_name="search")
    trials = study.get_trials()
    assert [trial.number for trial in trials] == list(range(count))
    assert {trial.state.name for trial in trials} == {"COMPLETE"}
    assert all(LEASE in trial.system_attrs for trial in trials)


def retire_one(storage: optuna.storages.BaseStorage) -> None:
    """Retire the trial of a process that never was on this machine, through that storage."""
    study = optuna.load_study(storage=storage, study_name="search")
    trial = study.ask()
    with held(study._storage, trial._trial_id):
        lease = study.get_trials()[-1].system_attrs[LEASE]
        study._storage.set_trial_system_attr(trial._trial_id, LEASE, {**lease, "started": 1})
    assert retire_dead(study) == (trial.number,)
    assert is_retired(study.get_trials()[-1])
    study._storage.delete_study(study._study_id)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# In memory and in a file.


def test_nothing_named_is_kept_in_memory() -> None:
    assert isinstance(open_storage(None), InMemoryStorage)


def test_a_path_is_a_journal_that_processes_share_and_its_folder_is_made(tmp_path: Path) -> None:
    where = tmp_path / "new" / "searches" / "search.log"
    assert isinstance(open_storage(where), JournalStorage)
    search_together(str(where))
    assert_all_there(open_storage(where), 10)


def test_a_journal_is_found_again_after_the_folder_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    storage = open_storage("search.log")
    monkeypatch.chdir("/")
    optuna.create_study(storage=storage, study_name="search")
    assert (tmp_path / "search.log").stat().st_size > 0


def test_a_folder_is_no_journal(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"path of a journal file \(got .*, which is a folder\)"):
        open_storage(tmp_path)
    with pytest.raises(UsageError, match="which is a folder"):
        open_storage("")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "occupied").write_text("a file, not a folder")
    with pytest.raises(UsageError, match=r"expected an output folder .*occupied"):
        open_storage(tmp_path / "occupied" / "search.log")


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(UsageError, match=r"that can be written \(got .*search\.log: Permission denied\)"):
        open_storage(tmp_path / "search.log")


def test_a_file_that_is_no_journal_is_named(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("version: 1\n")
    with pytest.raises(SearchError, match=r"recipe\.yaml: expected the journal of a search"):
        open_storage(tmp_path / "recipe.yaml")


# Schemes.


def test_sqlite_is_refused_and_a_path_advised() -> None:
    with pytest.raises(SearchError, match=r"got sqlite://, which parallel .* give its path alone"):
        open_storage("sqlite:///search.db")


@pytest.mark.parametrize(
    ("where", "advice"),
    [
        ("postgre://user:secret@host/db", r'scheme postgre://\)\. Did you mean "postgresql"\?$'),
        ("postgresql+psycopg2://user:secret@host/db", r'Did you mean "postgresql"\?$'),
        ("gprc://host:1", r'Did you mean "grpc"\?$'),
        (
            "redis://host",
            r"expected a path, postgresql://.* or grpc://host:port \(got the scheme redis://\)\.$",
        ),
        ("postgresql:/user:secret@host/db", "with two slashes"),
    ],
)
def test_another_scheme_is_answered_with_the_known_ones(where: str, advice: str) -> None:
    with pytest.raises(SearchError, match=advice) as caught:
        open_storage(where)
    assert "secret" not in str(caught.value)


def test_a_url_made_into_a_path_is_not_made_into_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SearchError, match="as a text with two slashes"):
        open_storage(Path("postgresql://user@host/db"))
    assert list(tmp_path.iterdir()) == []


# PostgreSQL.


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with running_server() as url:
        yield url


def run_statement(url: str, statement: str) -> None:
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)


def test_processes_that_open_an_empty_database_at_once_share_a_study(postgres: str) -> None:
    run_statement(postgres, "CREATE DATABASE together")
    url = postgres.replace("/postgres", "/together")
    search_together(url)
    storage = open_storage(url.replace("postgresql://", "postgres://"))
    assert isinstance(storage, RDBStorage)
    try:
        assert_all_there(storage, 10)
        retire_one(storage)
    finally:
        close(storage)


def test_a_server_that_drops_connections_is_connected_to_again(postgres: str) -> None:
    storage = open_storage(postgres)
    assert isinstance(storage, RDBStorage)
    try:
        storage.get_all_studies()
        run_statement(
            postgres,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'",
        )
        storage.get_all_studies()
    finally:
        close(storage)


def test_passwords_with_braces_and_percent_signs_reach_the_server(postgres: str) -> None:
    # Under trust, any password is accepted: it only has to survive being filled in.
    storage = open_storage(postgres.replace("searcher@", "searcher:{a}%7Bb%25@"))
    assert isinstance(storage, RDBStorage)
    try:
        assert storage.engine.url.password == "{a}{b%"
        with storage.engine.connect() as connection:
            assert connection.execute(text("SELECT 1")).scalar() == 1
    finally:
        close(storage)


def test_a_database_that_does_not_exist_is_said(postgres: str) -> None:
    where = postgres.replace("/postgres", "/absent").replace("searcher@", "searcher:secret@")
    with pytest.raises(SearchError, match=r'database "absent" does not exist\)$') as caught:
        open_storage(where)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "password", ["user:secret@127.0.0.1:{port}/db", "127.0.0.1:{port}/db?password=secret"]
)
def test_a_server_that_does_not_answer_is_named_without_the_password(password: str) -> None:
    pytest.importorskip("psycopg")
    where = f"postgresql://{password}".format(port=free_port())
    with pytest.raises(SearchError, match=r"postgresql://.*127\.0\.0\.1:\d+/db: .*refused\)$") as caught:
        open_storage(where)
    assert "secret" not in str(caught.value)
    assert len(str(caught.value)) < 250


def test_a_url_that_cannot_be_read_is_not_repeated() -> None:
    with pytest.raises(SearchError, match=r"special characters in the password as %xx") as caught:
        open_storage("postgresql://user:sec@ret:part@host:port/db")
    assert "ret" not in str(caught.value).replace("secret", "").partition("(got")[2]
    assert caught.value.__suppress_context__


def test_without_psycopg_its_installation_is_advised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(SearchError, match=r'pip install "sgq\[postgres\]"'):
        open_storage("postgresql://user@127.0.0.1/db")


# Optuna's proxy server.


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[str]:
    port = free_port()
    with ThreadPoolExecutor(4) as threads:
        storage = open_storage(tmp_path / "behind.log")
        server = make_server(storage, "127.0.0.1", port, thread_pool=threads)
        server.start()
        yield f"grpc://127.0.0.1:{port}"
        server.stop(None).wait()


def test_a_proxy_server_is_a_storage_like_the_others(proxy: str) -> None:
    search(proxy, 3)
    storage = open_storage(proxy)
    assert isinstance(storage, GrpcStorageProxy)
    try:
        assert_all_there(storage, 3)
        retire_one(storage)
    finally:
        close(storage)


def test_a_proxy_server_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_module, "CONNECT_S", 0.2)
    with pytest.raises(
        SearchError, match=r"gRPC proxy \(got none at 127\.0\.0\.1:\d+: GRPC connection timeout"
    ):
        open_storage(f"grpc://127.0.0.1:{free_port()}")


def test_a_server_of_something_else_is_no_proxy() -> None:
    grpc = pytest.importorskip("grpc")
    with ThreadPoolExecutor(1) as threads:
        server = grpc.server(threads)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with pytest.raises(SearchError, match=r"got none at 127\.0\.0\.1:\d+: Method not found"):
            open_storage(f"grpc://127.0.0.1:{port}")
        server.stop(None).wait()


@pytest.mark.parametrize("where", ["grpc://host", "grpc://:13000", "grpc://host:port", "grpc://host:1/path"])
def test_a_proxy_needs_a_host_and_a_port(where: str) -> None:
    with pytest.raises(SearchError, match="expected grpc://host:port"):
        open_storage(where)
