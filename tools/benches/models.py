"""Whole models: PyG in fp32, in every form of the edges that it takes, against the integer runtime.

All ways to run a model take turns in one run. Both sides run on data that were prepared before, but where a
row says that it prepares them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from benches.model_cases import CASES, HIDDEN, ModelCase, calibrated, subject

if TYPE_CHECKING:
    import argparse

    from sgq.pipeline.tasks import Task
    from sgq.runtime.baselines import FloatBaselines
    from sgq.runtime.measuring import Latency, PeakMemory

RECIPES = ("int8", "int4")
PREPARING = " with prepare"


@dataclass(frozen=True)
class ModelRow:
    """One way to run one model; `speedup` is the time of fp32 CSR (else `edge_index`) over this one's.

    `agreement` is the share of rows whose argmax is that of the fake-quantized model, of integer rows.
    """

    model: str
    data: str
    runs_as: str
    median_s: float
    lower_quartile_s: float
    upper_quartile_s: float
    speedup: float
    peak_bytes: int | None
    peak_without_features_bytes: int | None
    agreement: float | None
    repeats: int
    threads: int
    device: str


@dataclass(frozen=True)
class ModelResult:
    """The rows of one case, its ratios by name, and remarks."""

    rows: tuple[ModelRow, ...]
    ratios: dict[str, float]
    notes: tuple[str, ...]


def measure_models(given: argparse.Namespace, graphs: dict[str, Any]) -> Iterator[ModelResult]:
    """Yield the result of each case, in order; `graphs` are the large ones by name."""
    for case in CASES:
        if not (given.quick and case.hidden == max(HIDDEN)):
            yield _measure(case, given, graphs)


@dataclass
class _Ways:
    """The ways to run one model, and what is known of each before they are timed."""

    calls: dict[str, Callable[[], Any]]
    peaks: dict[str, PeakMemory]
    agreement: dict[str, float]
    notes: list[str]


def _measure(case: ModelCase, given: argparse.Namespace, graphs: dict[str, Any]) -> ModelResult:
    from sgq.runtime.baselines import float_baselines
    from sgq.runtime.measuring import interleaved_latency

    model, task = subject(case, graphs, device=given.device, quick=given.quick)
    floats = float_baselines(model, task.sample(), forms=case.forms)
    ways = _Ways({}, {}, {}, list(map(str, floats.absent)))
    _add_floats(ways, floats, given.device)
    for recipe in RECIPES:
        _add_integer(ways, case, model, task, recipe, given.device)
    latencies = interleaved_latency(
        ways.calls, repeats=given.repeats, warmup=given.warmup, device=given.device
    )
    base = latencies["fp32 csr" if "fp32 csr" in latencies else "fp32 edge_index"]
    rows = tuple(_row(case, name, latency, base, ways) for name, latency in latencies.items())
    ratios = _latency_ratios(case, latencies) | _memory_ratios(case, ways.peaks)
    return ModelResult(rows, ratios, tuple(f"{case.title}: {text}" for text in ways.notes))


def _add_floats(ways: _Ways, floats: FloatBaselines, device: str) -> None:
    """Add the baselines and, on an accelerator, the same ones compiled."""
    import torch

    from sgq.runtime.measuring import measure_peak

    for baseline in floats.found:
        ways.calls[baseline.name] = baseline
        ways.peaks[baseline.name] = measure_peak(
            baseline,
            resident_bytes=baseline.resident_bytes,
            feature_bytes=baseline.feature_bytes,
            device=device,
        )
    if torch.device(device).type == "cpu":
        return
    for baseline in floats.found:
        name = f"{baseline.name} compiled"
        compiled = replace(baseline, name=name, model=torch.compile(baseline.model, dynamic=False))
        try:
            compiled()
        except Exception as error:  # the compiler raises anything on sparse tensors
            first_line = (str(error).splitlines() or [""])[0]
            ways.notes.append(f"{name} is not measured: {type(error).__name__}: {first_line}")
        else:
            ways.calls[name] = compiled


def _add_integer(ways: _Ways, case: ModelCase, model: Any, task: Task, recipe: str, device: str) -> None:
    import sgq
    from sgq.runtime.comparison import integer_peak, simulated_notes

    simulated, bucketed = calibrated(model, task, recipe)
    lowered = sgq.lower(simulated, bucketed.sample())
    ways.agreement[recipe] = _agreement(simulated, bucketed, lowered)
    ways.peaks[recipe] = integer_peak(lowered, device=device)
    ways.calls[recipe] = lowered
    if case.prepare:
        ways.calls[recipe + PREPARING] = _preparing(lowered, bucketed.sample())
    ways.notes += [f"{recipe}: {text}" for text in simulated_notes(lowered)]


def _agreement(simulated: Any, task: Task, lowered: Any) -> float:
    import torch

    with torch.no_grad():
        wanted = task.forward(simulated, task.sample()).argmax(dim=-1)
    return float((lowered().argmax(dim=-1) == wanted).double().mean())


def _preparing(lowered: Any, data: Any) -> Callable[[], Any]:
    return lambda: lowered(lowered.prepare(data))


def _row(case: ModelCase, name: str, latency: Latency, base: Latency, ways: _Ways) -> ModelRow:
    peak = ways.peaks.get(name)
    return ModelRow(
        model=f"{case.model} {case.hidden}",
        data=case.data,
        runs_as=name,
        median_s=latency.median_s,
        lower_quartile_s=latency.lower_quartile_s,
        upper_quartile_s=latency.upper_quartile_s,
        speedup=base.ratio_to(latency),
        peak_bytes=None if peak is None else peak.peak_bytes,
        peak_without_features_bytes=None if peak is None else peak.without_features_bytes,
        agreement=ways.agreement.get(name),
        repeats=latency.repeats,
        threads=latency.threads,
        device=latency.device,
    )


def _latency_ratios(case: ModelCase, latencies: dict[str, Latency]) -> dict[str, float]:
    """Return each float path's time over each integer one's, by name: gcn_int8_h64_computers_vs_csr."""
    floats = [name for name in latencies if name.startswith("fp32")]
    return {
        f"{case.key(recipe)}{suffix.replace(' ', '_')}_vs_{_plain(name)}": latencies[name].ratio_to(
            latencies[recipe + suffix]
        )
        for recipe in RECIPES
        for suffix in ("", PREPARING)
        if recipe + suffix in latencies
        for name in floats
    }


def _memory_ratios(case: ModelCase, peaks: dict[str, PeakMemory]) -> dict[str, float]:
    """Return each float path's peak over each integer one's: gcn_int8_h256_cs_peak_vs_csr."""
    return {
        f"{case.key(recipe)}_peak_vs_{_plain(name)}": peaks[name].peak_bytes / peaks[recipe].peak_bytes
        for recipe in RECIPES
        for name in peaks
        if name.startswith("fp32")
    }


def _plain(name: str) -> str:
    return name.removeprefix("fp32 ").replace(" ", "_")
