"""Modelled against measured peaks, for the suite `cost`: architectures, and models outside of their space."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from benches.cost_results import PeakRow, peak_row
from quantizers.spec import FLOAT_BITS

if TYPE_CHECKING:
    from torch import nn

    from sgq.cost.architectures import MeasuredArchitecture
    from sgq.cost.pricing import Pricer

MODELS = ("gcn", "gat", "gin", "sage")
HIDDEN = 64
NARROW_BITS = 8


def architecture_peaks(name: str, pricer: Pricer, testing: Sequence[MeasuredArchitecture]) -> PeakRow:
    """Return the peaks of random architectures, as a pricer has them."""
    from sgq.cost.workload import POINTS

    prices = pricer.prices([one.genotype for one in testing], POINTS)
    return peak_row(name, [price.peak_bytes for price in prices], [one.peak_bytes for one in testing])


def hgnas_peaks(testing: Sequence[MeasuredArchitecture]) -> Iterator[PeakRow]:
    """Yield the peaks of HGNAS's closed form, of architectures in fp32 alone, as it knows no other bits."""
    from sgq.cost.peak_memory import hgnas_peak_bytes
    from sgq.cost.workload import POINTS
    from sgq.models.genotype_rules import is_quantized

    whole = [one for one in testing if not is_quantized(one.genotype, POINTS.features)]
    if whole:
        modelled = [hgnas_peak_bytes(one.genotype, POINTS) for one in whole]
        yield peak_row("HGNAS's closed form, in fp32", modelled, [one.peak_bytes for one in whole])


def dgcnn_peaks() -> Iterator[PeakRow]:
    """Yield the peaks of DGCNN in fp32 and at 8 bits."""
    import torch

    from sgq.cost.architectures import frames_of
    from sgq.cost.peak_memory import peak_memory
    from sgq.cost.workload import POINTS
    from sgq.models.dgcnn import dgcnn
    from sgq.models.genotype_sampling import with_bits
    from sgq.runtime.measuring import measure_peak, stored_bytes

    for bits in (FLOAT_BITS, NARROW_BITS):
        genotype = with_bits(dgcnn(), bits)
        frames = frames_of(genotype, POINTS)
        for _ in range(2):  # a lowered model is recorded at its first frame and bound at its second
            frames.call()
        measured = measure_peak(frames.call, resident_bytes=stored_bytes(frames.resident())).peak_bytes
        modelled = peak_memory(genotype, POINTS, threads=torch.get_num_threads()).peak_bytes
        yield peak_row(f"dgcnn, {bits} bits", [modelled], [measured])


def model_peaks(*, quick: bool) -> Iterator[PeakRow]:
    """Yield the peaks of node classifiers, in fp32 on `edge_index` and CSR, and on integers.

    `quick` takes embedded data in place of Cora.
    """
    from benches.model_cases import ModelCase, calibrated, subject
    from sgq.cost.model_pricing import trace_of_model
    from sgq.cost.traced_operators import trace_operators
    from sgq.runtime.baselines import float_baselines
    from sgq.runtime.comparison import integer_peak
    from sgq.runtime.lowering.program import lower
    from sgq.runtime.measuring import measure_peak

    for name in MODELS:
        model, task = subject(ModelCase(name, "cora", HIDDEN), {}, device="cpu", quick=quick)
        data = task.sample()
        for baseline in float_baselines(model, data, forms=("edge_index", "csr")).found:
            baseline()  # normalised edges are kept from the first call on
            own = _parameters(baseline.model)
            arguments = baseline.arguments
            trace = trace_operators(
                lambda at=baseline: at.model(**at.arguments), unknown=[*own, arguments["x"]], kept=own
            )
            measured = measure_peak(baseline, resident_bytes=baseline.resident_bytes).peak_bytes
            yield peak_row(f"{name}, {baseline.name}", [trace.peak_bytes], [measured])
        quantized, bucketed = calibrated(model, task, "int8")
        modelled = trace_of_model(quantized, bucketed.sample()).peak_bytes
        measured = integer_peak(lower(quantized, bucketed.sample())).peak_bytes
        yield peak_row(f"{name}, 8 bits", [modelled], [measured])


def _parameters(model: nn.Module) -> list[Any]:
    return [*model.parameters(), *model.buffers()]
