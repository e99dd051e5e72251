"""Runs what the README shows: its recipe, its Python, and the arguments of its commands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import torch
from torch_geometric.data import Data

import sgq
from sgq.cli.main import main
from sgq.recipe import parse_recipe
from sgq.recipe.shipped import shipped_names

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    """The only code block of a language."""
    (text,) = re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)
    return text


def ring() -> Data:
    """A ring of 24 nodes whose features tell their class; 8 nodes a split."""
    label, part = torch.arange(24) % 3, torch.arange(24) // 8
    return Data(
        x=torch.nn.functional.one_hot(label, 5).float(),
        edge_index=torch.stack([torch.arange(24), (torch.arange(24) + 3) % 24]),
        y=label,
        train_mask=part == 0,
        val_mask=part == 1,
        test_mask=part == 2,
    )


def test_the_recipe_is_valid() -> None:
    assert parse_recipe(block("yaml"), file="README.md").recipe.name == "gat-degree-aware"


def test_the_python_runs_with_the_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("recipe.yaml").write_text(block("yaml").replace("epochs: 100", "epochs: 2"))
    model = sgq.build_model("gat", in_channels=5, out_channels=3)
    exec(compile(block("python"), "README.md", "exec"), {"model": model, "data": ring()})
    printed = capsys.readouterr().out
    assert "Plan of gat-degree-aware" in printed
    assert "Applied(gat-degree-aware: test accuracy" in printed
    assert sgq.load("mine.safetensors", model) is not model


@pytest.mark.parametrize("line", block("sh").splitlines())
def test_a_command_has_arguments_that_exist(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name, verb, *words = shlex.split(line)
    monkeypatch.setattr(f"sgq.cli.{verb}.run", lambda arguments: 0)
    assert (name, main([verb, *words])) == ("sgq", 0), capsys.readouterr().err
    assert all(word in shipped_names() for word in words if word.startswith("sgquant/"))
