"""What a model is priced on: the size of a graph or point cloud, and how many of them at once."""

from __future__ import annotations

from dataclasses import dataclass

from sgq.errors import UsageError


@dataclass(frozen=True)
class Workload:
    """`nodes` and `edges` of one graph (no edges: a point cloud), its `features` a node, graphs a `batch`."""

    nodes: int
    edges: int = 0
    features: int = 3
    batch: int = 1
    classes: int = 40

    def __post_init__(self) -> None:
        """Refuse sizes that no data has."""
        for name in ("nodes", "features", "batch", "classes"):
            if getattr(self, name) < 1:
                raise UsageError(f"expected {name} of at least 1 (got {getattr(self, name)})")
        if self.edges < 0:
            raise UsageError(f"expected edges of at least 0 (got {self.edges})")

    @property
    def rows(self) -> int:
        """Nodes of the whole batch."""
        return self.nodes * self.batch

    @property
    def has_edges(self) -> bool:
        """Whether the data comes with edges."""
        return self.edges > 0


POINTS = Workload(nodes=1024)
"""ModelNet40 as HGNAS, GCoDE and DGCNN take it: clouds of 1,024 points, one at a time."""
