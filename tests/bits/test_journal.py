"""The journal file outlives killed writers, keeps every complete line and refuses what is no journal."""

from __future__ import annotations

import builtins
import json
import multiprocessing
import os
import pickle
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileOpenLock
from optuna.testing.pytest_storages import StorageTestCase

from sgq.bits.journal import Journal, KernelLock
from sgq.errors import SearchError

SPAWN = multiprocessing.get_context("spawn")
Log = dict[str, Any]


def operation(number: int, **more: Any) -> Log:
    return {"op_code": 2, "worker_id": "writer", "number": number, **more}


def numbers(journal: Journal) -> list[int]:
    return [log["number"] for log in journal.read_logs(0)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "search.log"


class TestOptunasOwnDemandsOfAStorage(StorageTestCase):
    @pytest.fixture
    def storage(self, path: Path) -> JournalStorage:
        return JournalStorage(Journal(path))


def test_what_one_journal_writes_another_reads_from_any_number_on(path: Path) -> None:
    writer, reader = Journal(path), Journal(path)
    writer.append_logs([operation(0), operation(1)])
    assert numbers(reader) == [0, 1]
    writer.append_logs([operation(2)])
    assert [log["number"] for log in reader.read_logs(2)] == [2]
    assert [log["number"] for log in reader.read_logs(1)] == [1, 2]
    assert list(reader.read_logs(3)) == []


def test_reading_goes_on_where_a_reader_stopped_half_way(path: Path) -> None:
    journal = Journal(path)
    journal.append_logs([operation(number) for number in range(5)])
    half = journal.read_logs(0)
    assert [next(half)["number"], next(half)["number"]] == [0, 1]
    half.close()
    assert [log["number"] for log in journal.read_logs(2)] == [2, 3, 4]


def test_a_pickled_journal_reads_the_same_file_from_its_beginning(path: Path) -> None:
    journal = Journal(path)
    journal.append_logs([operation(0)])
    assert numbers(journal) == [0]
    assert numbers(pickle.loads(pickle.dumps(journal))) == [0]


def test_writers_that_know_the_file_by_another_name_share_its_lock(path: Path) -> None:
    Journal(path).append_logs([operation(0)])
    link = path.with_name("link.log")
    link.symlink_to(path)
    Journal(link).append_logs([operation(1)])
    assert sorted(entry.name for entry in path.parent.iterdir()) == [
        "link.log",
        "search.log",
        "search.log.lock",
    ]


# Cut at every place of the last lines.


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The journal of a study with one trial, as its writers made it."""
    path = tmp_path_factory.mktemp("whole") / "search.log"
    study = optuna.create_study(storage=JournalStorage(Journal(path)), study_name="cut")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    return path.read_bytes()


def test_a_journal_cut_at_any_byte_of_its_last_lines_keeps_every_complete_line(
    path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Hundreds of cuts; that a write reaches the disk is not what this is about.
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    lines = whole.splitlines(keepends=True)
    for cut in range(len(whole) - sum(map(len, lines[-2:])) - 1, len(whole) + 1):
        path.write_bytes(whole[:cut])
        complete = [json.loads(line) for line in whole[:cut].splitlines(keepends=True) if line[-1:] == b"\n"]
        reader = Journal(path)
        assert list(reader.read_logs(0)) == complete, cut

        Journal(path).append_logs([operation(9)])
        assert list(reader.read_logs(len(complete))) == [operation(9)], cut
        assert list(Journal(path).read_logs(0)) == [*complete, operation(9)], cut


def test_a_first_line_cut_at_any_byte_is_begun_anew(
    path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    first = whole.splitlines(keepends=True)[0]
    for cut in range(len(first)):
        path.write_bytes(first[:cut])
        Journal(path).append_logs([operation(0)])
        assert numbers(Journal(path)) == [0], cut


def test_a_torn_line_longer_than_a_block_is_cut_off(path: Path) -> None:
    journal = Journal(path)
    journal.append_logs([operation(0), operation(1, text="x" * 9000)])
    os.truncate(path, path.stat().st_size - 1)
    assert numbers(journal) == [0]
    journal.append_logs([operation(2)])
    assert numbers(journal) == [0, 2]
    assert path.stat().st_size < 1000


def test_a_study_goes_on_in_a_journal_whose_writer_was_killed_half_way(path: Path, whole: bytes) -> None:
    path.write_bytes(whole[:-7])
    study = optuna.load_study(storage=JournalStorage(Journal(path)), study_name="cut")
    assert [trial.state.name for trial in study.trials] == ["RUNNING"]
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    again = optuna.load_study(storage=JournalStorage(Journal(path)), study_name="cut")
    assert [trial.state.name for trial in again.trials] == ["RUNNING", "COMPLETE"]


# Killed and competing processes.


def append_many(path: Path, writer: int, count: int) -> None:
    journal = Journal(path)
    for number in range(count):
        journal.append_logs([operation(number, writer=writer)])


def hold_the_lock(path: Path, pipe: Connection) -> None:
    KernelLock(str(path)).acquire()
    with path.open("ab") as file:
        file.write(b'{"op_code":2,"worker')
    pipe.send("held")
    time.sleep(60)


def test_processes_that_write_at_once_lose_no_line(path: Path) -> None:
    writers = [SPAWN.Process(target=append_many, args=(path, writer, 30)) for writer in range(4)]
    for process in writers:
        process.start()
    for process in writers:
        process.join()
        assert process.exitcode == 0
    logs = list(Journal(path).read_logs(0))
    for writer in range(4):
        assert [log["number"] for log in logs if log["writer"] == writer] == list(range(30))


def test_the_next_writer_goes_on_at_once_when_the_holder_of_the_lock_is_killed(path: Path) -> None:
    journal = Journal(path)
    journal.append_logs([operation(0)])
    here, there = SPAWN.Pipe()
    with here, there:
        holder = SPAWN.Process(target=hold_the_lock, args=(path, there))
        holder.start()
        assert here.recv() == "held"
        os.kill(holder.pid or 0, signal.SIGKILL)
        before = time.monotonic()
        journal.append_logs([operation(1)])
        assert time.monotonic() - before < 2
        holder.join()
    assert numbers(Journal(path)) == [0, 1]


# The lock.


def test_a_lock_excludes_other_locks_of_the_same_process(path: Path) -> None:
    import fcntl

    first = KernelLock(str(path))
    assert first.acquire()
    with open(f"{path}.lock", "rb") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    first.release()
    second = KernelLock(str(path))
    assert second.acquire()
    second.release()
    with pytest.raises(RuntimeError, match="expected a lock that is held"):
        second.release()


def test_a_lock_file_that_was_deleted_while_waited_for_is_not_taken_for_the_lock(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    flock, locked = fcntl.flock, []

    def deleting(descriptor: int, kind: int) -> None:
        flock(descriptor, kind)
        if kind == fcntl.LOCK_EX and not locked:
            os.unlink(f"{path}.lock")
        locked.append(kind)

    monkeypatch.setattr(fcntl, "flock", deleting)
    lock = KernelLock(str(path))
    assert lock.acquire()
    with open(f"{path}.lock", "rb") as other, pytest.raises(BlockingIOError):
        flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    lock.release()


def test_a_lock_of_optunas_own_is_named_and_left_alone(path: Path) -> None:
    os.symlink(path, f"{path}.lock")
    with pytest.raises(SearchError, match=r"search\.log\.lock: expected a lock file \(got a link"):
        Journal(path).append_logs([operation(0)])
    assert path.read_bytes() == b""


def test_a_file_system_without_locks_is_said(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def without_locks(descriptor: int, kind: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", without_locks)
    with pytest.raises(
        SearchError, match=r"\(got No locks available\); keep the journal where .* PostgreSQL"
    ):
        Journal(path).append_logs([operation(0)])


def test_without_fcntl_optunas_lock_is_used(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import_ = builtins.__import__

    def without_fcntl(name: str, *rest: Any) -> Any:
        if name == "fcntl":
            raise ImportError(name)
        return import_(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_fcntl)
    journal = Journal(path)
    assert isinstance(journal._lock, JournalFileOpenLock)
    journal.append_logs([operation(0)])
    assert numbers(journal) == [0]
    assert not Path(f"{path}.lock").exists()


# What is no journal.


@pytest.mark.parametrize(
    "content",
    [
        b"version: 1\nname: tiny\n",
        b"PK\x03\x04 no newline \xff\x00",
        b"SQLite format 3\x00",
        b'{"op_code": "none"}\n',
        b'{"version": 1}',
        b"[0, 1]\n",
        b"\n",
    ],
    ids=["recipe", "archive", "database", "other-code", "other-object", "list", "blank"],
)
def test_another_programs_file_is_named_and_left_as_it_is(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(SearchError, match=r"search\.log: expected the journal of a search .*name a new file"):
        Journal(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "damaged", [b"\x00\x00\x00\n", b'{"op_code":2,"worker_id":"a{"op_code":2}\n', b"\xff\n", b"7\n"]
)
def test_a_damaged_line_in_the_middle_is_named_by_its_number(path: Path, damaged: bytes) -> None:
    journal = Journal(path)
    journal.append_logs([operation(0), operation(1)])
    with path.open("ab") as file:
        file.write(damaged)
    journal.append_logs([operation(2)])
    with pytest.raises(SearchError, match=r"search\.log:3: expected an operation of a study \(got "):
        list(journal.read_logs(0))
    # The same from where a reader had come, and through a study's storage.
    with pytest.raises(SearchError, match=r"search\.log:3: "):
        list(journal.read_logs(2))


def test_a_storage_tells_the_damaged_line_when_it_is_opened(path: Path, whole: bytes) -> None:
    lines = whole.splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], b"{\n", *lines[2:]]))
    with pytest.raises(SearchError, match=r"search\.log:3: "):
        JournalStorage(Journal(path))


@pytest.mark.parametrize("act", [lambda journal: journal.append_logs([operation(1)]), numbers])
def test_a_journal_that_was_deleted_is_not_begun_anew(path: Path, act: Callable[[Journal], Any]) -> None:
    journal = Journal(path)
    journal.append_logs([operation(0)])
    path.unlink()
    with pytest.raises(SearchError, match=r"search\.log: expected a journal .*\(got No such file"):
        act(journal)
    assert not path.exists()


def test_a_journal_that_became_shorter_is_said(path: Path) -> None:
    journal = Journal(path)
    journal.append_logs([operation(0), operation(1)])
    assert numbers(journal) == [0, 1]
    os.truncate(path, 0)
    with pytest.raises(SearchError, match="expected a journal that only grows"):
        list(journal.read_logs(2))
