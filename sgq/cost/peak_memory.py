"""Peak memory of a genotype: HGNAS's closed form, and a walk over the values that are alive."""

from __future__ import annotations

from dataclasses import dataclass

from sgq.cost.calls import Call, Calls, calls_of
from sgq.cost.footprint import INDEX_BYTES, footprint_of, padding_bytes, value_bytes
from sgq.cost.workload import Workload
from sgq.models.genotype import Aggregate, Combine, EdgeMlp, Genotype, Message, Sample
from sgq.models.genotype_rules import stages_of
from sgq.runtime.csr import COLUMN_PADDING

U_INDEX, U_VALUE = 8, 4
"""U_index and U_k of HGNAS: int64 and fp32."""
MULTIPLIERS: dict[Message, int] = {"source_relative": 2, "target_relative": 2, "full": 3}
"""By how much concatenated messages are wider than features (HGNAS)."""


@dataclass(frozen=True)
class PeakMemory:
    """Modelled bytes at the worst moment: those resident all along, and the call at which it is."""

    peak_bytes: int
    resident_bytes: int
    call: Call | None


def peak_memory(genotype: Genotype, workload: Workload, *, threads: int = 1) -> PeakMemory:
    """Return the modelled peak of a genotype, on the runtime that it has (fp32: torch; bits: integers)."""
    return peak_of(calls_of(genotype, workload), threads=threads)


def peak_of(calls: Calls, *, threads: int) -> PeakMemory:
    """Return the peak of calls: at each one what is alive, what it makes, and what it needs on top."""
    integer = calls.runtime == "integer"
    sizes = [value_bytes(value, integer=integer) for value in calls.values]
    needs = [footprint_of(call.work, calls.values[call.writes], threads=threads) for call in calls.calls]
    # Random neighbours are drawn once and kept, as a weight is.
    made = {call.writes for call in calls.calls if not (integer and call.work.kind == "random")}
    kept = {call.writes for call in calls.calls} - made
    resident = sum(size for number, size in enumerate(sizes) if number not in made | kept)
    resident += sum(one.weight_bytes for one in needs)
    if integer:
        # The rows of each cloud, which pooling reads as edges.
        rows, clouds = calls.values[0].rows, calls.calls[0].work.clouds
        resident += INDEX_BYTES * (clouds + 1 + rows + COLUMN_PADDING)
        resident += padding_bytes(calls.values[0]) // 2 - sizes[0] if padding_bytes(calls.values[0]) else 0
    last = {number: at for at, call in enumerate(calls.calls) for number in call.reads}
    alive = highest = 0
    worst: Call | None = None
    for at, (call, need) in enumerate(zip(calls.calls, needs, strict=True)):
        alive += sizes[call.writes] if call.writes in made else 0
        on_top = need.scratch_bytes
        if integer and call.work.kind != "assemble":
            # The input's rows were padded beforehand.
            on_top += sum(padding_bytes(calls.values[number]) for number in call.reads if number)
        if alive + on_top > highest:
            highest, worst = alive + on_top, call
        alive -= sum(sizes[number] for number in set(call.reads) & made if last[number] == at)
    return PeakMemory(resident + highest, resident, worst)


def hgnas_peak_bytes(genotype: Genotype, workload: Workload) -> int:
    """Return HGNAS's estimate: parameters and input, then the largest running total (arXiv 2408.12840, 3.5).

    Sampling takes 2 indices an edge, aggregation 2 messages an edge and a row a node, combination a row a
    node; all in fp32 and int64, whatever the bits.
    """
    stages = stages_of(genotype, workload.features, has_edges=workload.has_edges)
    rows, edges = workload.rows, workload.edges * workload.batch
    parameters = 0
    total = rows * workload.features * U_VALUE
    peak = total
    graph = 2 * edges * U_INDEX
    channels = workload.features
    held = rows * channels * U_VALUE + graph
    for stage in stages:
        operation = stage.operation
        if isinstance(operation, Sample):
            held -= graph
            edges = rows * operation.k
            graph = 2 * edges * U_INDEX
            held += graph
            peak = max(peak, held)
        elif isinstance(operation, (Aggregate, EdgeMlp)):
            wide = MULTIPLIERS.get(operation.message, 1) if isinstance(operation, Aggregate) else 2
            messages = 2 * edges * stage.read.channels * wide * U_VALUE
            made = rows * stage.made.channels * U_VALUE
            peak = max(peak, held + messages + made)
            held += made - rows * stage.read.channels * U_VALUE
        elif isinstance(operation, Combine):
            count = rows if stage.made.rows == "nodes" else workload.batch
            made = count * stage.made.channels * U_VALUE
            peak = max(peak, held + made)
            held += made - count * stage.read.channels * U_VALUE
            parameters += stage.read.channels * stage.made.channels * U_VALUE
    return parameters + peak
