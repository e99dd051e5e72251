"""A tiny space on a small graph for tests of `sgq bits`, and how to read what a search leaves."""

from __future__ import annotations

import csv
from pathlib import Path

from sgq.report.studies import read_study

SUBJECT = ("--model", "gcn", "--data", "tests.pipeline.trained_models:community_graph")
SPACE = """\
version: 1
name: tiny
about: bits, to be searched, for a tiny GCN
rules:
  - match: {component: weight}
    bits: {choices: [1, 2, 4, 8], axis: weights}
    granularity: channel
  - match: {module: convs.0, component: [input, message], rows: node}
    bits: {choices: [1, 2, 4, 8], axis: first}
  - match: {module: convs.1, component: [input, message], rows: node}
    bits: {choices: [1, 2, 4, 8], axis: second}
finetune: {epochs: 4, lr: 0.01}
"""
AXES = ("weights", "first", "second")

DROP, TRIALS = 0.1, 6
LIMITED = ("--limit", f"accuracy_drop={DROP}", "--trials", str(TRIALS))
"""What the search of the fixture `searched` was given."""


def words_of(
    subject: Path, output: Path | str, *more: str, space: str | Path | None = None, model: str = "gcn"
) -> list[str]:
    """Return the words of a search without progress."""
    given = str(subject / "space.yaml" if space is None else space)
    checkpoint = str(subject / f"{model}.safetensors")
    return ["bits", given, *SUBJECT, "--checkpoint", checkpoint, "-o", str(output), "--quiet", *more]


def table(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(file.read_text().splitlines()))


def best_of(folder: Path) -> dict[str, str]:
    """Return the line of the chosen trial in trials.csv."""
    best = str(read_study(folder).best)
    [line] = [line for line in table(folder / "trials.csv") if line["number"] == best]
    return line


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
