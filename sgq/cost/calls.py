"""A genotype as the kernel calls that run it, with the values between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from quantizers.spec import FLOAT_BITS
from sgq.cost.stage_calls import Setting, StageCalls, stage_calls
from sgq.cost.work import Call, Runtime, Value
from sgq.cost.workload import Workload
from sgq.errors import ModelError
from sgq.models.genotype import Aggregate, EdgeMlp, Genotype, Sample
from sgq.models.genotype_rules import INPUT, last_features, walk_of

HEAD = -2
"""The position of the head."""


class Piece(NamedTuple):
    """A position's calls where they stand.

    `reads` are the positions that made the features it reads (-1: the data), `sampled_at` the one that
    sampled the neighbours which are there (None: the data's own, or none).
    """

    position: int
    setting: Setting
    reads: tuple[int, ...]
    sampled_at: int | None

    @property
    def calls(self) -> StageCalls:
        """Its calls; raise ModelError, with the position, for one that has no price."""
        try:
            return stage_calls(self.setting)
        except ModelError as error:
            raise ModelError(f"position {self.position}: {error}") from None


@dataclass(frozen=True)
class Calls:
    """All calls in order, and their values; value 0 is the input, `output` the logits.

    `positions` are those that the calls belong to.
    """

    calls: tuple[Call, ...]
    positions: tuple[int, ...]
    values: tuple[Value, ...]
    output: int
    runtime: Runtime


def pieces_of(genotype: Genotype, workload: Workload) -> tuple[Piece, ...]:
    """Return what runs a genotype, position by position; raise ModelError for one that cannot run."""
    stages, kept, quantized = walk_of(genotype, workload.features, has_edges=workload.has_edges)
    runtime: Runtime = "integer" if quantized else "float"
    rows, clouds = workload.rows, workload.batch
    values = {INPUT: Value(rows, workload.features, kept.get(INPUT, FLOAT_BITS))}
    edges = Value(rows, 0, edges=workload.edges * clouds) if workload.has_edges else None
    sampled_at: int | None = None
    pieces = []
    for stage in stages:
        if stage.idle:
            continue
        operation = stage.operation
        if stage.added is not None:
            reads: tuple[int, ...] = (stage.read.made_by, stage.added.made_by)
        else:
            reads = tuple([one.made_by for one in stage.joined]) or (stage.read.made_by,)
        features = tuple([values[number] for number in reads])
        if isinstance(operation, Sample):
            if operation.k > workload.nodes and not workload.has_edges:
                raise ModelError(
                    f'"{genotype.name}" cannot run: position {stage.position}: expected clouds of at least '
                    f"k = {operation.k} points (got {workload.nodes})"
                )
            sampled_at = stage.position
            made = edges = Value(rows, 0, edges=rows * operation.k)
            setting = Setting(runtime, operation, features, made, edges, False, clouds)
        else:
            position, channels, on = stage.made
            made = Value(rows if on == "nodes" else clouds, channels, kept.get(position, FLOAT_BITS))
            values[position] = made
            if isinstance(operation, Aggregate | EdgeMlp):
                setting = Setting(runtime, operation, features, made, edges, stage.k is None, clouds)
            else:
                setting = Setting(runtime, operation, features, made, None, False, clouds)
        pieces.append(Piece(stage.position, setting, reads, sampled_at))
    last = last_features(stages, workload.features).made_by
    logits = Value(values[last].rows, workload.classes)
    head = Setting(runtime, genotype.head, (values[last],), logits, None, False, clouds)
    pieces.append(Piece(HEAD, head, (last,), None))
    return tuple(pieces)


def calls_of(genotype: Genotype, workload: Workload) -> Calls:
    """Return the calls that run a genotype; raise ModelError for one that cannot run on the workload."""
    pieces = pieces_of(genotype, workload)
    runtime = pieces[-1].setting.runtime
    values = [pieces[0].setting.reads[0]]
    numbers = {INPUT: 0}
    sampled: dict[int | None, int] = {}
    if workload.has_edges:
        sampled[None] = len(values)
        values.append(Value(workload.rows, 0, edges=workload.edges * workload.batch))
    calls, positions = [], []
    for piece in pieces:
        setting, written = piece.setting, piece.calls
        there = [numbers[number] for number in piece.reads]
        if written.given > len(there):
            there.append(sampled[piece.sampled_at])
        for value in written.values[written.given :]:
            there.append(len(values))
            values.append(value)
        for call in written.calls:
            calls.append(Call(call.work, tuple(there[number] for number in call.reads), there[call.writes]))
            positions.append(piece.position)
        made = there[written.calls[-1].writes]
        if setting.samples:
            sampled[piece.sampled_at] = made
        else:
            numbers[piece.position] = made
    return Calls(tuple(calls), tuple(positions), tuple(values), numbers[HEAD], runtime)
