"""What a position of a genotype costs, found once for all that cost the same.

ReLU or LeakyReLU, a sum or a mean, weights of two or of eight bits: on a measured device they take the same
time and hold as much while they run. Positions are remembered by what is left when such choices are made
equal, so that a search over thousands of architectures meets few that it has not priced.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from quantizers.packing import BYTE_BITS
from quantizers.spec import FLOAT_BITS
from sgq.cost.architecture_graph import call_numbers, own_numbers
from sgq.cost.calls import Piece
from sgq.cost.categories import ALIKE, PACKED
from sgq.cost.footprint import kept_in_float, value_bytes
from sgq.cost.lut import Entry
from sgq.cost.peak_memory import StageMemory, stage_memory
from sgq.cost.stage_calls import Setting
from sgq.cost.work import Value, Work
from sgq.models.genotype import Aggregate, Combine, Head, Operation, Pool

SCALE_BYTES = 4


class StagePrice(NamedTuple):
    """What the calls of positions that cost the same come to.

    `weights` are the numbers of them that have the bits of a weight. `rows` are what a predictor is told of
    their calls, one row or one a layer of the head. `asked` are the values given that they read, `held` their
    memory by what becomes of those (`lives_of`), as it is found.
    """

    setting: Setting
    seconds: float
    extrapolated: bool
    packed_bytes: float
    flops: int
    bytes_moved: float
    weights: int
    rows: tuple[bytes, ...]
    asked: frozenset[int]
    held: dict[tuple[int, ...], StageMemory]


class Kin(NamedTuple):
    """Which operation stands for one, by itself and by number, and what that one has of its own.

    `numbers` are what a predictor is told of it, `more_bits` by how many its weights have more.
    """

    operation: Operation | Head
    number: int
    numbers: bytes
    more_bits: int


class StagePrices:
    """Prices of positions on one device: `entry` gives the seconds of a call.

    Without a table of measured times (`measured`) the bits of weights make a difference to time as well.
    """

    def __init__(self, entry: Callable[[Work], Entry], *, measured: bool, threads: int) -> None:
        self._entry = entry
        self._measured = measured
        self._threads = threads
        self._kin: dict[Operation | Head, Kin] = {}
        self._numbers: dict[Operation | Head, int] = {}
        self._known: dict[tuple[Any, ...], StagePrice] = {}

    def kin(self, operation: Operation | Head) -> Kin:
        """Return what stands for an operation."""
        found = self._kin.get(operation)
        if found is None:
            shared = self._shared(operation)
            bits, of_shared = (getattr(one, "weight_bits", 0) for one in (operation, shared))
            number = self._numbers.setdefault(shared, len(self._numbers))
            found = self._kin[operation] = Kin(shared, number, own_numbers(operation), bits - of_shared)
        return found

    def of(self, piece: Piece, kin: Kin) -> StagePrice:
        """Return the price of a position; raise ModelError, with the position, for one that has none."""
        setting = piece.setting
        key = (kin.number, *setting[:1], *setting[2:])
        return self._known.get(key) or self._found(
            key, piece._replace(setting=setting._replace(operation=kin.operation))
        )

    def memory(self, stage: StagePrice, lives: tuple[int, ...]) -> StageMemory:
        """Return what a position holds, by what becomes of the values that it is given."""
        held = stage.held.get(lives)
        if held is None:
            held = stage.held[lives] = stage_memory(stage.setting, lives, self._threads)
        return held

    def _shared(self, operation: Operation | Head) -> Operation | Head:
        changes: dict[str, Any] = {}
        if isinstance(operation, Combine | Head):
            changes["activation"] = "relu"
            if self._measured and not kept_in_float(operation.weight_bits):
                changes["weight_bits"] = PACKED
        elif isinstance(operation, Aggregate):
            changes["reducer"] = ALIKE.get(operation.reducer, operation.reducer)
        elif isinstance(operation, Pool):
            changes["reducers"] = tuple(ALIKE.get(reducer, reducer) for reducer in operation.reducers)
        return replace(operation, **changes)

    def _found(self, key: tuple[Any, ...], piece: Piece) -> StagePrice:
        setting, written = piece.setting, piece.calls
        integer = setting.runtime == "integer"
        works = [call.work for call in written.calls]
        entries = [self._entry(work) for work in works]
        seconds = [entry.seconds for entry in entries]
        made = [value_bytes(written.values[call.writes], integer=integer) for call in written.calls]
        found = self._known[key] = StagePrice(
            setting=setting,
            seconds=sum(seconds),
            extrapolated=any([entry.extrapolated for entry in entries]),
            packed_bytes=packed_bytes_of(setting.runtime, works, written.values[written.given :]),
            flops=sum([work.flops for work in works]),
            bytes_moved=sum([work.bytes_moved for work in works]),
            weights=sum([work.weight_values for work in works if work.weight_bits < FLOAT_BITS]),
            rows=call_numbers(setting.operation, works, seconds, made),
            asked=written.asked,
            held={},
        )
        return found


def packed_bytes_of(runtime: str, works: list[Work], values: tuple[Value, ...]) -> float:
    """Return the bytes of the parameters of calls, and of the features that they make, at their bits."""
    total = 0.0
    for work in works:
        if work.weight_values:
            scales = SCALE_BYTES * work.outputs if work.weight_bits < FLOAT_BITS else 0
            biases = SCALE_BYTES * work.outputs
            total += work.weight_values * work.weight_bits / BYTE_BITS + scales + biases
    return total + sum(
        [value_bytes(value, integer=runtime == "integer") for value in values if not value.edges]
    )
