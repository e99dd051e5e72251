"""Architectures as data: the decoupled design space of HGNAS and GCoDE as an ordered list of operations.

HGNAS (arXiv 2303.10875, 2408.12840) takes a graph layer apart into sampling, aggregation, combination and
connection; GCoDE (arXiv 2404.05605) adds pooling and communication. Every operation has bits of its own.
`edge_mlp` and `concat` are no part of the searched space: DGCNN (arXiv 1801.07829) is made of them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache, cached_property
from typing import ClassVar, Literal, get_args

from quantizers.spec import FLOAT_BITS

SampleMethod = Literal["knn", "random"]
Reducer = Literal["sum", "mean", "max", "min"]
Message = Literal["source", "target", "relative", "source_relative", "target_relative", "distance", "full"]
Activation = Literal["relu", "leaky_relu"]
Connection = Literal["identity", "skip"]
Pooling = Literal["max", "mean", "sum"]

LEAKY_SLOPE = 0.2
"""LeakyReLU's slope for negative values, as in DGCNN."""
WIDTHS = (8, 16, 32, 64, 128, 256, 512)
"""Output widths of `combine` in the searched space (GCoDE; HGNAS ends at 256)."""
WIDEST = 2**15
MOST_POSITIONS = 64
MOST_CROSSINGS = 2
"""GCoDE's mappings: at most device, edge, device again."""


@dataclass(frozen=True)
class Operation:
    """One position of a genotype; `verb` is its name in files."""

    verb: ClassVar[str]

    @classmethod
    @cache
    def bit_components(cls) -> tuple[str, ...]:
        """Return those of `input`, `message` and `weight` that it has bits of."""
        names = (field.name for field in fields(cls))
        return tuple(name.removesuffix("_bits") for name in names if name.endswith("_bits"))

    @cached_property
    def bits(self) -> dict[str, int]:
        """Its bits by component."""
        return {component: getattr(self, f"{component}_bits") for component in self.bit_components()}


@dataclass(frozen=True)
class Sample(Operation):
    """Choose each node's `k` neighbours: the nearest by its features (itself included), or random ones."""

    verb = "sample"
    method: SampleMethod
    k: int
    input_bits: int = FLOAT_BITS


@dataclass(frozen=True)
class Aggregate(Operation):
    """Bring together each node's messages, made of target x_i and source x_j.

    source: x_j; target: x_i; relative: x_j − x_i; two names are side by side; distance: ‖x_j − x_i‖; full:
    target, source, relative and distance, 3 · channels + 1.
    """

    verb = "aggregate"
    reducer: Reducer
    message: Message
    message_bits: int = FLOAT_BITS


@dataclass(frozen=True)
class Combine(Operation):
    """A linear layer with batch norm and an activation, `width` wide."""

    verb = "combine"
    width: int
    activation: Activation = "relu"
    input_bits: int = FLOAT_BITS
    weight_bits: int = FLOAT_BITS


@dataclass(frozen=True)
class Connect(Operation):
    """Pass on the features (identity), or add the latest earlier ones of the same width (skip)."""

    verb = "connect"
    connection: Connection


@dataclass(frozen=True)
class Pool(Operation):
    """From nodes to one row a graph, by one reducer or two side by side."""

    verb = "pool"
    reducers: tuple[Pooling, ...]
    input_bits: int = FLOAT_BITS


@dataclass(frozen=True)
class Communicate(Operation):
    """Go on at the other side: from the device to the edge server, or back."""

    verb = "communicate"


@dataclass(frozen=True)
class EdgeMlp(Operation):
    """DGCNN's edge convolution: linear layer, batch norm and activation on [x_i, x_j − x_i], reduced."""

    verb = "edge_mlp"
    width: int
    reducer: Reducer = "max"
    activation: Activation = "leaky_relu"
    message_bits: int = FLOAT_BITS
    weight_bits: int = FLOAT_BITS


@dataclass(frozen=True)
class Concat(Operation):
    """The features that earlier positions (from 0) made, side by side."""

    verb = "concat"
    positions: tuple[int, ...]


OPERATIONS: dict[str, type[Operation]] = {
    kind.verb: kind for kind in (Sample, Aggregate, Combine, Connect, Pool, Communicate, EdgeMlp, Concat)
}
"""All operations by their names in files."""


@dataclass(frozen=True)
class Head:
    """Linear layers with batch norm, activation and dropout, then one without: logits.

    `input_bits` and `weight_bits` hold for all of its layers; ModelNet40's tail in GCoDE is (256,) after 512.
    """

    widths: tuple[int, ...] = (512, 256)
    activation: Activation = "leaky_relu"
    dropout: float = 0.5
    input_bits: int = FLOAT_BITS
    weight_bits: int = FLOAT_BITS


@dataclass(frozen=True)
class Genotype:
    """An architecture: its operations in order, and the head that makes logits of what they leave."""

    positions: tuple[Operation, ...]
    head: Head = Head()
    name: str = "genotype"
    about: str = ""


def message_channels(message: Message, channels: int) -> int:
    """Return how many channels a message has, of features with so many."""
    if message == "distance":
        return 1
    if message == "full":
        return 3 * channels + 1
    return (2 if "_" in message else 1) * channels


def choices_of(alias: object) -> tuple[str, ...]:
    """Return the names that a Literal allows."""
    return get_args(alias)
