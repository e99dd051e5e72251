"""The measured rows of one model: its float baselines and its integer form, timed in the same rounds.

Both sides run on the same data, prepared before: ours has packed features, adjacency and normalisation, the
baselines theirs (see `sgq.runtime.baselines`). The checkpoints' sizes are those of files that were written.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from sgq.pipeline.checkpoint import save
from sgq.report import RuntimeRow
from sgq.runtime.baselines import FloatBaselines, Form, float_baselines
from sgq.runtime.measuring import Latency, PeakMemory, interleaved_latency, measure_peak

if TYPE_CHECKING:
    from sgq.recipe.plan import Plan
    from sgq.runtime.lowering.model import LoweredModel

INTEGER = "integer"
"""The name of the integer runtime's row."""
REPEATS, WARMUP = 9, 3


@dataclass(frozen=True)
class RuntimeComparison:
    """Measured rows, the integer one last, and what a reader has to know of them."""

    rows: tuple[RuntimeRow, ...]
    notes: tuple[str, ...]


def compare(
    model: nn.Module,
    lowered: LoweredModel,
    data: Any,
    *,
    file_bytes: int,
    forms: Sequence[Form] = ("edge_index", "csr"),
    repeats: int = REPEATS,
    warmup: int = WARMUP,
) -> RuntimeComparison:
    """Measure a float model and what was lowered from it on a PyG `Data` or `Batch`, on its device.

    `file_bytes` is the size of the quantized model's checkpoint. Notes name the layers that stay simulated
    and the baselines that cannot be had, each with its reason. Raises ModelError where no baseline runs.
    """
    baselines = float_baselines(model, data, forms=forms)
    device = str(data.x.device) if data.x is not None else "cpu"
    calls = {baseline.name: baseline for baseline in baselines.found}
    latencies = interleaved_latency(
        {**calls, INTEGER: lowered}, repeats=repeats, warmup=warmup, device=device
    )
    float_file_bytes = written_bytes(model)
    rows = [
        _row(
            name,
            latencies,
            measure_peak(
                call, resident_bytes=call.resident_bytes, feature_bytes=call.feature_bytes, device=device
            ),
            file_bytes=float_file_bytes,
        )
        for name, call in calls.items()
    ]
    rows.append(_row(INTEGER, latencies, integer_peak(lowered, device=device), file_bytes=file_bytes))
    return RuntimeComparison(tuple(rows), (*simulated_notes(lowered), *_absent_notes(baselines)))


def integer_peak(lowered: LoweredModel, *, device: str = "cpu") -> PeakMemory:
    """Return the peak of one call of a lowered model on its own prepared data, as all calls but two are.

    The first one records, the second one makes the arena.
    """
    inputs = lowered.inputs
    assert inputs is not None
    for _ in range(2):
        lowered()
    return measure_peak(
        lowered,
        resident_bytes=lowered.nbytes + inputs.nbytes,
        feature_bytes=inputs.feature_nbytes,
        device=device,
    )


def simulated_notes(lowered: LoweredModel) -> tuple[str, ...]:
    """Return a sentence for each layer that lowering left simulated, with the reason."""
    return tuple(
        f"{layer.name or 'the model'} ({layer.kind}) stays simulated in the integer runtime: {layer.reason}"
        for layer in lowered.report.simulated
    )


def written_bytes(model: nn.Module, plan: Plan | None = None, *, recipe_text: str | None = None) -> int:
    """Return the size of a model's checkpoint, from a file that is written and removed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        return save(path, model, plan, recipe_text=recipe_text).stat().st_size


def _absent_notes(baselines: FloatBaselines) -> Iterable[str]:
    return map(str, baselines.absent)


def _row(name: str, latencies: dict[str, Latency], peak: PeakMemory, *, file_bytes: int) -> RuntimeRow:
    latency = latencies[name]
    return RuntimeRow(
        name=name,
        file_bytes=file_bytes,
        peak_bytes=peak.peak_bytes,
        peak_without_features_bytes=peak.without_features_bytes,
        median_s=latency.median_s,
        lower_quartile_s=latency.lower_quartile_s,
        upper_quartile_s=latency.upper_quartile_s,
        times_integer=latency.ratio_to(latencies[INTEGER]),
        repeats=latency.repeats,
        threads=latency.threads,
        device=latency.device,
    )
