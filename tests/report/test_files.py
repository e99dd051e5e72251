from __future__ import annotations

from pathlib import Path

import pytest

from sgq.errors import UsageError
from sgq.report import files
from sgq.report.files import writable_folder, write_atomically


def test_text_is_written_as_utf8_and_bytes_as_they_are(tmp_path: Path) -> None:
    write_atomically(tmp_path / "new" / "text.txt", "≤ 8 bits")
    write_atomically(tmp_path / "raw.bin", b"\x00\xff")
    assert (tmp_path / "new" / "text.txt").read_text(encoding="utf-8") == "≤ 8 bits"
    assert (tmp_path / "raw.bin").read_bytes() == b"\x00\xff"


def test_only_the_written_file_is_left_behind(tmp_path: Path) -> None:
    write_atomically(tmp_path / "report.html", "one")
    write_atomically(tmp_path / "report.html", "two")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert (tmp_path / "report.html").read_text() == "two"


def test_an_unwritable_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "occupied").write_text("a file, not a folder")
    with pytest.raises(UsageError, match=r"report\.html can be written \(got .*occupied"):
        write_atomically(tmp_path / "occupied" / "report.html", "text")
    with pytest.raises(UsageError, match=r"expected an output folder that can be written .*occupied"):
        writable_folder(tmp_path / "occupied" / "runs")


def test_a_write_that_fails_half_way_leaves_the_earlier_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_atomically(tmp_path / "report.html", "earlier")

    def full_disk(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "replace", full_disk)
    with pytest.raises(UsageError, match="No space left on device"):
        write_atomically(tmp_path / "report.html", "later")
    assert (tmp_path / "report.html").read_text() == "earlier"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_writable_folder_is_made_and_left_empty(tmp_path: Path) -> None:
    assert list(writable_folder(tmp_path / "runs" / "gat").iterdir()) == []
