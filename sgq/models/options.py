"""What can be chosen about a zoo model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from sgq.errors import ModelError, nearest_name

ReadoutKind = Literal["mean", "sum", "max"]


@dataclass(frozen=True)
class ModelOptions:
    """Sizes and switches of a zoo model; a field that a model does not use is ignored by it.

    `hidden` is the width of hidden layers, for attention models that of one head; `heads` attention heads of
    hidden layers, `output_heads` of the last (averaged); `layers` convolutions (AGNN: propagations).
    `dropout` acts on features and, in GAT and GATv2, on attention coefficients. `readout` pools nodes to one
    row a graph, before a two-layer head (AGNN: before its last layer). `normalise` False means that edges
    already carry GCN's weights (`sgq.data.normalise_adjacency`).
    """

    hidden: int = 16
    heads: int = 8
    output_heads: int = 1
    layers: int = 2
    dropout: float = 0.5
    readout: ReadoutKind | None = None
    normalise: bool = True

    def __post_init__(self) -> None:
        """Raise ModelError for a value that no model can have."""
        for name in ("hidden", "heads", "output_heads", "layers"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ModelError(f"expected {name} to be an integer of at least 1 (got {value!r})")
        if not 0.0 <= self.dropout < 1.0:
            raise ModelError(f"expected dropout in [0, 1) (got {self.dropout!r})")
        known = get_args(ReadoutKind)
        if self.readout is not None and self.readout not in known:
            raise ModelError(
                f'unknown readout "{self.readout}".{nearest_name(str(self.readout), known)} '
                f"Known: {', '.join(known)}"
            )
