from __future__ import annotations

import io
import sys

import pytest

from sgq.report import progress as module
from sgq.report.progress import counting, progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(
    monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, *, delay_s: float, quiet: bool = False
) -> str:
    """What a loop over three items writes to `stream` as stderr."""
    monkeypatch.setattr(module, "DELAY_S", delay_s)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        assert list(progress(range(3), description="epochs", quiet=quiet)) == [0, 1, 2]
    return stream.getvalue()


def test_the_items_come_through_in_order() -> None:
    assert list(progress(range(4), description="epochs")) == [0, 1, 2, 3]
    assert list(progress(iter("ab"), description="letters", total=2)) == ["a", "b"]


def test_nothing_is_shown_before_two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    assert module.DELAY_S == 2.0
    assert "epochs" not in shown(monkeypatch, Terminal(), delay_s=module.DELAY_S)


def test_a_long_job_shows_its_description_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "epochs" in shown(monkeypatch, Terminal(), delay_s=0.0)


def test_quiet_is_silent_even_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, Terminal(), delay_s=0.0, quiet=True) == ""


def test_a_file_or_pipe_stays_free_of_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, io.StringIO(), delay_s=0.0) == ""


def test_quiet_takes_no_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "tqdm", None)
    assert list(progress(range(3), description="epochs", quiet=True)) == [0, 1, 2]
    with counting(3, description="trials", quiet=True) as show:
        show(1)
