"""What was evaluated is remembered, by this process and by others, whatever a killed one left behind."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest

from sgq.bits import Evaluation
from sgq.bits.memo import Memo
from tests.bits.tables import wait_for

SPAWN = multiprocessing.get_context("spawn")
HALF = Evaluation(0.5, 0.25)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "memo.jsonl"


def put_many(path: Path, name: str, count: int) -> None:
    memo = Memo(path)
    for number in range(count):
        memo.put(f"{name}{number}", Evaluation(number / count))


def test_without_a_file_a_memo_remembers_for_itself() -> None:
    memo = Memo(None)
    assert memo.get("a") is None
    memo.put("a", HALF)
    assert memo.get("a") == HALF
    assert Memo(None).get("a") is None


def test_another_process_reads_what_this_one_remembers(path: Path) -> None:
    memo, other = Memo(path), Memo(path)
    assert other.get("a") is None
    memo.put("a", HALF)
    assert other.get("a") == HALF
    memo.put("b", Evaluation(0.75))
    assert other.get("b") == Evaluation(0.75, 1.0)
    assert Memo(path).get("a") == HALF


def test_of_a_key_that_was_put_twice_the_last_one_is_read(path: Path) -> None:
    memo = Memo(path)
    memo.put("a", HALF)
    memo.put("a", Evaluation(0.75))
    assert memo.get("a") == Memo(path).get("a") == Evaluation(0.75)


def test_a_torn_line_is_absent_until_it_is_whole_and_takes_no_other_with_it(path: Path) -> None:
    Memo(path).put("a", HALF)
    line = json.dumps({"key": "b", "accuracy": 0.75, "budget": 1.0}).encode()
    with path.open("ab") as stream:
        stream.write(line[:20])
    memo = Memo(path)
    assert (memo.get("a"), memo.get("b")) == (HALF, None)
    with path.open("ab") as stream:
        stream.write(line[20:] + b"\n")
    assert memo.get("b") == Evaluation(0.75)


def test_a_line_after_one_that_stays_torn_is_read(path: Path) -> None:
    path.write_bytes(b'{"key": "torn", "accur')
    memo = Memo(path)
    assert memo.get("torn") is None
    memo.put("a", HALF)
    assert Memo(path).get("a") == HALF
    assert Memo(path).get("torn") is None


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[1, 2]",
        b"7",
        b"null",
        b"\xff\xfe",
        b'{"accuracy": 0.5}',
        b'{"key": "a"}',
        b'{"key": ["a"], "accuracy": 0.5}',
        b'{"key": "a", "accuracy": 0.5, "of another version": 1}',
    ],
)
def test_lines_that_are_no_evaluations_are_passed_over(path: Path, line: bytes) -> None:
    path.write_bytes(line + b"\n")
    Memo(path).put("b", HALF)
    memo = Memo(path)
    assert memo.get("a") is None
    assert memo.get("b") == HALF


def test_processes_that_write_at_once_lose_nothing(path: Path) -> None:
    other = SPAWN.Process(target=put_many, args=(path, "theirs", 3000))
    other.start()
    wait_for(path.exists)
    put_many(path, "ours", 500)
    other.join()
    assert other.exitcode == 0
    memo = Memo(path)
    for name, count in (("ours", 500), ("theirs", 3000)):
        found = [memo.get(f"{name}{number}") for number in range(count)]
        assert found == [Evaluation(number / count) for number in range(count)]
