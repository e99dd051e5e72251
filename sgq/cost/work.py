"""What a kernel call does, and the values between calls: what every price is made of."""

from __future__ import annotations

from typing import Literal, NamedTuple

from quantizers.spec import FLOAT_BITS

Runtime = Literal["float", "integer"]
Kind = Literal["knn", "random", "gather", "distance", "assemble", "linear", "edge_network", "pool"]
INDEX_BITS = 32


class Value(NamedTuple):
    """What a call reads or makes: rows of channels at some bits, or with `edges` the ends of edges."""

    rows: int
    channels: int
    bits: int = FLOAT_BITS
    edges: int = 0


class Work(NamedTuple):
    """What one kernel call does, and on how much: what its time depends on.

    `variant` is the reducer of a gather or pool, the method of a sampling, the shape of an assembly
    ("blocks x terms") or the activation of a linear layer. `edges` are those that are read, over all rows.
    `input_bits` of an assembly are the fewest of what it reads, `mixed_row_bits` the bits of a whole row of
    that where widths differ.
    """

    runtime: Runtime
    kind: Kind
    variant: str
    rows: int
    edges: int
    inputs: int
    outputs: int
    input_bits: int = FLOAT_BITS
    weight_bits: int = FLOAT_BITS
    output_bits: int = FLOAT_BITS
    clouds: int = 1
    mixed_row_bits: int = 0

    @property
    def flops(self) -> int:
        """Floating point (or integer) operations, a multiply-add counting as two."""
        if self.kind == "knn":
            # Squared distances of all pairs; choosing the nearest compares and is not counted.
            return 2 * self.rows * (self.rows // self.clouds) * self.inputs
        if self.kind == "linear":
            return 2 * self.rows * self.inputs * self.outputs
        if self.kind == "edge_network":
            return 2 * self.edges * 2 * self.inputs * self.outputs
        if self.kind == "random":
            return 0
        if self.kind in ("gather", "distance"):
            return (3 if self.kind == "distance" else 1) * self.edges * self.inputs
        return self.rows * self.outputs if self.kind == "assemble" else self.rows * self.inputs

    @property
    def weight_values(self) -> int:
        """Numbers of its weight."""
        if self.kind == "linear":
            return self.inputs * self.outputs
        return 2 * self.inputs * self.outputs if self.kind == "edge_network" else 0

    @property
    def bytes_moved(self) -> float:
        """Bytes that it reads and writes, each once: gathered rows once an edge."""
        row_bits = self.mixed_row_bits or self.inputs * self.input_bits
        read = (self.edges or self.rows) * row_bits
        if self.kind in ("knn", "linear", "assemble", "pool"):
            read = self.rows * row_bits
        if self.kind == "random":
            read = 0
        written = (self.clouds if self.kind == "pool" else self.rows) * self.outputs * self.output_bits
        # int32 sources on integers; int64 sources and targets on torch.
        ends = self.edges * (INDEX_BITS if self.runtime == "integer" else 4 * INDEX_BITS)
        return (read + written + ends + self.weight_values * self.weight_bits) / 8


class Call(NamedTuple):
    """One kernel call: its work, and the numbers of the values that it reads and makes."""

    work: Work
    reads: tuple[int, ...]
    writes: int
