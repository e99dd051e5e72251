"""Holds what `import sgq` promises: every public name, at no cost, and with the right `quantizers`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import sgq

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("name", sgq.__all__)
def test_every_public_name_is_found_and_described(name: str) -> None:
    assert getattr(sgq, name).__doc__
    assert name in dir(sgq)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'sgq' has no attribute 'aply'"):
        _ = sgq.aply


@pytest.mark.parametrize("module", ["sgq", "sgq.cli.main", "sgq.recipe"])
def test_another_projects_quantizers_is_named(tmp_path: Path, module: str) -> None:
    (tmp_path / "quantizers").mkdir()
    (tmp_path / "quantizers" / "__init__.py").write_text("")
    done = subprocess.run(
        [sys.executable, "-c", f"import {module}"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError: sgq needs its own package `quantizers`")
    assert str(tmp_path / "quantizers") in last
