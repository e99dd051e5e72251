"""Architectures measured here: their file resumes, and what is read back is what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sgq.cost import Workload, architectures, timing
from sgq.cost.architectures import (
    drawn,
    frames_of,
    measure_architectures,
    measure_listed,
    measure_random,
)
from sgq.cost.measurements import read_measurements
from sgq.cost.timing import Timing, TimingSettings, time_calls
from sgq.models.dgcnn import dgcnn
from sgq.models.genotype import Genotype, Head
from sgq.models.genotype_sampling import GenotypeSpace, with_bits

QUICK = TimingSettings(rounds=2, warmup=0, attempts=1, least_sample_s=0.0)
TINY = Workload(nodes=16, classes=3)
SPACE = GenotypeSpace(most_positions=6, k=(2, 3), widths=(8, 16), heads=((8,),), widest=64)


@pytest.mark.parametrize("bits", [32, 8])
def test_a_frame_is_logits_of_the_workload(bits: int) -> None:
    for batch in (1, 2):
        workload = Workload(nodes=16, batch=batch, classes=3)
        frames = frames_of(with_bits(dgcnn(4), bits), workload)
        assert frames.call().shape == (batch, 3)
        assert sum(tensor.numel() for tensor in frames.resident()) > 1000


def test_latency_and_peak_are_those_of_a_frame() -> None:
    [(latency, peak), (_, narrow)] = measure_architectures(
        [dgcnn(4), with_bits(dgcnn(4), 8)], TINY, settings=QUICK
    )
    assert latency.median_s > 0
    assert peak > narrow > 10_000


def test_frames_go_by_the_pace_of_one_thread_for_longer_than_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    def timed(calls: Any, settings: TimingSettings, **given: Any) -> dict[str, Timing]:
        asked.append(given["halfway_s"])
        return time_calls(calls, settings, **given)

    monkeypatch.setattr(architectures, "time_calls", timed)
    measure_architectures([dgcnn(4)], TINY, settings=QUICK)
    assert asked == [architectures.HALFWAY_S]
    assert architectures.HALFWAY_S > timing.HALFWAY_S


def test_what_was_measured_is_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "host.architectures.csv"
    asked: list[int] = []

    def counting(genotypes, *arguments, **keywords):  # type: ignore[no-untyped-def]
        asked.append(len(genotypes))
        return measure_architectures(genotypes, *arguments, **keywords)

    monkeypatch.setattr(architectures, "measure_architectures", counting)
    first = measure_random(file, 3, TINY, part="train", seed=1, space=SPACE, settings=QUICK)
    done: list[int] = []
    more = measure_random(
        file, 5, TINY, part="train", seed=1, space=SPACE, settings=QUICK, on_progress=done.append
    )
    assert (asked, done) == ([3, 2], [3, 5])
    assert more[:3] == first
    assert measure_listed(file, [one.genotype for one in more], TINY, part="train") == more
    assert asked == [3, 2]
    assert [one.genotype for one in more] == list(drawn(5, TINY, seed=1, space=SPACE))


def test_parts_are_kept_apart(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    train = measure_random(file, 2, TINY, part="train", seed=1, space=SPACE, settings=QUICK)
    test = measure_random(file, 2, TINY, part="test", seed=1, space=SPACE, settings=QUICK)
    assert [one.genotype for one in train] == [one.genotype for one in test]
    assert [one.part for one in test] == ["test"] * 2


def test_workloads_are_kept_apart(tmp_path: Path) -> None:
    wanted = list(drawn(2, TINY, seed=1, space=SPACE))
    larger = Workload(nodes=24, batch=2, classes=3)
    for workload in (TINY, larger, TINY):
        found = measure_listed(tmp_path / "a.csv", wanted, workload, part="train", settings=QUICK)
        assert [one.workload for one in found] == [workload] * 2
    assert len(read_measurements(tmp_path / "a.csv")) == 4


def test_a_head_alone_is_a_frame() -> None:
    frames = frames_of(with_bits(Genotype((), Head((8,))), 8), TINY)
    assert frames.call().shape == (16, 3)
