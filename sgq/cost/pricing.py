"""One question, one answer: what a genotype costs on a device.

Latency and peak memory come from the learned predictor where the profile has one that was trained on such
architectures; else latency from its look-up table, else from a roofline, and peak memory from the walk over
what is alive. A price says where it comes from. Positions are priced once and remembered, as architectures
have most of theirs in common.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from quantizers.packing import BYTE_BITS
from sgq.cost.architecture_graph import NOTHING_RUNS, Row, idle_row
from sgq.cost.calls import HEAD, Piece, calls_of, pieces_of
from sgq.cost.energy import energy_j
from sgq.cost.footprint import value_bytes
from sgq.cost.lut import Entry, LookUpTable
from sgq.cost.peak_memory import lives_of, peak_of
from sgq.cost.profile import DeviceProfile
from sgq.cost.profile_file import load_profile
from sgq.cost.roofline import roofline_s
from sgq.cost.stage_price import Kin, StagePrice, StagePrices, packed_bytes_of
from sgq.cost.work import Work
from sgq.cost.workload import Workload
from sgq.errors import UsageError
from sgq.models.genotype import Genotype
from sgq.recipe.plan import Plan

if TYPE_CHECKING:
    from sgq.cost.predictor import Batch, Predictor
    from sgq.cost.predictor_file import TrainedOn

TOGETHER = 512
"""Architectures that the predictor is asked about at once: many more take memory and no less time each."""


@dataclass(frozen=True)
class Price:
    """What an architecture, a plan or a model costs on a device.

    `packed_bytes` are its parameters and every value between calls, once, at their bits; of a model priced on
    data (`price_of_model`) what stays in memory. `energy_j` is None where the profile has no active power.
    `source` says how latency was found, `extrapolated` that a size was outside of what was measured;
    everything here is modelled.
    """

    latency_s: float
    peak_bytes: int
    packed_bytes: int
    energy_j: float | None
    flops: int
    bytes_moved: float
    source: str
    extrapolated: bool = False


class Pricer:
    """Prices on one device; it reads the profile's tables once and remembers positions.

    `learned` False leaves the profile's predictor alone.
    """

    def __init__(self, profile: DeviceProfile, *, learned: bool = True) -> None:
        self.profile = profile
        self.threads = profile.threads or 1
        operations = profile.side_file("operations")
        self.table = None if operations is None else LookUpTable.read(operations)
        predictor = profile.side_file("predictor") if learned and self.table is not None else None
        self.predictor: Predictor | None = None
        self.trained_on: TrainedOn | None = None
        if predictor is not None:
            from sgq.cost.predictor_file import load_predictor

            self.predictor, self.trained_on = load_predictor(predictor)
        self._stages = StagePrices(self.entry, measured=self.table is not None, threads=self.threads)

    @classmethod
    def of(cls, target: str | Path) -> Pricer:
        """Return the pricer of a shipped data sheet by name, or of a profile by path."""
        return cls(load_profile(target))

    def prices(self, genotypes: Sequence[Genotype], workload: Workload) -> list[Price]:
        """Return the price of each genotype; raise ModelError for one that cannot run."""
        with _no_collection():
            return [
                price
                for first in range(0, len(genotypes), TOGETHER)
                for price in self._some_prices(genotypes[first : first + TOGETHER], workload)
            ]

    def inputs(self, genotypes: Sequence[Genotype], workload: Workload) -> Batch:
        """Return genotypes as a predictor reads them."""
        return self._read([self._walked(genotype, workload) for genotype in genotypes], workload)

    def entry(self, work: Work) -> Entry:
        """Return the seconds of one kernel call, and whether they are extrapolated."""
        if self.table is None:
            return Entry(roofline_s(work, self.profile))
        return self.table.entry(work)

    def _some_prices(self, genotypes: Sequence[Genotype], workload: Workload) -> Iterator[Price]:
        """Yield the prices of so many that the predictor is asked once; it is, of those that it knows."""
        known = self.trained_on
        walks = [self._walked(genotype, workload) for genotype in genotypes]
        learned = [known is not None and known.covers(genotype, workload) for genotype in genotypes]
        found = iter(self._predicted(list(compress(walks, learned)), workload))
        label, table = self.profile.price_label, "roofline" if self.table is None else "look-up table"
        for walk, is_learned in zip(walks, learned, strict=True):
            if is_learned:
                latency_s, peak_bytes = next(found)
                yield self._price(walk, f"{label}, learned predictor", latency_s, round(peak_bytes))
            else:
                yield self._price(walk, f"{label}, {table}", walk.seconds, walk.peak_bytes)

    def _predicted(self, walks: Sequence[_Walk], workload: Workload) -> list[tuple[float, float]]:
        """Return latency and peak bytes of each, as the predictor says."""
        if self.predictor is None or not walks:
            return []
        import torch

        with torch.inference_mode():
            found: list[tuple[float, float]] = self.predictor(self._read(walks, workload)).tolist()
        return found

    def _walked(self, genotype: Genotype, workload: Workload) -> _Walk:
        pieces, known = pieces_of(genotype, workload), self._stages
        kin = [known.kin(piece.setting.operation) for piece in pieces]
        stages = [known.of(piece, own) for piece, own in zip(pieces, kin, strict=True)]
        lives = lives_of(pieces, [stage.asked for stage in stages])
        held = [known.memory(stage, own) for stage, own in zip(stages, lives, strict=True)]
        peak = peak_of(pieces, held, workload)
        return _Walk(genotype, pieces, kin, stages, sum([stage.seconds for stage in stages]), peak.peak_bytes)

    def _read(self, walks: Sequence[_Walk], workload: Workload) -> Batch:
        from sgq.cost.predictor_inputs import batch_of_rows

        return batch_of_rows(
            [walk.rows() for walk in walks],
            [walk.seconds for walk in walks],
            [float(walk.peak_bytes) for walk in walks],
            workload,
        )

    def _price(self, walk: _Walk, source: str, latency_s: float, peak_bytes: int) -> Price:
        """Return the price of a genotype, with a latency and a peak from a source."""
        power = self.profile.power.active_w
        setting = walk.pieces[0].setting
        given = value_bytes(setting.reads[0], integer=setting.runtime == "integer")
        flops = more_bits = 0
        held_bytes = bytes_moved = 0.0
        extrapolated = False
        for stage, kin in zip(walk.stages, walk.kin, strict=True):
            flops += stage.flops
            bytes_moved += stage.bytes_moved
            held_bytes += stage.packed_bytes
            more_bits += stage.weights * kin.more_bits
            extrapolated |= stage.extrapolated
        more_bytes = more_bits / BYTE_BITS
        return Price(
            latency_s=latency_s,
            peak_bytes=peak_bytes,
            packed_bytes=round(given + more_bytes + held_bytes),
            energy_j=None if power is None else energy_j(self.profile, compute_s=latency_s).total_j,
            flops=flops,
            bytes_moved=more_bytes + bytes_moved,
            source=source,
            extrapolated=extrapolated,
        )


@contextmanager
def _no_collection() -> Iterator[None]:
    """Look for no garbage: prices make many small objects and no cycles; looking takes half of the time."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class _Walk(NamedTuple):
    """A genotype's positions, priced one by one, and what they come to without a predictor's say."""

    genotype: Genotype
    pieces: Sequence[Piece]
    kin: Sequence[Kin]
    stages: Sequence[StagePrice]
    seconds: float
    peak_bytes: int

    def rows(self) -> list[Row]:
        """Return the rows of all positions, idle ones too but for going on elsewhere, then of the head."""
        rows: list[Row] = []
        operations = self.genotype.positions
        done = 0
        for piece, kin, stage in zip(self.pieces, self.kin, self.stages, strict=True):
            # Positions that do nothing are no pieces; the head stands after all of them.
            until = piece.position if piece.position != HEAD else len(operations)
            for idle in operations[done:until]:
                if idle.verb not in NOTHING_RUNS:
                    rows.append(idle_row(idle))
            for numbers in stage.rows:
                rows.append(kin.numbers + numbers)
            done = until + 1
        return rows


def price(subject: Genotype | Plan, workload: Workload | None, target: str | Path | DeviceProfile) -> Price:
    """Return what a genotype or a plan costs on a device: a profile, its path, or the name of a data sheet.

    A plan brings the graph that it was made on, so its `workload` is None, or the same one. Raise UsageError
    for a genotype without a workload, and for a plan with another one. A plan's peak is an estimate from its
    sites; `price_of_model` prices a model on data exactly.
    """
    profile = target if isinstance(target, DeviceProfile) else load_profile(target)
    if isinstance(subject, Plan):
        from sgq.cost.plan_pricing import price_of_plan

        return price_of_plan(subject, workload, profile)
    if workload is None:
        raise UsageError(
            "expected a workload to price a genotype on (got None): sgq.cost.Workload(nodes=1024), or "
            "sgq.cost.POINTS"
        )
    return Pricer(profile).prices([subject], workload)[0]


def packed_bytes(genotype: Genotype, workload: Workload) -> int:
    """Return the bytes of parameters, and of every value between calls once, at their bits."""
    calls = calls_of(genotype, workload)
    works = [call.work for call in calls.calls]
    given = value_bytes(calls.values[0], integer=calls.runtime == "integer")
    return round(given + packed_bytes_of(calls.runtime, works, calls.values[1:]))
