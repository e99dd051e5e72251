"""`sgq cost` of an architecture: by position, modelled and measured, as a table, JSON and a picture."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sgq.cost import architectures
from sgq.cost.fingerprint import fingerprint_of_this_machine
from sgq.cost.pace import usual_pace
from sgq.cost.profile_file import write_profile
from sgq.cost.timing import TimingSettings
from sgq.models.genotype_file import genotype_line, parse_genotype
from tests.cost.priced import RATES, measured_profile

Sgq = Callable[..., Any]
SMALL = """\
version: 1
name: small
positions:
  - {sample: knn, k: 4, bits: 8}
  - {aggregate: max, message: target_relative, bits: 8}
  - {combine: 16, activation: leaky_relu, bits: 8}
  - {connect: identity}
  - {pool: [max, mean], bits: 8}
head: {widths: [8], bits: 8}
"""
SIZES = ("--nodes", "32", "--classes", "5")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = TimingSettings(rounds=2, warmup=0, attempts=1, least_sample_s=0.0)
    monkeypatch.setattr(architectures, "SETTINGS", quick)


def test_dgcnn_on_a_data_sheet(sgq: Sgq) -> None:
    outcome = sgq("cost", "dgcnn", "--target", "raspberry-pi-4b")
    assert outcome.code == 0, outcome.err
    for text in ("dgcnn: 1,024 nodes, batch 1, fp32", "edge_mlp 256 max", "5.33 GFLOP",
                 "on raspberry-pi-4b (modelled from the data sheet, roofline)"):  # fmt: skip
        assert text in outcome.out
    assert "measured" not in outcome.out


def test_without_a_target_there_are_no_times(sgq: Sgq) -> None:
    outcome = sgq("cost", "dgcnn")
    assert outcome.code == 0, outcome.err
    assert "modelled: peak 88" in outcome.out
    assert "modelled ms" not in outcome.out


def test_a_file_is_priced_measured_and_drawn(sgq: Sgq, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SMALL)
    outcome = sgq(
        "cost", "small.yaml", *SIZES, "--target", "core-i7-8700k", "--measure", "--picture", "cost.png"
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert "small: 32 nodes, batch 1, integer kernels" in outcome.out
    assert "measured: peak" in outcome.out
    assert (tmp_path / "cost.png").read_bytes().startswith(b"\x89PNG")


def test_a_file_of_one_line_is_an_architecture(sgq: Sgq, tmp_path: Path) -> None:
    (tmp_path / "line.yaml").write_text(genotype_line(parse_genotype(SMALL)))
    outcome = sgq("cost", "line.yaml", *SIZES)
    assert outcome.code == 0, outcome.err
    assert "small: 32 nodes" in outcome.out


def test_what_is_measured_at_a_pace_or_on_other_threads_says_so(sgq: Sgq, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SMALL)
    threads = torch.get_num_threads()
    here = fingerprint_of_this_machine()
    profile = replace(
        measured_profile(tmp_path, seconds=1e-4, threads=threads), fingerprint=here, rates=RATES
    )
    words = ("cost", "small.yaml", *SIZES, "--target", "host.yaml", "--measure")
    with_pace = replace(profile, pace=usual_pace(0.01), memory_bytes=1, date="2026-01-01")
    write_profile(with_pace, tmp_path / "host.yaml")
    outcome = sgq(*words)
    assert outcome.code == 0, outcome.err
    assert "measured at the profile's pace" in outcome.out
    assert "threads" not in outcome.err
    write_profile(replace(with_pace, threads=threads + 1), tmp_path / "host.yaml")
    outcome = sgq(*words)
    assert f"host.yaml was measured on {threads + 1} threads, but here it is {threads}" in outcome.err
    assert "measured at the profile's pace" not in outcome.out


def test_json_has_rows_and_total(sgq: Sgq, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SMALL)
    report = json.loads(sgq("cost", "small.yaml", *SIZES, "--measure", "--json").out)
    assert [row["position"] for row in report["rows"]] == ["0", "1", "2", "3", "4", "head"]
    assert report["rows"][3]["flops"] == 0
    assert report["total"]["modelled_s"] is None
    assert report["total"]["measured_s"] > 0
    # Modelled and measured are apart, and agree.
    assert report["total"]["modelled_peak_bytes"] == pytest.approx(
        report["total"]["measured_peak_bytes"], rel=0.05
    )


def test_one_width_for_all(sgq: Sgq) -> None:
    outcome = sgq("cost", "dgcnn", "--bits", "4", "--target", "jetson-tx2", "--json")
    report = json.loads(outcome.out)
    assert report["title"].endswith("integer kernels")
    assert report["rows"][1]["bits"] == "4·4→4"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("dgcnn", "--target", "raspberry-pi-4"), 2, 'Did you mean "raspberry-pi-4b"'),
        (("dgcnn", "--target", "core-i7-8700k", "--edges", "10", "--measure"), 2, "graphs are priced only"),
        (("dgcnn", "--model", "gcn"), 2, "--model: not an option of an architecture (dgcnn)"),
        (("int8", "--model", "gcn", "--nodes", "9"), 2, "--nodes: not an option of a recipe or a checkpoint"),
        (("broken.yaml",), 2, 'broken.yaml:4:5: position 0: sample needs "k"'),
        (("invalid.yaml",), 2, '"x" cannot run: position 0: aggregate needs neighbours'),
    ],
)
def test_bad_input_is_told(sgq: Sgq, tmp_path: Path, words: tuple[str, ...], code: int, message: str) -> None:
    (tmp_path / "broken.yaml").write_text("version: 1\nname: x\npositions:\n  - {sample: knn}\n")
    (tmp_path / "invalid.yaml").write_text(
        "version: 1\nname: x\npositions:\n  - {aggregate: max, message: source}\n"
    )
    outcome = sgq("cost", *words)
    assert outcome.code == code
    assert message in outcome.error
