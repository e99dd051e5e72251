"""Peak memory of a genotype: HGNAS's closed form, and a walk over the values that are alive."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from sgq.cost.calls import Call, Calls, calls_of
from sgq.cost.footprint import INDEX_BYTES, footprint_of, padding_bytes, value_bytes
from sgq.cost.workload import Workload
from sgq.models.genotype import Aggregate, Combine, EdgeMlp, Genotype, Message, Sample
from sgq.models.genotype_rules import last_features, stages_of
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
    """Return the peak of calls: at each one what is alive, what it makes, and what it needs on top.

    On integers the arena is as large as all that takes at the worst call; what torch makes beside it comes on
    top of that, at whichever call it does. How well places in the arena fit is not modelled: it is exact in
    most programs, and rarely a few per cent larger.
    """
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
        resident += max(0, padding_bytes(calls.values[0]) - sizes[0])
    gone = _last_reads(calls)
    alive = highest = beside = 0
    worst: Call | None = None
    for at, (call, need) in enumerate(zip(calls.calls, needs, strict=True)):
        alive += sizes[call.writes] if call.writes in made else 0
        on_top = need.scratch_bytes
        if integer and call.work.kind == "edge_network":
            on_top, beside = 0, max(beside, on_top)
        elif integer:
            copies = _copies(call, calls)
            on_top += sum(copies)
            beside = max(beside, *copies, 0)
        if alive + on_top > highest:
            highest, worst = alive + on_top, call
        alive -= sum(sizes[number] for number in gone[at] if number in made)
    return PeakMemory(resident + highest + beside, resident, worst)


def _copies(call: Call, calls: Calls) -> list[int]:
    """Return the bytes of padded copies that an integer kernel reads; the input's rows are padded before."""
    if call.work.kind == "assemble":
        return []  # it reads fp32 rows as they are
    return [padding_bytes(calls.values[number]) for number in call.reads if number]


def _last_reads(calls: Calls) -> list[list[int]]:
    """Return the values that are needed no more after each call.

    Integer programs let go of neighbours as of any value; on torch they are kept until the next are sampled.
    """
    last = {number: at for at, call in enumerate(calls.calls) for number in call.reads}
    if calls.runtime == "float":
        end = len(calls.calls) - 1
        for at, call in reversed(list(enumerate(calls.calls))):
            if call.work.kind in ("knn", "random"):
                last[call.writes], end = end, at - 1
    gone: list[list[int]] = [[] for _ in calls.calls]
    for number, at in last.items():
        gone[at].append(number)
    return gone


def hgnas_peak_bytes(genotype: Genotype, workload: Workload) -> int:
    """Return HGNAS's estimate: parameters and the largest running total (arXiv 2408.12840, 3.5).

    It begins with the input. Sampling takes 2 indices an edge, aggregation 2 messages an edge and a row a
    node, combination a row a node; all in fp32 and int64, whatever the bits.
    """
    stages = stages_of(genotype, workload.features, has_edges=workload.has_edges)
    rows, edges = workload.rows, workload.edges * workload.batch
    graph = 2 * edges * U_INDEX
    now = rows * workload.features * U_VALUE
    peak = now + graph
    head = (last_features(stages, workload.features).channels, *genotype.head.widths, workload.classes)
    weights = sum(inputs * outputs for inputs, outputs in pairwise(head))
    for stage in stages:
        operation, channels = stage.operation, stage.read.channels
        if isinstance(operation, Sample):
            edges = rows * operation.k
            graph = 2 * edges * U_INDEX
            peak = max(peak, now + graph)
        if stage.made == stage.read and not isinstance(operation, Aggregate):
            continue
        messages = 0
        if isinstance(operation, (Aggregate, EdgeMlp)):
            wide = MULTIPLIERS.get(operation.message, 1) if isinstance(operation, Aggregate) else 2
            messages = 2 * edges * channels * wide * U_VALUE
        if isinstance(operation, (Combine, EdgeMlp)):
            weights += channels * operation.width * (2 if isinstance(operation, EdgeMlp) else 1)
        made = (rows if stage.made.rows == "nodes" else workload.batch) * stage.made.channels * U_VALUE
        peak = max(peak, graph + now + messages + made)
        now = made
    return weights * U_VALUE + peak
