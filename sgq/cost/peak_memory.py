"""Peak memory of a genotype: HGNAS's closed form, and a walk over the values that are alive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from sgq.cost.calls import Piece, pieces_of
from sgq.cost.footprint import INDEX_BYTES, footprint_of, padding_bytes, value_bytes
from sgq.cost.stage_calls import Setting, stage_calls
from sgq.cost.work import Value
from sgq.cost.workload import Workload
from sgq.models.genotype import Aggregate, Combine, EdgeMlp, Genotype, Message, Sample
from sgq.models.genotype_rules import INPUT, last_features, stages_of
from sgq.runtime.csr import COLUMN_PADDING

U_INDEX, U_VALUE = 8, 4
"""U_index and U_k of HGNAS: int64 and fp32."""
MULTIPLIERS: dict[Message, int] = {"source_relative": 2, "target_relative": 2, "full": 3}
"""By how much concatenated messages are wider than features (HGNAS)."""


@dataclass(frozen=True)
class PeakMemory:
    """Modelled bytes at the worst moment: those resident all along, and the position at which it is."""

    peak_bytes: int
    resident_bytes: int
    position: int | None


class StageMemory(NamedTuple):
    """What the calls of a position hold: weights, and the most on top of what was alive before them.

    `change_bytes` is by how much more is alive after them. `beside_bytes` is what torch makes beside the
    arena of integer kernels.
    """

    weight_bytes: int
    highest_bytes: int
    change_bytes: int
    beside_bytes: int


INPUT_STAYS, STAYS, ENDS = 0, 1, 2
"""What becomes of a value that a position is given: the genotype's input stays, one that others read later
or nobody made stays, any other one ends with the last call that reads it."""


def peak_memory(genotype: Genotype, workload: Workload, *, threads: int = 1) -> PeakMemory:
    """Return the modelled peak of a genotype, on the runtime that it has (fp32: torch; bits: integers)."""
    pieces = pieces_of(genotype, workload)
    lives = lives_of(pieces, [piece.calls.asked for piece in pieces])
    held = [stage_memory(piece.setting, own, threads) for piece, own in zip(pieces, lives, strict=True)]
    return peak_of(pieces, held, workload)


def peak_of(pieces: Sequence[Piece], held: Sequence[StageMemory], workload: Workload) -> PeakMemory:
    """Return the peak of positions, one after the other: the most that is alive on the way.

    On integers the arena is as large as all that takes at the worst call; what torch makes beside it comes on
    top of that, at whichever call it does: padded copies, and the logits that are given back. How well places
    in the arena fit is not modelled: it is exact in most programs, and rarely a few per cent larger.
    """
    integer = pieces[0].setting.runtime == "integer"
    resident = _resident_bytes(pieces[0].setting.reads[0], workload, integer=integer)
    alive = highest = neighbours = 0
    beside = value_bytes(pieces[-1].setting.made, integer=True) if integer else 0
    worst: int | None = None
    for piece, (weight_bytes, highest_bytes, change_bytes, beside_bytes) in zip(pieces, held, strict=True):
        if not integer and piece.setting.samples:
            # On torch neighbours are kept until the next are sampled.
            alive -= neighbours
            neighbours = change_bytes
        resident += weight_bytes
        if beside_bytes > beside:
            beside = beside_bytes
        if alive + highest_bytes > highest:
            highest, worst = alive + highest_bytes, piece.position
        alive += change_bytes
    return PeakMemory(resident + highest + beside, resident, worst)


def _resident_bytes(given: Value, workload: Workload, *, integer: bool) -> int:
    """Return the bytes of the data: features, edges, and the rows of each cloud, which pooling reads so."""
    resident = value_bytes(given, integer=integer)
    if workload.has_edges:
        edges = Value(workload.rows, 0, edges=workload.edges * workload.batch)
        resident += value_bytes(edges, integer=integer)
    if integer:
        resident += INDEX_BYTES * (workload.batch + 1 + workload.rows + COLUMN_PADDING)
        resident += max(0, padding_bytes(given) - value_bytes(given, integer=True))
    return resident


def lives_of(pieces: Sequence[Piece], asked: Sequence[frozenset[int]]) -> list[tuple[int, ...]]:
    """Return what becomes of the values that each position is given, in their order.

    `asked` are those of them that its calls read. Integer programs let go of neighbours as of any value,
    but for random ones, which are drawn once.
    """
    integer = pieces[0].setting.runtime == "integer"
    # A position makes features or neighbours, so that it names a value; the data is never let go of.
    later: set[int | None] = {INPUT, None}
    if integer:
        later.update([piece.sampled_at for piece in pieces if piece.setting.draws])
    lives = []
    for (_, setting, reads, sampled_at), own in zip(reversed(pieces), reversed(asked), strict=True):
        found = []
        for place, number in enumerate(reads):
            if number not in later and place in own:
                later.add(number)
                found.append(ENDS)
            else:
                found.append(INPUT_STAYS if number == INPUT else STAYS)
        if setting.edges is not None and not setting.samples:
            if integer and sampled_at not in later and len(found) in own:
                later.add(sampled_at)
                found.append(ENDS)
            else:
                found.append(STAYS)
        lives.append(tuple(found))
    lives.reverse()
    return lives


def stage_memory(setting: Setting, lives: tuple[int, ...], threads: int) -> StageMemory:
    """Return what the calls of a position hold; `lives` are those of the values given."""
    integer = setting.runtime == "integer"
    calls, values, given, _ = stage_calls(setting)
    last = {number: at for at, call in enumerate(calls) for number in call.reads}
    result = calls[-1].writes
    # Random neighbours on integers are drawn once and kept, as a weight is.
    kept = integer and setting.samples and calls[0].work.kind == "random"
    alive = highest = beside = weights = 0
    for at, call in enumerate(calls):
        need = footprint_of(call.work, values[call.writes], threads=threads)
        weights += need.weight_bytes
        alive += 0 if kept else value_bytes(values[call.writes], integer=integer)
        on_top = need.scratch_bytes
        if integer and call.work.kind != "assemble":  # that reads fp32 rows as they are
            # Padded copies that the kernels read; the input's rows are padded before.
            copies = [
                padding_bytes(values[number])
                for number in call.reads
                if number >= given or lives[number] != INPUT_STAYS
            ]
            on_top += sum(copies)
            beside = max(beside, *copies, 0)
        highest = max(highest, alive + on_top)
        for number in set(call.reads):
            if last[number] == at and number != result and (number >= given or lives[number] == ENDS):
                alive -= value_bytes(values[number], integer=integer)
    return StageMemory(weights, highest, alive, beside)


def hgnas_peak_bytes(genotype: Genotype, workload: Workload) -> int:
    """Return HGNAS's estimate: parameters and the largest running total (arXiv 2408.12840, 3.5).

    It begins with the input. Sampling takes 2 indices an edge, aggregation 2 messages an edge and a row a
    node, combination a row a node; all in fp32 and int64, whatever the bits. So on random architectures in
    fp32 it is up to 29 times too high, counting messages of targets, which are never made here, and down to a
    seventh, without the distances of all pairs that knn makes.
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
