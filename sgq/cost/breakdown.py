"""An architecture's costs by position, modelled on a device and measured on this machine."""

from __future__ import annotations

from dataclasses import dataclass

from sgq.cost.calls import HEAD, Calls, calls_of
from sgq.cost.pace import Pace
from sgq.cost.peak_memory import peak_memory
from sgq.cost.pricing import Price, Pricer, packed_bytes
from sgq.cost.timing import Timing, TimingSettings, time_calls
from sgq.cost.work import Call
from sgq.cost.workload import Workload
from sgq.models.genotype import (
    Aggregate,
    Combine,
    Concat,
    Connect,
    EdgeMlp,
    Genotype,
    Operation,
    Pool,
    Sample,
)
from sgq.report.cost_rows import CostReport, CostRow, CostTotal

FLOAT_NAME = "fp32"


@dataclass(frozen=True)
class MeasuredCost:
    """What was measured: each kernel call alone, whole frames, and the peak of one.

    `at_pace` tells that seconds are those at a profile's pace.
    """

    calls: tuple[Timing, ...]
    frame: Timing
    peak_bytes: int
    at_pace: bool = False


def measured_cost(
    genotype: Genotype,
    workload: Workload,
    *,
    settings: TimingSettings | None = None,
    pace: Pace | None = None,
) -> MeasuredCost:
    """Return the measured costs of a genotype on this machine, on as many threads as torch is set to.

    With a `pace`, seconds are those at that pace.
    """
    from sgq.cost.architectures import SETTINGS, measure_architectures
    from sgq.cost.running import runnable

    settings = settings or SETTINGS
    calls = calls_of(genotype, workload).calls
    alone = time_calls({str(at): runnable(call.work) for at, call in enumerate(calls)}, settings, pace=pace)
    [(frame, peak)] = measure_architectures([genotype], workload, settings=settings, pace=pace)
    return MeasuredCost(tuple(alone[str(at)] for at in range(len(calls))), frame, peak, pace is not None)


def cost_report(
    genotype: Genotype,
    workload: Workload,
    *,
    pricer: Pricer | None = None,
    measured: MeasuredCost | None = None,
    threads: int = 1,
) -> CostReport:
    """Return what a genotype costs: priced where there is a pricer, with measured columns where given."""
    calls = calls_of(genotype, workload)
    price = None if pricer is None else pricer.prices([genotype], workload)[0]
    rows = tuple(
        _row(genotype, calls, [at for at, one in enumerate(calls.positions) if one == position],
             position, pricer, measured)
        for position in [*range(len(genotype.positions)), HEAD]
    )  # fmt: skip
    total = CostTotal(
        name=genotype.name,
        source=None if price is None else price.source,
        target=None if pricer is None else pricer.profile.name,
        flops=sum(call.work.flops for call in calls.calls),
        packed_bytes=packed_bytes(genotype, workload),
        modelled_peak_bytes=_peak_bytes(genotype, workload, price, threads),
        modelled_s=None if price is None else price.latency_s,
        energy_j=None if price is None else price.energy_j,
        measured_s=None if measured is None else measured.frame.median_s,
        lower_quartile_s=None if measured is None else measured.frame.lower_quartile_s,
        upper_quartile_s=None if measured is None else measured.frame.upper_quartile_s,
        measured_peak_bytes=None if measured is None else measured.peak_bytes,
    )
    where = f"{workload.nodes:,} nodes, batch {workload.batch}"
    how = "integer kernels" if calls.runtime == "integer" else FLOAT_NAME
    return CostReport(
        f"{genotype.name}: {where}, {how}", rows, total, tuple(_notes(workload, price, measured))
    )


def _peak_bytes(genotype: Genotype, workload: Workload, price: Price | None, threads: int) -> int:
    """Return the peak on the device that is priced on, or else on so many threads."""
    return price.peak_bytes if price else peak_memory(genotype, workload, threads=threads).peak_bytes


def _row(
    genotype: Genotype,
    calls: Calls,
    own: list[int],
    position: int,
    pricer: Pricer | None,
    measured: MeasuredCost | None,
) -> CostRow:
    parts: list[Call] = [calls.calls[at] for at in own]
    return CostRow(
        position="head" if position == HEAD else str(position),
        operation="linear layers" if position == HEAD else operation_text(genotype.positions[position]),
        channels_in=parts[0].work.inputs if parts else 0,
        channels_out=calls.values[parts[-1].writes].channels if parts else 0,
        bits=_bits_text(parts),
        flops=sum(part.work.flops for part in parts),
        bytes_moved=sum(part.work.bytes_moved for part in parts),
        modelled_s=None if pricer is None else sum(pricer.entry(part.work).seconds for part in parts),
        measured_s=None if measured is None else sum(measured.calls[at].median_s for at in own),
        noisy=measured is not None and any(measured.calls[at].noisy for at in own),
    )


def operation_text(operation: Operation) -> str:
    """Return an operation in a few words."""
    if isinstance(operation, Sample):
        return f"sample {operation.method} {operation.k}"
    if isinstance(operation, Aggregate):
        return f"aggregate {operation.reducer} {operation.message}"
    if isinstance(operation, Combine):
        return f"combine {operation.width} {operation.activation}"
    if isinstance(operation, EdgeMlp):
        return f"edge_mlp {operation.width} {operation.reducer}"
    if isinstance(operation, Connect):
        return f"connect {operation.connection}"
    if isinstance(operation, Concat):
        return f"concat {', '.join(map(str, operation.positions))}"
    return f"pool {', '.join(operation.reducers)}" if isinstance(operation, Pool) else operation.verb


def _bits_text(parts: list[Call]) -> str:
    """Return the bits that are read, of weights, and that are written: `8·4→8`."""
    if not parts:
        return ""
    first, last = parts[0].work, parts[-1].work
    read = f"{first.input_bits}" + (f"·{first.weight_bits}" if first.weight_values else "")
    return f"{read}→{last.output_bits}" if last.outputs else read


def _notes(workload: Workload, price: Price | None, measured: MeasuredCost | None) -> list[str]:
    notes = []
    if workload.has_edges:
        notes.append("a graph with edges of its own: what its edges take in memory is modelled roughly")
    if price is not None and price.extrapolated:
        notes.append("some sizes are outside of what the profile measured: their times are extrapolated")
    if measured is not None:
        notes.append("measured by position: its kernel calls, each timed alone; a frame is taken as a whole")
        if measured.at_pace:
            notes.append("measured at the profile's pace: divided by how much slower the machine is now")
        if any(timing.noisy for timing in (*measured.calls, measured.frame)):
            notes.append("* did not settle: other programs are running")
    return notes
