from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from sgq.cli.main import main

RECIPE = """\
version: 1
name: tiny
rules:
  - match: {component: "*"}
    bits: 8
finetune: {epochs: 2}
"""


@dataclass(frozen=True)
class Outcome:
    """What one command left: its exit code and its two streams."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The only error message; the command must have failed with one and without a traceback."""
        assert self.err.count("error: ") == 1, self.err
        assert "Traceback" not in self.err
        return self.err.partition("error: ")[2].strip()


Sgq = Callable[..., Outcome]


@pytest.fixture
def sgq(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Outcome]:
    """Return a function that runs `sgq` in an empty folder, in this process."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> Outcome:
        capsys.readouterr()
        code = main(words)
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe of one rule that fits any model, in tiny.yaml."""
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def trained(sgq: Sgq, tmp_path: Path) -> Path:
    """A GCN of hidden width 5, trained for two epochs on the ring."""
    path = tmp_path / "gcn.safetensors"
    words = ("--model", "gcn", "--data", "cli_subjects:ring", "--hidden", "5", "--epochs", "2")
    assert sgq("train", *words, "-o", str(path), "--quiet").code == 0
    return path
