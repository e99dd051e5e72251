"""What each position of a genotype reads and makes, and why some genotypes cannot run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from quantizers.spec import FLOAT_BITS
from sgq.errors import ModelError
from sgq.models.genotype import (
    MOST_CROSSINGS,
    OPERATIONS,
    Aggregate,
    Combine,
    Communicate,
    Concat,
    Connect,
    EdgeMlp,
    Genotype,
    Operation,
    Pool,
    Sample,
    message_channels,
)

RowsOf = Literal["nodes", "graphs"]
HEAD: Literal["head"] = "head"
INPUT = -1
"""Where the data's own features come from, as a position."""
READ_AS = {
    kind: (component, f"{component}_bits")
    for kind in OPERATIONS.values()
    for component in kind.bit_components()
    if component != "weight"
}
"""As which component each operation reads its features, and the field that says in how many bits."""


class Features(NamedTuple):
    """Features as they are between two positions: made at position `made_by`, one row a node or a graph."""

    made_by: int
    channels: int
    rows: RowsOf = "nodes"


class Stage(NamedTuple):
    """One position with what it reads and makes.

    `added` are the features that a skip adds, `joined` those that a concat puts side by side; `k` is how many
    neighbours each node has at an aggregation, None for those of the data's own edges; `sampled_at` is the
    position whose neighbours it asks for. An `idle` position does nothing: it passes features on, samples
    neighbours that nobody asks for, or brings targets to themselves.
    """

    position: int
    operation: Operation
    read: Features
    made: Features
    added: Features | None = None
    joined: tuple[Features, ...] = ()
    sampled_at: int | None = None
    k: int | None = None
    idle: bool = False

    @property
    def has_matrix(self) -> bool:
        """Whether it has a weight that can be quantized: that of a single channel is a vector."""
        single = isinstance(self.operation, Combine) and self.read.channels == 1
        return "weight" in self.operation.bit_components() and not single

    @property
    def reads_nothing(self) -> bool:
        """Whether its numbers depend on no features."""
        return self.idle or (isinstance(self.operation, Sample) and self.operation.method == "random")

    @property
    def reads(self) -> tuple[Features, ...]:
        """The features that its numbers depend on."""
        if self.reads_nothing:
            return ()
        if self.joined:
            return self.joined
        return (self.read,) if self.added is None else (self.read, self.added)


@dataclass(frozen=True)
class Fault:
    """Why a genotype cannot run: at which position (or the head), and the reason."""

    position: int | Literal["head"]
    reason: str

    def __str__(self) -> str:
        where = HEAD if self.position == HEAD else f"position {self.position}"
        return f"{where}: {self.reason}"


class Walked(NamedTuple):
    """The stages of a genotype, and the bits in which features are kept by the position that made them.

    Features that nothing reads in bits are in fp32. `quantized` tells whether anything is below 32 bits that
    is read, or is a weight.
    """

    stages: tuple[Stage, ...]
    kept_bits: dict[int, int]
    quantized: bool


def walk_of(genotype: Genotype, in_channels: int, *, has_edges: bool = False) -> Walked:
    """Return what a genotype does on features with so many channels; raise ModelError with all faults.

    `has_edges` tells that the data comes with edges, so that nodes have neighbours before any `sample`.
    """
    walk = _Walk(genotype, in_channels, has_edges)
    faults = list(walk.faults())
    if faults:
        raise ModelError(f'"{genotype.name}" cannot run: ' + "; ".join(map(str, faults)))
    kept = {read.made_by: one[2] for read, one in walk.readers.items()}
    head = genotype.head
    narrow = min(kept.values()) < FLOAT_BITS or any(map(_has_narrow_weight, walk.stages))
    if head.weight_bits < FLOAT_BITS and max(walk.now.channels, *head.widths, 1) > 1:
        narrow = True  # as above, the weight of a single channel is a vector
    return Walked(tuple(walk.stages), kept, narrow)


def stages_of(genotype: Genotype, in_channels: int, *, has_edges: bool = False) -> tuple[Stage, ...]:
    """Return the stages of a genotype; see `walk_of`."""
    return walk_of(genotype, in_channels, has_edges=has_edges).stages


def faults_of(genotype: Genotype, in_channels: int, *, has_edges: bool = False) -> tuple[Fault, ...]:
    """Return everything that keeps a genotype from running; see `stages_of`."""
    return tuple(_Walk(genotype, in_channels, has_edges).faults())


def is_quantized(genotype: Genotype, in_channels: int, *, has_edges: bool = False) -> bool:
    """Whether a genotype computes with anything below 32 bits; raise ModelError as `stages_of` does."""
    return walk_of(genotype, in_channels, has_edges=has_edges).quantized


def _has_narrow_weight(stage: Stage) -> bool:
    operation = stage.operation
    return (
        isinstance(operation, Combine | EdgeMlp) and stage.has_matrix and operation.weight_bits < FLOAT_BITS
    )


def last_features(stages: tuple[Stage, ...], in_channels: int) -> Features:
    """Return what the head reads."""
    return stages[-1].made if stages else Features(INPUT, in_channels)


class _Walk:
    """One walk over the positions: the features that are there, and the stages so far."""

    def __init__(self, genotype: Genotype, in_channels: int, has_edges: bool) -> None:
        self.genotype = genotype
        self.stages: list[Stage] = []
        self.now = Features(INPUT, in_channels)
        self.made: list[Features] = [self.now]
        self.by_position: dict[int, Features] = {}
        self.crossings = 0
        self.k: int | None = None
        self.sampled_at: int | None = None
        self.has_edges = self.has_neighbours = has_edges
        self.readers: dict[Features, tuple[int | Literal["head"], str, int]] = {}

    def faults(self) -> Iterator[Fault]:
        """Walk, and yield what is wrong on the way; a faulty position passes its features on."""
        for position, operation in enumerate(self.genotype.positions):
            reason = self._step(position, operation)
            if reason is not None:
                yield Fault(position, reason)
            self.by_position[position] = self.now
        asked = {stage.sampled_at for stage in self.stages if not stage.idle}
        for place, stage in enumerate(self.stages):
            operation = stage.operation
            if isinstance(operation, Sample) and stage.position not in asked:
                self.stages[place] = stage = stage._replace(idle=True)
            if stage.reads_nothing:
                continue
            read_as = READ_AS.get(type(operation))
            if read_as is not None:
                component, bits = read_as[0], getattr(operation, read_as[1])
                if not self._agrees(stage.position, stage.read, component, bits):
                    yield self._clash(stage.position, stage.read, component, bits)
        bits = self.genotype.head.input_bits
        if not self._agrees(HEAD, self.now, "input", bits):
            yield self._clash(HEAD, self.now, "input", bits)

    def _step(self, position: int, operation: Operation) -> str | None:
        """Take one position in; return why that cannot be."""
        read = self.now
        if read.rows == "graphs" and isinstance(operation, (Sample, Aggregate, EdgeMlp, Pool)):
            return f"{operation.verb} after pool, which leaves one row a graph"
        if isinstance(operation, Sample):
            self.k, self.sampled_at, self.has_neighbours = operation.k, position, True
            self._idle_or(position, operation, idle=False)
        elif isinstance(operation, (Aggregate, EdgeMlp)):
            return self._bring(position, operation)
        elif isinstance(operation, Combine):
            self._make(Stage(position, operation, read, Features(position, operation.width, read.rows)))
        elif isinstance(operation, Pool):
            channels = read.channels * len(operation.reducers)
            self._make(Stage(position, operation, read, Features(position, channels, "graphs")))
        elif isinstance(operation, Concat):
            return self._concat(position, operation)
        elif isinstance(operation, Connect) and operation.connection == "skip":
            return self._skip(position, operation)
        else:
            self._idle_or(position, operation, idle=True)
            self.crossings += isinstance(operation, Communicate)
            if self.crossings > MOST_CROSSINGS and isinstance(operation, Communicate):
                return f"expected at most {MOST_CROSSINGS} communicate (this is number {self.crossings})"
        return None

    def _make(self, stage: Stage) -> None:
        """Take in a position that makes new features."""
        self.now = stage.made
        self.made.append(stage.made)
        self.stages.append(stage)

    def _idle_or(self, position: int, operation: Operation, *, idle: bool) -> None:
        """Take in a position that leaves the features as they are."""
        self.stages.append(Stage(position, operation, self.now, self.now, idle=idle))

    def _bring(self, position: int, operation: Aggregate | EdgeMlp) -> str | None:
        """Take in messages along edges."""
        if not self.has_neighbours:
            return f"{operation.verb} needs neighbours: put a sample before it, or give data with edges"
        read, sampled_at = self.now, self.sampled_at
        if isinstance(operation, EdgeMlp):
            channels = operation.width
        else:
            channels = message_channels(operation.message, read.channels)
            if operation.message == "target" and self.k is not None and not self.has_edges:
                # Each of its k messages is the target itself; graphs with edges may have fewer than k nodes.
                sampled_at = None
                if operation.reducer != "sum":
                    self.stages.append(Stage(position, operation, read, read, k=self.k, idle=True))
                    return None
        made = Features(position, channels, read.rows)
        self._make(Stage(position, operation, read, made, sampled_at=sampled_at, k=self.k))
        return None

    def _skip(self, position: int, operation: Connect) -> str | None:
        read = self.now
        for earlier in reversed(self.made[:-1]):
            if (earlier.rows, earlier.channels) == (read.rows, read.channels):
                made = Features(position, read.channels, read.rows)
                self._make(Stage(position, operation, read, made, added=earlier))
                return None
        return f"skip finds no earlier features of {read.channels} channels to add"

    def _concat(self, position: int, operation: Concat) -> str | None:
        if not operation.positions:
            return "concat of no positions"
        joined = []
        for earlier in operation.positions:
            found = self.by_position.get(earlier)
            if found is None:
                return f"concat of position {earlier}, which does not come before it"
            if found.rows != self.now.rows:
                return f"concat of position {earlier}, which has one row for each of the {found.rows}"
            joined.append(found)
        made = Features(position, sum(one.channels for one in joined), self.now.rows)
        self._make(Stage(position, operation, self.now, made, joined=tuple(joined)))
        return None

    def _agrees(self, position: int | Literal["head"], read: Features, component: str, bits: int) -> bool:
        """Note who reads features in which bits; return whether the first one reads them in as many."""
        return self.readers.setdefault(read, (position, component, bits))[2] == bits

    def _clash(self, position: int | Literal["head"], read: Features, component: str, bits: int) -> Fault:
        where, known_component, known = self.readers[read]
        return Fault(
            position,
            f"{component} of {bits} bits, but position {where} reads the same features as "
            f"{known_component} of {known} bits: they are kept once",
        )
