"""The operations of the design space that `sgq profile` measures: a grid over sizes, widths and bits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import get_args

from quantizers.spec import FLOAT_BITS
from sgq.cost.categories import CONCATENATION, MESSAGES, PACKED
from sgq.cost.measurements import Key, Measurement
from sgq.cost.operation_sources import Deferred, Extent, operation_source
from sgq.cost.timing import Call
from sgq.cost.work import Kind, Runtime, Work
from sgq.errors import ProfileError

COLUMNS = tuple(name for name in Work._fields if name != "mixed_row_bits")
"""What is written of a work; what the grid's assemblies read is of one width."""
TEXTS = {"runtime": get_args(Runtime), "kind": get_args(Kind)}
"""The texts that there are in columns of a few."""
LEAST = {"rows": 1, "input_bits": 1, "weight_bits": 1, "output_bits": 1, "clouds": 1}
"""The least number in a column, where it is not 0."""
FLOAT_BYTES = 4
MOST_OF_MEMORY = 32
"""What a call holds is at most this part of the memory."""


@dataclass(frozen=True)
class Sizes:
    """The points of the grid."""

    rows: tuple[int, ...] = (256, 1024, 2048)
    k: tuple[int, ...] = (10, 20, 40)
    channels: tuple[int, ...] = (1, 4, 16, 64, 256, 1024)
    edge_channels: tuple[int, ...] = (3, 64, 256)
    narrow: tuple[int, ...] = (8, 4, 2, 1)


QUICK_SIZES = Sizes(rows=(256, 1024), k=(10, 20), channels=(1, 16, 256), edge_channels=(3, 64))


@dataclass(frozen=True)
class SpaceSource:
    """All works of a grid that fit in memory; see `sgq.cost.operation_sources`."""

    works: tuple[Work, ...]

    @property
    def columns(self) -> Sequence[str]:
        """The columns of a key."""
        return COLUMNS

    def __len__(self) -> int:
        return len(self.works)

    def __iter__(self) -> Iterator[tuple[Key, Call]]:
        for work in self.works:
            yield key_of(work), Deferred(partial(_built, work))


def _built(work: Work) -> Call:
    from sgq.cost.running import runnable

    return runnable(work)


@operation_source("operations")
def space_source(extent: Extent) -> SpaceSource:
    """Return the operations of the design space, in fp32 and on integers."""
    sizes = QUICK_SIZES if extent.quick else Sizes()
    most = (extent.memory_bytes or 2**33) // MOST_OF_MEMORY
    return SpaceSource(tuple(work for work in grid(sizes) if _held_bytes(work) <= most))


def key_of(work: Work) -> Key:
    """Return a work of the grid as it is written down."""
    return {name: getattr(work, name) for name in COLUMNS}


def work_of(measurement: Measurement) -> Work:
    """Return the work that was measured; raise ProfileError for values that are none of a work."""
    key = measurement.key
    for name, known in TEXTS.items():
        if key[name] not in known:
            raise ProfileError(f"expected a {name} of {', '.join(known)} (got {key[name]})")
    for name, value in key.items():
        least = LEAST.get(name, 0)
        if name not in TEXTS and name != "variant" and (isinstance(value, str) or value < least):
            raise ProfileError(f"expected {name} of at least {least} (got {value})")
    return Work(**key)  # type: ignore[arg-type]


def grid(sizes: Sizes) -> Iterator[Work]:
    """Yield the works of a grid, kinds in turn."""
    runtimes: tuple[Runtime, ...] = ("float", "integer")
    for runtime in runtimes:
        wide = (FLOAT_BITS,) if runtime == "float" else (FLOAT_BITS, PACKED)
        every = (FLOAT_BITS,) if runtime == "float" else (FLOAT_BITS, *sizes.narrow)
        for rows, k in product(sizes.rows, sizes.k):
            if runtime == "float":
                yield Work(runtime, "random", "random", rows, rows * k, 3, 0)
            for channels in sizes.channels:
                for bits in wide:
                    yield Work(runtime, "knn", "knn", rows, rows * k, channels, 0, bits)
                    yield Work(runtime, "distance", "max", rows, rows * k, channels, 1, bits)
                for reducer, bits in product(("max", "sum"), every):
                    yield Work(runtime, "gather", reducer, rows, rows * k, channels, channels, bits)
        for rows, channels in product(sizes.rows, sizes.channels):
            for bits, out_bits in product(wide, wide):
                for variant in (*MESSAGES, CONCATENATION):
                    yield _assembly(runtime, variant, rows, channels, bits, out_bits)
            for reducer, bits in product(("max", "sum"), wide):
                yield Work(runtime, "pool", reducer, rows, 0, channels, channels, bits)
        for channels, bits, out_bits in product(sizes.channels, wide, wide):
            for variant in ("1x2", CONCATENATION):  # after a pool there is one row
                yield _assembly(runtime, variant, 1, channels, bits, out_bits)
        for rows, inputs, outputs in product((1, *sizes.rows), sizes.channels, sizes.channels):
            for bits, out_bits in product(every, wide):
                weight_bits = FLOAT_BITS if bits == FLOAT_BITS else PACKED
                yield Work(runtime, "linear", "relu", rows, 0, inputs, outputs, bits, weight_bits, out_bits)
        yield from _edge_networks(runtime, sizes)


def _edge_networks(runtime: Runtime, sizes: Sizes) -> Iterator[Work]:
    """Yield DGCNN's edge networks; on integers those with a maximum are not run edge by edge."""
    if runtime == "integer":
        return
    kind: Kind = "edge_network"
    for rows, k in product(sizes.rows, sizes.k):
        for inputs, outputs in product(sizes.edge_channels, sizes.edge_channels):
            yield Work(runtime, kind, "max", rows, rows * k, inputs, outputs)


def _assembly(runtime: Runtime, variant: str, rows: int, channels: int, bits: int, out_bits: int) -> Work:
    """Return an assembly of features with so many channels."""
    inputs, outputs = {
        "1x1": (channels, channels),
        "1x2": (2 * channels, channels),
        "2x2": (2 * channels, 2 * channels),
        "4x2": (2 * channels + 1, 3 * channels + 1),
        CONCATENATION: (2 * channels, 2 * channels),
    }[variant]
    return Work(runtime, "assemble", variant, rows, 0, inputs, outputs, bits, output_bits=out_bits)


def _held_bytes(work: Work) -> int:
    """Return about the most bytes that a call holds."""
    pairs = work.rows * work.rows if work.kind == "knn" else 0
    wide = 6 * work.inputs + 2 * work.outputs if work.kind == "edge_network" else 3 * work.inputs
    return FLOAT_BYTES * max(pairs, work.rows * (work.inputs + work.outputs), work.edges * wide)
