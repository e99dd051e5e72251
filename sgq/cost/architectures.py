"""Architectures measured on this machine: what a predictor learns from and is judged by.

Latency is that of a frame: features in, logits out, on integer kernels for a genotype with bits and on torch
for one in fp32. Weights are random, as neither latency nor memory depends on them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sgq.cost.measurements import Measurement, MeasurementStore
from sgq.cost.pace import Pace
from sgq.cost.timing import Timing, TimingSettings, time_calls
from sgq.cost.workload import Workload
from sgq.models.genotype import Genotype
from sgq.models.genotype_file import genotype_line, parse_genotype
from sgq.models.genotype_recipe import recipe_of
from sgq.models.genotype_rules import is_quantized
from sgq.models.genotype_sampling import GenotypeSpace, random_genotype
from sgq.models.searched import build_genotype
from sgq.runtime.measuring import measure_peak, stored_bytes

SIZES = ("nodes", "features", "batch", "classes")
COLUMNS = ("genotype", "part", *SIZES, "peak_bytes")
TOGETHER = 48
"""How many architectures are timed in turn with one another: their rounds are spread over some seconds, in
which the machine is fast and slow."""
PROBE_NODES = 64
"""Points of the cloud that ranges are found on: how many there are changes nothing about the program."""
SETTINGS = TimingSettings(rounds=15, warmup=2, attempts=2, least_sample_s=2e-3)
LEARNING = replace(SETTINGS, attempts=1)
"""Of what a predictor learns from: most noise is between one pass and the next (7 % beside 2 % within one),
and more samples in the same pass do not even that out."""
HALFWAY_S = 2e-3
"""See `time_calls`: a frame is many small calls, and goes by the pace of one thread for longer than those."""


@dataclass(frozen=True)
class MeasuredArchitecture:
    """A genotype, its latency and its measured peak."""

    genotype: Genotype
    workload: Workload
    timing: Timing
    peak_bytes: int
    part: str

    @property
    def latency_s(self) -> float:
        """The median latency."""
        return self.timing.median_s


@dataclass(frozen=True)
class Frames:
    """A model that takes frames: `call` runs one, `resident` are the tensors that stay."""

    call: Callable[[], Tensor]
    resident: Callable[[], Sequence[Tensor]]


def frames_of(genotype: Genotype, workload: Workload) -> Frames:
    """Return a genotype as it is measured, with random weights, on random clouds."""
    torch.manual_seed(0)
    model = build_genotype(genotype, in_channels=workload.features, out_channels=workload.classes).eval()
    x = torch.randn(workload.rows, workload.features)
    batch = torch.arange(workload.batch).repeat_interleave(workload.nodes)
    if not is_quantized(genotype, workload.features):
        arguments = (x, None, batch if workload.batch > 1 else None, workload.batch)

        def run() -> Tensor:
            with torch.inference_mode():
                logits: Tensor = model(*arguments)
                return logits

        return Frames(run, lambda: [x, *model.parameters(), *model.buffers()])
    lowered = _lowered(genotype, model, workload)
    inputs = lowered.prepare(_clouds(x, workload))
    return Frames(lambda: lowered(inputs), lambda: [*lowered.tensors(), *inputs.tensors()])


def _lowered(genotype: Genotype, model: Any, workload: Workload) -> Any:
    from torch_geometric.data import Batch

    from sgq.pipeline.planning import plan_for
    from sgq.pipeline.tasks import GraphTask
    from sgq.pipeline.wrapping import apply_plan
    from sgq.runtime.lowering.program import lower

    nodes = max([PROBE_NODES, *(getattr(one, "k", 1) for one in genotype.positions)])
    small = Workload(nodes, 0, workload.features, 1, workload.classes)
    cloud = _clouds(torch.randn(nodes, workload.features), small)
    task = GraphTask([cloud], {"train": torch.tensor([0])})
    plan = plan_for(model, recipe_of(genotype, in_channels=workload.features), task)
    wrapped, _ = apply_plan(model, plan, task)
    return lower(wrapped.eval(), Batch.from_data_list([cloud]))


def _clouds(x: Tensor, workload: Workload) -> Any:
    from torch_geometric.data import Batch, Data

    edges = torch.empty(2, 0, dtype=torch.int64)
    parts = x.view(workload.batch, workload.nodes, -1)
    clouds = [Data(x=part, edge_index=edges, y=torch.tensor([0])) for part in parts]
    return clouds[0] if workload.batch == 1 else Batch.from_data_list(clouds)


def measure_architectures(
    genotypes: Sequence[Genotype],
    workload: Workload,
    *,
    settings: TimingSettings = SETTINGS,
    pace: Pace | None = None,
) -> list[tuple[Timing, int]]:
    """Return latency and peak bytes of genotypes, whose frames are timed in turn with one another.

    With a `pace`, latency is that at the pace.
    """
    frames = [frames_of(genotype, workload) for genotype in genotypes]
    for one in frames:  # a lowered model is recorded at its first frame and bound at its second
        one.call()
        one.call()
    calls = {str(place): one.call for place, one in enumerate(frames)}
    timings = time_calls(calls, settings, pace=pace, halfway_s=HALFWAY_S)
    peaks = [measure_peak(one.call, resident_bytes=stored_bytes(one.resident())).peak_bytes for one in frames]
    return [(timings[str(place)], peak) for place, peak in enumerate(peaks)]


def measure_random(
    path: str | Path,
    count: int,
    workload: Workload,
    *,
    part: str,
    seed: int,
    space: GenotypeSpace | None = None,
    settings: TimingSettings = LEARNING,
    pace: Pace | None = None,
    on_progress: Callable[[int], None] = lambda done: None,
) -> list[MeasuredArchitecture]:
    """Measure the random genotypes of a seed until a file has so many of a part; see `measure_listed`."""
    wanted = list(drawn(count, workload, seed=seed, space=space or GenotypeSpace()))
    return measure_listed(
        path, wanted, workload, part=part, settings=settings, pace=pace, on_progress=on_progress
    )


def measure_listed(
    path: str | Path,
    genotypes: Sequence[Genotype],
    workload: Workload,
    *,
    part: str,
    together: int = TOGETHER,
    settings: TimingSettings = SETTINGS,
    pace: Pace | None = None,
    on_progress: Callable[[int], None] = lambda done: None,
) -> list[MeasuredArchitecture]:
    """Measure different genotypes, at a pace, into a part of a file; return what it has of them, in order.

    Those that the file has, of the part and on the workload, are not measured again.
    """
    wanted = {genotype_line(one): one for one in genotypes}
    sizes = _sizes(workload)

    def of_these(row: Measurement) -> bool:
        return row.key["part"] == part and tuple(row.key[name] for name in SIZES) == sizes

    with MeasurementStore(path, COLUMNS) as store:
        known = {row.key["genotype"] for row in store.rows if of_these(row)}
        missing = [one for line, one in wanted.items() if line not in known]
        done = len(genotypes) - len(missing)
        on_progress(done)
        for first in range(0, len(missing), together):
            here = missing[first : first + together]
            for genotype, (timing, peak) in zip(
                here, measure_architectures(here, workload, settings=settings, pace=pace), strict=True
            ):
                store.append(_key(genotype, part, workload, peak), timing)
            done += len(here)
            on_progress(done)
        rows = {row.key["genotype"]: row for row in store.rows if of_these(row)}
    return [_of_row(rows[genotype_line(one)]) for one in genotypes]


def drawn(count: int, workload: Workload, *, seed: int, space: GenotypeSpace) -> Iterator[Genotype]:
    """Yield so many different random genotypes, those of a seed."""
    generator = random.Random(seed)
    seen: set[str] = set()
    while len(seen) < count:
        genotype = random_genotype(space, generator, in_channels=workload.features)
        text = genotype_line(genotype)
        if text not in seen:
            seen.add(text)
            yield genotype


def _key(genotype: Genotype, part: str, workload: Workload, peak: int) -> dict[str, str | int]:
    return dict(zip(COLUMNS, (genotype_line(genotype), part, *_sizes(workload), peak), strict=True))


def _sizes(workload: Workload) -> tuple[int, ...]:
    return workload.nodes, workload.features, workload.batch, workload.classes


def _of_row(row: Measurement) -> MeasuredArchitecture:
    key = row.key
    nodes, features, batch, classes, peak = (int(key[name]) for name in COLUMNS[2:])
    return MeasuredArchitecture(
        genotype=parse_genotype(str(key["genotype"])),
        workload=Workload(nodes, 0, features, batch, classes),
        timing=row.timing,
        peak_bytes=peak,
        part=str(key["part"]),
    )
