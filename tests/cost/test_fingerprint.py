from __future__ import annotations

import os
import platform
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from sgq.cost import fingerprint
from sgq.cost.fingerprint import Fingerprint, fingerprint_of_this_machine, machine_warning

LAPTOP = Fingerprint(
    cpu="Some CPU",
    physical_cores=4,
    logical_cores=8,
    memory_bytes=16 * 2**30,
    cache_bytes=(32 * 2**10, 2**20),
    instruction_sets=("avx2", "fma"),
    system="Linux x86_64",
    torch_version="2.13.0",
    numba_version="0.60",
    sgq_version="0.1.0",
)


def test_this_machine_has_one_and_is_like_itself() -> None:
    here = fingerprint_of_this_machine()
    assert here.cpu
    assert 1 <= here.physical_cores <= here.logical_cores <= (os.cpu_count() or 1)
    assert here.memory_bytes > 2**28
    assert list(here.cache_bytes) == sorted(here.cache_bytes)
    assert here.differences(fingerprint_of_this_machine()) == ()
    assert machine_warning(here, here, profile="host") is None


def test_neither_the_hosts_name_nor_a_path_is_in_it() -> None:
    texts = str(asdict(fingerprint_of_this_machine()))
    assert "/" not in texts.replace("CPU @", "")
    if len(platform.node()) > 3:
        assert platform.node() not in texts


def test_it_reads_as_one_line() -> None:
    assert str(LAPTOP) == (
        "Some CPU; 4 cores, 8 threads; 16.0 GiB; caches 32.0 KiB / 1.00 MiB; avx2 fma; no accelerator; "
        "Linux x86_64; torch 2.13.0, numba 0.60, sgq 0.1.0"
    )


@pytest.mark.parametrize(
    ("change", "text", "changes_speed"),
    [
        ({"cpu": "Other CPU"}, "cpu: Some CPU against Other CPU", True),
        ({"physical_cores": 2}, "physical cores: 4 against 2", True),
        ({"logical_cores": 4}, "logical cores: 8 against 4", True),
        ({"memory_bytes": 8 * 2**30}, "memory: 16.0 GiB against 8.00 GiB", True),
        ({"cache_bytes": ()}, "cache: 32.0 KiB / 1.00 MiB against unknown", True),
        ({"instruction_sets": ("avx2",)}, "instruction sets: avx2 fma against avx2", True),
        ({"accelerator": "A GPU"}, "accelerator: none against A GPU", True),
        ({"system": "Darwin arm64"}, "system: Linux x86_64 against Darwin arm64", False),
        ({"torch_version": "2.14.0"}, "torch version: 2.13.0 against 2.14.0", False),
        ({"numba_version": "0.61"}, "numba version: 0.60 against 0.61", False),
        ({"sgq_version": "0.2.0"}, "sgq version: 0.1.0 against 0.2.0", False),
    ],
)
def test_every_difference_reads_and_tells_whether_it_changes_speed(
    change: dict[str, object], text: str, changes_speed: bool
) -> None:
    other = replace(LAPTOP, **change)  # type: ignore[arg-type]
    (difference,) = LAPTOP.differences(other)
    assert str(difference) == text
    assert difference.changes_speed is changes_speed
    assert LAPTOP.is_as_fast_as(other) is not changes_speed


def test_what_changes_speed_comes_first() -> None:
    other = replace(LAPTOP, torch_version="2.14.0", cpu="Other CPU", sgq_version="0.2.0", logical_cores=2)
    names = [difference.what for difference in LAPTOP.differences(other)]
    assert names == ["cpu", "logical cores", "torch version", "sgq version"]


def test_a_little_memory_more_or_less_is_the_same_machine() -> None:
    assert LAPTOP.differences(replace(LAPTOP, memory_bytes=int(15.5 * 2**30))) == ()


def test_the_warning_of_another_machine_has_both_fingerprints() -> None:
    other = replace(LAPTOP, cpu="Other CPU", torch_version="2.14.0")
    warning = machine_warning(LAPTOP, other, profile="laptop")
    assert warning is not None
    lines = warning.splitlines()
    assert lines[0].startswith(
        "laptop was measured on a machine that differs in cpu, torch version: its prices are not those"
    )
    assert str(LAPTOP) in lines[1]
    assert str(other) in lines[2]


def test_other_versions_alone_are_named_without_more() -> None:
    warning = machine_warning(LAPTOP, replace(LAPTOP, numba_version="0.61"), profile="laptop")
    assert warning == "laptop was measured with other versions (numba version: 0.60 against 0.61)"


def test_a_system_that_tells_little_has_a_fingerprint(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(fingerprint, "_SYSTEM", tmp_path)
    monkeypatch.delattr(os, "sysconf", raising=False)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    here = fingerprint_of_this_machine()
    assert (here.cache_bytes, here.memory_bytes) == ((), 0)
    assert here.physical_cores == here.logical_cores == os.cpu_count()


def test_caches_and_cores_are_read_off_the_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(fingerprint, "_SYSTEM", tmp_path)
    caches = (("0", "1", "Data", "32K"), ("1", "1", "Instruction", "64K"), ("2", "2", "Unified", "512K"))
    for index, level, kind, size in caches:
        folder = tmp_path / "cpu0" / "cache" / f"index{index}"
        folder.mkdir(parents=True)
        for name, text in (("level", level), ("type", kind), ("size", size)):
            (folder / name).write_text(f"{text}\n")
    for processor in range(4):
        folder = tmp_path / f"cpu{processor}" / "topology"
        folder.mkdir(parents=True)
        (folder / "physical_package_id").write_text("0\n")
        (folder / "core_id").write_text(f"{processor // 2}\n")
    assert fingerprint._cache_bytes(0) == (32 * 2**10, 512 * 2**10)
    assert fingerprint._physical_cores({0, 1, 2, 3}) == 2
    assert fingerprint._physical_cores({1}) == 1
