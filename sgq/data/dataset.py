"""GraphDataset: a task on graphs, with its features, labels and split."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sgq.data.features import count_nonzeros
from sgq.data.registry import RowNorm, Task
from sgq.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor
    from torch_geometric.data import Data


@dataclass(frozen=True, eq=False)
class GraphDataset:
    """Data for node classification (`data` and its masks) or graph classification (`graphs`).

    `split` says in words how train, validation and test were chosen. `train`, `val` and `test` are int64
    indices into `graphs`, None for node tasks. `loader` is the user's own loader, kept as given.
    `row_norm` tells what feature rows were divided by, `normalised_adjacency` that the edges already carry
    GCN's symmetric normalisation.
    """

    name: str
    task: Task
    num_features: int
    num_classes: int
    split: str
    data: Data | None = None
    graphs: list[Data] = field(default_factory=list)
    train: Tensor | None = None
    val: Tensor | None = None
    test: Tensor | None = None
    loader: Any = None
    row_norm: RowNorm | None = None
    normalised_adjacency: bool = False

    @property
    def train_mask(self) -> Tensor:
        """Boolean mask [nodes] of the training nodes; DataError for a graph task."""
        return self._mask("train_mask")

    @property
    def val_mask(self) -> Tensor:
        """Boolean mask [nodes] of the validation nodes; DataError for a graph task."""
        return self._mask("val_mask")

    @property
    def test_mask(self) -> Tensor:
        """Boolean mask [nodes] of the test nodes; DataError for a graph task."""
        return self._mask("test_mask")

    def _mask(self, name: str) -> Tensor:
        if self.data is None:
            raise DataError(f"expected a node task for {name} (got the {self.task} task {self.name})")
        mask: Tensor = self.data[name]
        return mask

    @property
    def members(self) -> list[Data]:
        """Every graph: `graphs`, or the one graph of a node task."""
        return self.graphs if self.data is None else [self.data]

    @property
    def num_nodes(self) -> int:
        """Nodes of all graphs together."""
        return sum(member.x.size(0) for member in self.members)

    @property
    def num_edges(self) -> int:
        """Directed edges of all graphs together."""
        return sum(_edges(member) for member in self.members)

    @property
    def feature_nonzeros(self) -> int:
        """How many node-feature values are not zero."""
        return sum(count_nonzeros(member.x) for member in self.members)

    def __repr__(self) -> str:
        """Return one line with every count."""
        graphs = f"{len(self.graphs)} graphs, " if self.data is None else ""
        return (
            f"GraphDataset({self.name}: {self.task} task, {graphs}{self.num_nodes} nodes, "
            f"{self.num_edges} edges, {self.num_features} features ({self.feature_nonzeros} non-zeros), "
            f"{self.num_classes} classes, split {self.split})"
        )


def _edges(data: Data) -> int:
    import torch

    adjacency = data.get("adj_t")
    if adjacency is None:
        return int(data.edge_index.size(1))
    return int(adjacency.values().numel() if torch.is_tensor(adjacency) else adjacency.nnz())
