from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sgq.cost import operation_sources, pace, rates
from sgq.cost.fingerprint import fingerprint_of_this_machine
from sgq.cost.measurements import Key, read_measurements
from sgq.cost.operation_sources import Extent
from sgq.cost.profile import Power, Source
from sgq.cost.profile_file import load_profile, write_profile
from sgq.cost.timing import Call

Sgq = Callable[..., Any]
WORDS = ("profile", "-o", "host.yaml", "--threads", "1", "--quick")


class Added:
    """Two operations of another source; `ran` counts, and the one at `interrupts` is interrupted."""

    columns = ("operation",)
    ran = 0
    interrupts = -1

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[tuple[Key, Call]]:
        yield {"operation": "first"}, self._run
        yield {"operation": "second"}, self._run

    def _run(self) -> None:
        Added.ran += 1
        if Added.ran == Added.interrupts:
            raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure tiny sizes, and two operations in the place of the design space's."""
    monkeypatch.setattr(rates, "QUICK_STREAM_BYTES", (2**10, 2**12))
    monkeypatch.setattr(rates, "QUICK_PRODUCTS", ((4, 8, 8),))
    monkeypatch.setattr(rates, "TOUCHED_BYTES", 2**12)
    monkeypatch.setattr(pace, "WATCHED_S", 0.01)
    monkeypatch.setattr(operation_sources, "_MAKERS", dict(operation_sources._MAKERS))
    operation_sources.source_names()
    monkeypatch.setitem(operation_sources._MAKERS, "operations", lambda extent: Added())
    monkeypatch.setattr(Added, "ran", 0)
    monkeypatch.setattr(Added, "interrupts", -1)


def test_a_profile_and_its_measurements_are_written_and_shown(sgq: Sgq, tmp_path: Path) -> None:
    outcome = sgq(*WORDS)
    assert outcome.code == 0, outcome.err
    profile = load_profile(tmp_path / "host.yaml")
    assert (profile.name, profile.kind, profile.threads, profile.quick) == ("host", "measured", 1, True)
    assert profile.fingerprint == fingerprint_of_this_machine()
    assert profile.memory_bytes == profile.fingerprint.memory_bytes
    assert profile.pace is not None
    assert [peak.bits for peak in profile.rates.peaks] == [32, 8, 4, 2, 1]
    assert len(profile.rates.streams) == 2
    for file, rows in (("rates", 13), ("operations", 2)):
        path = profile.side_file(file)  # type: ignore[arg-type]
        assert path == tmp_path / f"host.{file}.csv"
        assert len(read_measurements(path)) == rows
    for text in ("peak int4", "G operations/s", "memory bandwidth", "4×8 · 8×8", "4.00 KiB"):
        assert text in outcome.out
    assert "wrote host.yaml; measured: 13 rates, 2 operations" in outcome.out


def test_json_is_one_document(sgq: Sgq) -> None:
    document = json.loads(sgq(*WORDS, "--json").out)
    assert document["file"] == "host.yaml"
    assert document["measured"] == {"rates": 13, "operations": 2}
    assert document["price_label"] == "modelled"
    assert document["profile"]["rates"]["bandwidth_bytes_per_s"] > 0
    assert document["profile"]["fingerprint"]["logical_cores"] >= 1


def test_an_interrupted_run_keeps_what_it_has_and_goes_on(
    sgq: Sgq, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Added, "interrupts", 1)
    outcome = sgq(*WORDS)
    assert outcome.code == 130
    assert "interrupted: what was measured is kept" in outcome.err
    assert not load_profile(tmp_path / "host.yaml", unfinished=True).finished
    before = (tmp_path / "host.rates.csv").read_bytes()
    assert sgq(*WORDS).code == 0
    assert (tmp_path / "host.rates.csv").read_bytes() == before
    assert load_profile(tmp_path / "host.yaml").finished
    ran = Added.ran
    again = (tmp_path / "host.yaml").read_bytes()
    assert sgq(*WORDS).code == 0
    assert (Added.ran, (tmp_path / "host.yaml").read_bytes()) == (ran, again)


def test_restart_measures_again_and_keeps_what_a_person_added(sgq: Sgq, tmp_path: Path) -> None:
    path = tmp_path / "host.yaml"
    assert sgq(*WORDS).code == 0
    power = Source("power.active_w", "A power meter", "https://example.org")
    write_profile(replace(load_profile(path), power=Power(65.0, 8.0), sources=(power,)), path)
    ran = Added.ran
    assert sgq(*WORDS).code == 0
    assert (Added.ran, load_profile(path).power) == (ran, Power(65.0, 8.0))
    assert sgq(*WORDS, "--restart").code == 0
    assert Added.ran > ran
    profile = load_profile(path)
    assert (profile.power, profile.sources) == (Power(65.0, 8.0), (power,))


def test_restart_measures_anew_where_the_profile_cannot_be_read(sgq: Sgq, tmp_path: Path) -> None:
    path = tmp_path / "host.yaml"
    assert sgq(*WORDS).code == 0
    path.write_text(path.read_text().replace("one_thread_s", "neighbours_s"))
    refused = sgq(*WORDS)
    assert refused.code == 2
    assert 'unknown key "neighbours_s"' in refused.error
    assert refused.error.rstrip().endswith("measure anew with --restart")
    before = path.read_text()
    assert sgq(*WORDS, "--restart").code == 0
    assert load_profile(path).finished
    assert (tmp_path / "host.yaml.unreadable").read_text() == before


def test_another_machine_other_threads_and_other_sizes_are_not_mixed(sgq: Sgq, tmp_path: Path) -> None:
    path = tmp_path / "host.yaml"
    assert sgq(*WORDS).code == 0
    assert "was measured with --quick; name another file" in sgq(*WORDS[:-1]).error
    profile = load_profile(path)
    assert profile.fingerprint is not None
    write_profile(replace(profile, threads=64), path)
    assert "was measured on 64 threads (got 1); name another file" in sgq(*WORDS).error
    write_profile(replace(profile, fingerprint=replace(profile.fingerprint, cpu="Another CPU")), path)
    outcome = sgq(*WORDS)
    assert outcome.code == 2
    assert "was measured on a machine that differs in cpu:" in outcome.error
    assert "Another CPU" in outcome.error
    assert str(fingerprint_of_this_machine()) in outcome.error
    older = replace(profile.fingerprint, numba_version="0.1")
    write_profile(replace(profile, fingerprint=older), path)
    outcome = sgq(*WORDS)
    assert outcome.code == 0
    assert "was measured with other versions (numba version: 0.1 against" in outcome.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-o", "host.csv"), "expected -o with a YAML file such as host.yaml (got host.csv)"),
        (("-o", "host.yaml", "--threads", "4096"), "expected --threads of at most"),
        (("-o", "host.yaml", "--threads", "0"), "expected an integer of at least 1"),
        (("-o", "file/host.yaml"), "expected an output folder that can be written"),
        (("-o", "recipe.yaml"), 'unknown key "rules"'),
        (("-o", "sheet.yaml"), "expected a measured profile (got a data sheet); name another file"),
        (("-o", "torn.yaml"), 'torn.yaml:1:1: missing key "finished"'),
        ((), "the following arguments are required: -o/--output"),
    ],
)
def test_bad_input_is_one_message(sgq: Sgq, tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "recipe.yaml").write_text("version: 1\nname: tiny\nrules: []\n")
    write_profile(load_profile("rtx-3080"), tmp_path / "sheet.yaml")
    write_profile(replace(load_profile("rtx-3080"), kind="measured", sources=()), tmp_path / "torn.yaml")
    text = (tmp_path / "torn.yaml").read_text()
    (tmp_path / "torn.yaml").write_text(text.replace("finished: true\n", ""))
    outcome = sgq("profile", *words)
    assert outcome.code == 2
    assert message in outcome.err
    assert "Traceback" not in outcome.err


def test_a_torn_row_is_measured_again_and_a_damaged_one_is_named(sgq: Sgq, tmp_path: Path) -> None:
    assert sgq(*WORDS).code == 0
    path = tmp_path / "host.operations.csv"
    whole = path.read_bytes()
    path.write_bytes(whole[:-4])
    assert sgq(*WORDS).code == 0
    assert len(read_measurements(path)) == 2
    path.write_bytes(whole.replace(b"first,", b"first,,"))
    outcome = sgq(*WORDS)
    assert outcome.code == 2
    assert "host.operations.csv:2: expected 6 cells (got 7)" in outcome.error


def test_the_extent_of_a_source_is_the_machines(monkeypatch: pytest.MonkeyPatch, sgq: Sgq) -> None:
    extents: list[Extent] = []

    def make(extent: Extent) -> Added:
        extents.append(extent)
        return Added()

    monkeypatch.setitem(operation_sources._MAKERS, "operations", make)
    assert sgq(*WORDS).code == 0
    assert extents == [Extent(fingerprint_of_this_machine().memory_bytes, quick=True)]


@pytest.mark.parametrize("left", ["host.rates.csv", "host.operations.csv", "host.architectures.csv"])
def test_measurements_without_their_profile_are_nobodys(sgq: Sgq, tmp_path: Path, left: str) -> None:
    (tmp_path / left).write_text("of another machine")
    outcome = sgq(*WORDS)
    assert outcome.code == 2
    assert f"{left}: measurements without their profile (host.yaml)" in outcome.error
    assert not (tmp_path / "host.yaml").exists()
    assert sgq(*WORDS, "--restart").code == 0


def test_restarting_forgets_architectures_too(sgq: Sgq, tmp_path: Path) -> None:
    assert sgq(*WORDS).code == 0
    stale = tmp_path / "host.architectures.csv"
    stale.write_text("of another machine")
    assert sgq(*WORDS, "--restart").code == 0
    assert not stale.exists()
