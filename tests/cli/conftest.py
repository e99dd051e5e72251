from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from sgq.cli.main import main
from tests.cli.searches import LIMITED, SPACE, SUBJECT, words_of

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


@pytest.fixture(scope="session")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with space.yaml, a GCN that was trained (gcn.safetensors), and one that was not (weak)."""
    folder = tmp_path_factory.mktemp("subject")
    (folder / "space.yaml").write_text(SPACE)
    for name, epochs in (("gcn", "30"), ("weak", "1")):
        file = str(folder / f"{name}.safetensors")
        with redirect_stdout(io.StringIO()):
            assert main(["train", *SUBJECT, "--hidden", "5", "--epochs", epochs, "-o", file, "--quiet"]) == 0
    return folder


@pytest.fixture(scope="session")
def searched(subject: Path) -> Path:
    """The folder of a search of six trials; what it printed as JSON is in printed.json beside it."""
    folder, out = subject / "searched", io.StringIO()
    with redirect_stdout(out):
        assert main(words_of(subject, folder, *LIMITED, "--json")) == 0
    (subject / "printed.json").write_text(out.getvalue())
    return folder


@pytest.fixture
def stopped(searched: Path, tmp_path: Path) -> Path:
    """A copy of that folder, to go on in."""
    return Path(shutil.copytree(searched, tmp_path / "run"))
