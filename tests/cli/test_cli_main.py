from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sgq.cli import check
from sgq.cli.main import VERBS, main

ROOT = Path(__file__).resolve().parents[2]
Sgq = Callable[..., Any]


@pytest.mark.parametrize("words", [["--help"], ["check", "int8", "sgquant/gat-taq"]])
def test_help_and_check_answer_without_torch(words: list[str]) -> None:
    program = (
        f"import sys; from sgq.cli.main import main; code = main({words!r}); "
        "sys.stderr.write(str([name for name in ('torch', 'torch_geometric') if name in sys.modules])); "
        "sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "[]")
    assert done.stdout


def test_every_verb_has_json_and_help(sgq: Sgq) -> None:
    names = [verb.__name__.rpartition(".")[2] for verb in VERBS]
    assert names == ["sites", "check", "plan", "profile", "cost", "train", "apply", "bits", "show", "report"]
    for name in names:
        outcome = sgq(name, "--help")
        assert outcome.code == 0
        assert "--json" in outcome.out


def test_an_unknown_verb_is_a_usage_error(sgq: Sgq) -> None:
    outcome = sgq("aply")
    assert outcome.code == 2
    assert "aply" in outcome.error


def test_ctrl_c_leaves_with_130(monkeypatch: pytest.MonkeyPatch, sgq: Sgq) -> None:
    monkeypatch.setattr("sgq.recipe.load_recipe", _interrupt)
    outcome = sgq("check", "int8")
    assert (outcome.code, outcome.error) == (130, "interrupted")


def _interrupt(recipe: str) -> None:
    raise KeyboardInterrupt


def test_a_full_disk_is_one_message_and_a_defect_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(error: Exception) -> Callable[[object], int]:
        def run(arguments: object) -> int:
            raise error

        return run

    monkeypatch.setattr(check, "run", fail(OSError(28, "No space left on device", "report.html")))
    assert main(["check", "int8"]) == 2
    assert "No space left on device" in capsys.readouterr().err
    monkeypatch.setattr(check, "run", fail(ZeroDivisionError("a defect")))
    with pytest.raises(ZeroDivisionError):
        main(["check", "int8"])


def test_a_reader_that_leaves_a_pipe_is_no_error() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(
        [sys.executable, "-m", "sgq.cli.main", "check", "int8"],
        cwd=ROOT,
        stdout=write_end,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write_end)
    assert (done.returncode, done.stderr) == (0, "")
