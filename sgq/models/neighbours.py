"""Who a node's neighbours are: the edges of the data, or those that a genotype samples."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch_geometric.utils import to_dense_batch

from sgq.errors import DataError
from sgq.models.genotype import SampleMethod


@dataclass(frozen=True)
class Clouds:
    """Which rows belong together: `count` clouds (or graphs), of `size` rows each; None where sizes differ.

    `batch` [rows] is the cloud of each row; None where there is one.
    """

    batch: Tensor | None
    count: int
    size: int | None

    @classmethod
    def of(cls, rows: int, batch: Tensor | None, count: int | None, *, equal: bool) -> Clouds:
        """Return the clouds of a batch; `equal` ones are checked to be so."""
        if batch is None:
            return cls(None, 1, rows)
        count = int(batch.max()) + 1 if count is None else count
        sizes = torch.bincount(batch, minlength=count)
        if not equal:
            alike = rows % count == 0 and bool((sizes == rows // count).all())
            return cls(batch, count, rows // count if alike else None)
        if rows % count:
            raise DataError(f"expected {count} clouds of equally many points (got {rows} points)")
        _require((sizes == rows // count).all(), "expected clouds of equally many points")
        _require((batch.diff() >= 0).all(), "expected the points of a cloud one after the other")
        return cls(batch, count, rows // count)


def _require(condition: Tensor, message: str) -> None:
    """Raise DataError where a condition is false; on an accelerator it is checked without waiting for it."""
    if condition.device.type == "cpu":
        if not bool(condition):
            raise DataError(message)
    else:
        torch._assert_async(condition, message)


@dataclass(frozen=True)
class Neighbours:
    """Edges [2, edges] from source (row 0) to target; `k` into every node, by target, or any (None)."""

    edge_index: Tensor
    k: int | None = None


class Sampling(nn.Module):
    """The `k` nearest rows of a row's own cloud, itself included, or `k` random ones."""

    reads_rows = True

    def __init__(self, method: SampleMethod, k: int) -> None:
        """Sample by `method`; random neighbours are drawn anew in training, and are fixed in evaluation."""
        super().__init__()
        self.method = method
        self.k = k

    def forward(self, x: Tensor, clouds: Clouds) -> Neighbours:
        """Return the neighbours of the rows of x [rows, channels]."""
        if clouds.size is None:
            return self._of_unequal(x, clouds)
        if self.k > clouds.size:
            raise DataError(f"expected clouds of at least k = {self.k} points (got {clouds.size})")
        rows = x.view(clouds.count, clouds.size, -1)
        if self.method == "knn":
            picked = nearest(rows, self.k)
        else:
            picked = random_rows(clouds, self.k, device=x.device, fixed=not self.training)
        first = torch.arange(clouds.count, device=x.device) * clouds.size
        source = (picked + first.view(-1, 1, 1)).reshape(-1)
        target = torch.arange(x.size(0), device=x.device).repeat_interleave(self.k)
        return Neighbours(torch.stack([source, target]), self.k)

    def _of_unequal(self, x: Tensor, clouds: Clouds) -> Neighbours:
        """Return up to `k` neighbours a row, in graphs of any size."""
        dense, present = to_dense_batch(x.detach(), clouds.batch, batch_size=clouds.count)
        k = min(self.k, dense.size(1))
        if self.method == "knn":
            distance = squared_distances(dense)
        else:
            generator = None if self.training else torch.Generator(x.device).manual_seed(RANDOM_SEED)
            distance = torch.rand(
                dense.size(0), dense.size(1), dense.size(1), device=x.device, generator=generator
            )
        distance = distance.masked_fill(~present.unsqueeze(1), float("inf"))
        found = distance.topk(k, dim=2, largest=False)
        whole = found.values.isfinite() & present.unsqueeze(2)
        rows = torch.zeros(present.shape, dtype=torch.int64, device=x.device)
        rows[present] = torch.arange(x.size(0), device=x.device)
        source = rows.gather(1, found.indices.flatten(1)).view_as(found.indices)
        target = rows.unsqueeze(2).expand_as(source)
        return Neighbours(torch.stack([source[whole], target[whole]]))

    def extra_repr(self) -> str:
        """Return method and k, for the module's repr."""
        return f"{self.method}, k={self.k}"


RANDOM_SEED = 0
"""Of random neighbours in evaluation: a model gives the same numbers every time."""


def nearest(x: Tensor, k: int) -> Tensor:
    """Return the positions [clouds, rows, k] of each row's nearest rows in x [clouds, rows, channels]."""
    indices: Tensor = squared_distances(x.detach()).topk(k, dim=2, largest=False).indices
    return indices


def squared_distances(x: Tensor) -> Tensor:
    """Return ‖x_j‖² − 2 x_i · x_j, [clouds, i, j]: squared distances less ‖x_i‖², which ranks alike."""
    return torch.baddbmm(x.square().sum(2).unsqueeze(1), x, x.transpose(1, 2), alpha=-2.0)


def random_rows(clouds: Clouds, k: int, *, device: torch.device, fixed: bool) -> Tensor:
    """Return random positions [clouds, rows, k] inside each cloud; the same ones each time if `fixed`."""
    assert clouds.size is not None
    generator = torch.Generator(device).manual_seed(RANDOM_SEED) if fixed else None
    shape = (clouds.count, clouds.size, k)
    return torch.randint(clouds.size, shape, device=device, generator=generator)
