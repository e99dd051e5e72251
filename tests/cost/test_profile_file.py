from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgq.cost.fingerprint import Fingerprint
from sgq.cost.profile import (
    DeviceProfile,
    PeakRate,
    Power,
    ProductRate,
    Radio,
    Rates,
    SideFiles,
    Source,
    StreamRate,
)
from sgq.cost.profile_file import load_profile, parse_profile, profile_text, write_profile
from sgq.errors import ProfileError, UsageError

HOST = DeviceProfile(
    name="host",
    kind="measured",
    date="2024-02-29",
    about="a machine under a desk: 1e3 things, 'quoted'",
    threads=2,
    memory_bytes=16 * 2**30,
    fingerprint=Fingerprint(
        cpu="Some CPU @ 3.0GHz",
        physical_cores=2,
        logical_cores=4,
        memory_bytes=16 * 2**30,
        cache_bytes=(2**15, 2**20),
        instruction_sets=("avx2", "fma"),
        system="Linux x86_64",
        torch_version="2.13.0+cpu",
        numba_version="1e5",
        sgq_version="0.1.0",
        accelerator="A GPU",
    ),
    rates=Rates(
        peaks=(PeakRate(32, 1.5e11), PeakRate(8, 3e11), PeakRate(1, 7e11)),
        bandwidth_bytes_per_s=2.5e10,
        launch_s=1.25e-06,
        kernel_launch_s=2e-5,
        allocation_s=1e-6,
        first_touch_bytes_per_s=3e9,
        streams=(StreamRate(65536, 1e11, 9e10), StreamRate(2**28, 2e10, 2.5e10, noisy=True)),
        products=(ProductRate(32, 1024, 64, 64, 1e11), ProductRate(8, 1024, 64, 64, 3e11, noisy=True)),
    ),
    power=Power(65.0, 8.5),
    radio=Radio(3.0),
    files=SideFiles("host.rates.csv", "host.operations.csv", "host.safetensors"),
    sources=(Source("power.active_w", "A power meter", "https://example.org/meter", "at the wall"),),
    quick=True,
)
SHEET = """\
version: 1
name: toy
kind: data sheet
date: 2020-09-17
memory_bytes: 2GiB
rates:
  operations_per_s: {fp32: 1.0e12}
sources:
  memory_bytes: {title: A page, url: "https://example.org"}
  rates.operations_per_s.fp32: {title: A page, url: "https://example.org", how: measured}
"""


def test_a_profile_comes_back_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "host.yaml"
    write_profile(HOST, path)
    loaded = load_profile(path)
    assert loaded == HOST
    assert loaded.folder == path.parent
    assert profile_text(loaded) == path.read_text()


def test_a_bare_profile_comes_back() -> None:
    bare = replace(
        HOST, about="", memory_bytes=None, rates=Rates(), power=Power(), radio=Radio(), files=SideFiles()
    )
    bare = replace(bare, sources=(), quick=False, finished=False)
    assert parse_profile(profile_text(bare)) == bare
    sheet = parse_profile(SHEET)
    assert parse_profile(profile_text(sheet)) == sheet


@settings(deadline=None, max_examples=40)
@given(
    text=st.text(min_size=1, max_size=20),
    rate=st.floats(0.0, 1e300, exclude_min=True),
    count=st.integers(1, 2**63),
)
def test_any_text_and_any_number_come_back(text: str, rate: float, count: int) -> None:
    assert HOST.fingerprint is not None
    profile = replace(
        HOST,
        name=text,
        about=text,
        memory_bytes=count,
        fingerprint=replace(HOST.fingerprint, cpu=text),
        power=Power(rate, None),
    )
    assert parse_profile(profile_text(profile)) == profile


def test_a_data_sheet_reads_as_it_says() -> None:
    sheet = parse_profile(SHEET)
    assert (sheet.kind, sheet.memory_bytes, sheet.price_label) == (
        "data sheet",
        2**31,
        "modelled from the data sheet",
    )
    assert sheet.rates.peak_operations_per_s(8) == 1e12
    assert sheet.sources[1] == Source(
        "rates.operations_per_s.fp32", "A page", "https://example.org", "measured"
    )
    assert HOST.price_label == "modelled"


MEASURED = profile_text(HOST)


def changed(old: str, new: str) -> str:
    """Return the measured profile's text with one change."""
    assert MEASURED.count(old) == 1, MEASURED
    return MEASURED.replace(old, new)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "a:1:1: expected a device profile (got an empty file)"),
        ("- 1", "a:1:1: expected a mapping (got a list)"),
        ("name: [", "a:1:8: while parsing a flow node"),
        ("name: a\nname: b\n", 'a:2:1: duplicate key "name", first on line 1'),
        (changed("threads: 2\n", "threads: &x 2\n"), 'a:7:10: anchors are not supported (got "&x")'),
        (changed("version: 1", "version: 2"), "a:1:10: version: expected 1, the only version of the profile"),
        (changed("version: 1", "version: true"), "a:1:10: version: expected 1"),
        (changed("version: 1\n", ""), 'a:1:1: missing key "version"'),
        (changed('kind: "measured"', "kind: mesured"), 'a:3:7: kind: expected one of measured, data sheet'),
        (changed('"2024-02-29"', "2024-02-30"), "a:5:7: date: expected a date such as 2020-09-17"),
        (changed("threads: 2\n", "thread: 2\n"), 'a:7:1: unknown key "thread". Did you mean "threads"?'),
        (changed("threads: 2\n", "threads: 0\n"), "a:7:10: threads: expected a number of at least 1 (got 0)"),
        (changed("threads: 2\n", "threads: two\n"), "a:7:10: threads: expected a whole number (got 'two')"),
        (changed("threads: 2\n", ""), 'a:1:1: missing key "threads", which a measured profile has'),
        (changed("launch_s: 1.25e-06", "launch_s: fast"), "rates.launch_s: expected a number (got 'fast')"),
        (changed("launch_s: 1.25e-06", "launch_s: -1"), "rates.launch_s: expected a number above 0 (got -1"),
        (changed("launch_s: 1.25e-06", "launch_s: .inf"), "rates.launch_s: expected a finite number"),
        (changed("fp32:", "fp16:"), 'unknown key "fp16". Did you mean "fp32"? Known: fp32, int8, int4'),
        (changed("active_w: 65.0", "activ_w: 65.0"), 'unknown key "activ_w". Did you mean "active_w"?'),
        (changed("physical_cores: 2", "physical_cores: 2.5"), "fingerprint.physical_cores: expected a whole"),
        (changed('  cpu: "Some CPU @ 3.0GHz"\n', ""), 'fingerprint: missing key "cpu"'),
        (changed("{array_bytes: 65536, ", "{bytes: 65536, "), 'Did you mean "array_bytes"?'),
        (changed("bits: 8, rows: 1024", "bits: 8, rows: 0"), "rates.products.rows: expected a number of"),
        (changed('"host.rates.csv"', '"../host.csv"'), "files.rates: expected the name of a file beside"),
        (changed('"host.rates.csv"', '".."'), "files.rates: expected the name of a file beside"),
        (changed("memory_bytes: 17179869184\nf", "memory_bytes: 16 gigs\nf"), "expected bytes such as 2048"),
        (changed("finished: true", "finished: yes"), "finished: expected true or false (got 'yes')"),
        (changed("finished: true\n", ""), 'a:1:1: missing key "finished", which a measured profile has'),
        (changed("  power.active_w:", "  power.activ_w:"), 'no number "power.activ_w". Did you mean'),
        (changed("https://example.org/meter", "example.org"), "power.active_w.url: expected an address"),
        (SHEET.replace("memory_bytes: 2GiB", "memory_bytes: 2GiB\nfinished: true"), "a:6:1: a data sheet"),
        (SHEET.replace("  memory_bytes: {", "  memory_byte: {"), "a:5:15: memory_bytes: a data sheet's"),
        (SHEET.replace("title: A page, url", "url", 1), 'a:9:17: sources.memory_bytes: missing key "title"'),
        (SHEET[: SHEET.index("sources")] + "sources: none\n", "a:8:10: sources: expected a mapping"),
    ],
)  # fmt: skip
def test_every_fault_is_told_with_its_place(text: str, fault: str) -> None:
    with pytest.raises(ProfileError) as caught:
        parse_profile(text, file="a")
    lines = str(caught.value).splitlines()
    assert any(fault in line for line in lines), lines
    assert all(line.startswith("a:") and line.split(":")[1].isdigit() for line in lines)


def test_all_faults_are_told_at_once_and_in_order() -> None:
    text = MEASURED.replace("threads: 2", "threads: no").replace("idle_w: 8.5", "idle_w: 0")
    with pytest.raises(ProfileError) as caught:
        parse_profile(text.replace("numba_version:", "numba:"), file="host.yaml")
    lines = str(caught.value).splitlines()
    assert [line.partition(" ")[2] for line in lines] == [
        "threads: expected a whole number (got 'no')",
        'unknown key "numba". Did you mean "numba_version"? Known: cpu, physical_cores, logical_cores, '
        "memory_bytes, cache_bytes, instruction_sets, system, torch_version, numba_version, sgq_version, "
        "accelerator",
        "power.idle_w: expected a number above 0 (got 0)",
    ]


def test_a_file_that_was_cut_short_anywhere_is_an_error() -> None:
    ends = {end for end in range(len(MEASURED)) if MEASURED[end - 1 : end] == "\n"} | {10, 200, 1000}
    for end in sorted(ends):
        with pytest.raises(ProfileError):
            parse_profile(MEASURED[:end])


def test_profiles_are_found_by_path_and_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_profile("rtx-3080").name == load_profile("rtx-3080.yaml").name == "rtx-3080"
    write_profile(HOST, "rtx-3080.yaml")
    assert load_profile("rtx-3080").name == "rtx-3080"
    assert load_profile("rtx-3080.yaml").name == "host"
    assert load_profile(Path("rtx-3080.yaml")).name == "host"
    (tmp_path / "mine").write_text(SHEET)
    assert load_profile("mine").name == "toy"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rtx3080", 'no device profile "rtx3080".*Did you mean "rtx-3080"\\? Shipped: core-i7-8700k, '),
        ("hots.yaml", 'Did you mean "host.yaml"\\?'),
        ("here", "expected a device profile \\(got the folder here\\)"),
        ("zzz", "Measure this machine with: sgq profile -o zzz.yaml"),
    ],
)
def test_a_profile_that_is_not_there_has_near_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_profile(HOST, "host.yaml")
    (tmp_path / "here").mkdir()
    with pytest.raises(ProfileError, match=message) as caught:
        load_profile(name)
    assert caught.value.exit_code == 2


def test_an_unfinished_profile_is_for_who_asks_for_it(tmp_path: Path) -> None:
    path = tmp_path / "host.yaml"
    write_profile(replace(HOST, finished=False), path)
    with pytest.raises(ProfileError, match=r"measuring was interrupted; run `sgq profile -o .*host\.yaml`"):
        load_profile(path)
    assert not load_profile(path, unfinished=True).finished


@pytest.mark.parametrize("content", [b"\xff\xfe", b"name: \xc3("])
def test_what_is_no_text_is_an_error_with_its_place(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "host.yaml"
    path.write_bytes(content)
    with pytest.raises(ProfileError, match=r"host\.yaml:1:\d+: expected UTF-8 text"):
        load_profile(path)


def test_a_number_is_asked_for_by_name() -> None:
    assert HOST.required("power.idle_w") == 8.5
    assert HOST.required("rates.operations_per_s.int1") == 7e11
    with pytest.raises(ProfileError, match=r"the device profile host has no rates\.operations_per_s\.int4"):
        HOST.required("rates.operations_per_s.int4")


def test_files_beside_a_profile_are_found_or_missed(tmp_path: Path) -> None:
    path = tmp_path / "host.yaml"
    write_profile(HOST, path)
    (tmp_path / "host.operations.csv").write_text("")
    profile = load_profile(path)
    assert profile.side_file("operations") == tmp_path / "host.operations.csv"
    with pytest.raises(ProfileError, match=r"host\.rates\.csv: no such file, but the device profile host"):
        profile.side_file("rates")
    assert replace(profile, files=SideFiles()).side_file("operations") is None
    assert HOST.side_file("operations") is None


def test_a_place_that_cannot_be_written_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        write_profile(HOST, tmp_path)
