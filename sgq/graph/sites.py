"""A site: one tensor of a model that can be quantized, its names, its shape and where it is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import prod
from typing import Any, Literal

Component = Literal["weight", "input", "message", "attention", "aggregate", "output"]
Rows = Literal["parameter", "node", "edge", "graph", "other"]

COMPONENTS: tuple[Component, ...] = ("weight", "input", "message", "attention", "aggregate", "output")
COMPONENT_GROUPS: Mapping[str, tuple[Component, ...]] = {
    "combination": ("weight", "input", "output"),
    "aggregation": ("message", "attention", "aggregate"),
}
"""SGQuant's two components (arXiv 2007.05100, component-wise quantization) in terms of ours."""


@dataclass(frozen=True)
class SiteName:
    """`<module path>:<component>`, with `.<tensor>` where a component has several tensors."""

    module: str
    component: Component
    tensor: str = ""

    def __str__(self) -> str:
        return f"{self.module}:{self.component}" + (f".{self.tensor}" if self.tensor else "")


@dataclass(frozen=True)
class Place:
    """Where a site's quantizer sits: in which slot of which module's class-swapped object."""

    module: str
    slot: str


@dataclass(frozen=True)
class Site:
    """One tensor that can be quantized, as a probe run of the model saw it.

    `shape` is the largest that the probe saw. `messages` is how many edges gather a row of the tensor
    (0 when it is not gathered): the edge-expanded copy that SGQuant counts has `messages` rows.
    `channel_shape` is the shape, broadcastable to the tensor, of one value a channel: a column of node or
    edge features, an output of a weight. `stored`
    tells whether a fused implementation keeps the tensor: parameters, what a matrix product or a gather
    reads, and the model's outputs; element-wise intermediates are not. `features` marks the data's own
    input features, `nonzeros` their non-zero values. `aliases` are other names of the same tensor: a
    rule that matches any name matches the site.
    """

    name: SiteName
    place: Place
    rows: Rows
    shape: tuple[int, ...]
    channel_shape: tuple[int, ...] = ()
    aliases: tuple[SiteName, ...] = ()
    messages: int = 0
    stored: bool = True
    features: bool = False
    nonzeros: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[SiteName, ...]:
        """The site's own name, then its aliases."""
        return (self.name, *self.aliases)

    @property
    def values(self) -> int:
        """How many numbers the tensor holds."""
        return prod(self.shape)

    @property
    def row_values(self) -> int:
        """How many numbers one row holds."""
        return prod(self.shape[1:])

    def to_json(self) -> dict[str, Any]:
        """Return plain data; `from_json` is its exact inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Site:
        """Rebuild a site from what `to_json` gave."""
        fields = dict(data)
        fields["name"] = SiteName(**data["name"])
        fields["place"] = Place(**data["place"])
        fields["shape"] = tuple(data["shape"])
        fields["channel_shape"] = tuple(data["channel_shape"])
        fields["aliases"] = tuple(SiteName(**alias) for alias in data["aliases"])
        fields["notes"] = tuple(data["notes"])
        return cls(**fields)


@dataclass(frozen=True)
class FloatParameter:
    """A parameter tensor that is no site (a bias, a norm, a fused RNN's weights) and stays in float."""

    name: str
    values: int


@dataclass(frozen=True)
class KeptBuffer:
    """A buffer of the float model's state dict (a running mean, a counter), which is kept as it is.

    `dtype` is torch's name of it ("float32"), `value_bytes` the size of one value.
    """

    name: str
    values: int
    dtype: str
    value_bytes: int

    @property
    def total_bytes(self) -> int:
        """All bytes of the buffer."""
        return self.values * self.value_bytes


@dataclass(frozen=True)
class Workload:
    """The graph that a site table was read off: what sizes and bucket counts in it refer to.

    `bucket_nodes` counts nodes a bucket, `bucket_messages` the edges that start in it, `bucket_nonzeros` the
    values of its nodes' input features that are not zero; all are empty without degree buckets. `sampled`
    marks one batch of many: its bucket ids come with the call and are no part of the model.
    """

    nodes: int
    edges: int
    graphs: int = 1
    bucket_nodes: tuple[int, ...] = ()
    bucket_messages: tuple[int, ...] = ()
    bucket_nonzeros: tuple[int, ...] = ()
    sampled: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return plain data; a whole graph's is without `sampled`, as it was before that was known."""
        return {name: value for name, value in asdict(self).items() if name != "sampled" or value}


@dataclass(frozen=True)
class SiteTable:
    """All sites of a model on given data, in the order of execution, and what is no site."""

    sites: tuple[Site, ...]
    float_parameters: tuple[FloatParameter, ...]
    unreached: tuple[str, ...]
    workload: Workload
    buffers: tuple[KeptBuffer, ...] = ()
