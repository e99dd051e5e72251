"""The module that a genotype is."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch_geometric.utils import scatter

from sgq.errors import DataError, ModelError
from sgq.models.genotype import (
    LEAKY_SLOPE,
    Activation,
    Aggregate,
    Combine,
    Concat,
    EdgeMlp,
    Genotype,
    Operation,
    Pool,
    Pooling,
    Sample,
)
from sgq.models.genotype_rules import INPUT, Stage, last_features, stages_of
from sgq.models.graph_aggregate import EdgeNetwork, GraphAggregate
from sgq.models.neighbours import Clouds, Neighbours, Sampling


class Combination(nn.Module):
    """A linear layer, batch norm and an activation."""

    def __init__(self, in_channels: int, out_channels: int, activation: Activation) -> None:
        """Build the three; the norm has the bias."""
        super().__init__()
        self.linear = nn.Linear(in_channels, out_channels, bias=False)
        self.norm = nn.BatchNorm1d(out_channels)
        self.activation = activation_of(activation)

    def forward(self, x: Tensor) -> Tensor:
        """Return [rows, out_channels] of x [rows, in_channels]."""
        result: Tensor = self.activation(self.norm(self.linear(x)))
        return result


def activation_of(activation: Activation) -> nn.Module:
    """Return the module of an activation."""
    return nn.ReLU() if activation == "relu" else nn.LeakyReLU(LEAKY_SLOPE)


class CloudPooling(nn.Module):
    """From nodes to one row a cloud: reducers side by side."""

    reads_rows = True

    def __init__(self, reducers: tuple[Pooling, ...]) -> None:
        """Pool by each of the reducers."""
        super().__init__()
        self.reducers = reducers

    def forward(self, x: Tensor, clouds: Clouds) -> Tensor:
        """Return [clouds, reducers · channels] of x [rows, channels]."""
        return torch.cat([self._reduced(x, clouds, reducer) for reducer in self.reducers], dim=1)

    def _reduced(self, x: Tensor, clouds: Clouds, reducer: Pooling) -> Tensor:
        if clouds.size is None:
            assert clouds.batch is not None
            return scatter(x, clouds.batch, dim=0, dim_size=clouds.count, reduce=reducer)
        rows = x.view(clouds.count, clouds.size, -1)
        if reducer == "max":
            return rows.amax(1)
        return rows.sum(1) if reducer == "sum" else rows.mean(1)

    def extra_repr(self) -> str:
        """Return the reducers, for the module's repr."""
        return ", ".join(self.reducers)


class Skip(nn.Module):
    """The sum of features and earlier ones."""

    reads_rows = True

    def forward(self, x: Tensor, earlier: Tensor) -> Tensor:
        """Return their sum, [rows, channels]."""
        return x + earlier


class Concatenation(nn.Module):
    """Features side by side."""

    reads_rows = True

    def forward(self, *features: Tensor) -> Tensor:
        """Return [rows, all channels]."""
        return torch.cat(features, dim=1)


class ClassifierHead(nn.Module):
    """Linear layers with batch norm, activation and dropout, and a last one for logits."""

    def __init__(self, in_channels: int, out_channels: int, genotype: Genotype) -> None:
        """Build the head of a genotype."""
        super().__init__()
        head = genotype.head
        widths = [in_channels, *head.widths]
        self.hidden = nn.ModuleList(
            Combination(before, after, head.activation) for before, after in pairwise(widths)
        )
        self.dropouts = nn.ModuleList(nn.Dropout(head.dropout) for _ in head.widths)
        self.last = nn.Linear(widths[-1], out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        for layer, dropout in zip(self.hidden, self.dropouts, strict=True):
            x = dropout(layer(x))
        logits: Tensor = self.last(x)
        return logits


class SearchedModel(nn.Module):
    """A genotype as a module, on batches of point clouds of one size or on graphs.

    The module of position p is `positions.p`; `stages` tells what each one reads. Without edges in the data
    rows are points, and all clouds of a batch have as many.
    """

    def __init__(
        self, genotype: Genotype, in_channels: int, out_channels: int, *, has_edges: bool = False
    ) -> None:
        """Build it; raise ModelError with all reasons for a genotype that cannot run."""
        super().__init__()
        self.genotype = genotype
        self.stages = stages_of(genotype, in_channels, has_edges=has_edges)
        self.in_channels, self.out_channels = in_channels, out_channels
        # Earlier features are kept until the last position that joins or adds them, and no longer.
        self._joined_at = {
            one.made_by: stage.position
            for stage in self.stages
            for one in (*stage.joined, stage.added)
            if one is not None
        }
        self.has_edges = has_edges
        # Several positions may read the features: quantized here, they are so once for all of them.
        self.entry = nn.Identity()
        self.positions = nn.ModuleList(_module_of(stage) for stage in self.stages)
        self.head = ClassifierHead(last_features(self.stages, in_channels).channels, out_channels, genotype)

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor | None = None,
        batch: Tensor | None = None,
        batch_size: int | None = None,
    ) -> Tensor:
        """Return logits, a row a graph after a `pool` and a row a node without one.

        x [rows, channels]; `batch` [rows] is the graph of each row.
        """
        edges = edge_index if self.has_edges else None
        if self.has_edges and edge_index is None:
            raise DataError("expected edges in the data (got none): the model was built with has_edges")
        clouds = Clouds.of(x.size(0), batch, batch_size, equal=not self.has_edges)
        neighbours = None if edges is None else Neighbours(edges)
        x = self.entry(x)
        features = {INPUT: x} if INPUT in self._joined_at else {}
        for stage, module in zip(self.stages, self.positions, strict=True):
            if stage.idle:
                continue
            if isinstance(stage.operation, Sample):
                neighbours = None  # those of before make room
                neighbours = module(x, clouds)
            else:
                x = _run(stage, module, x, features, neighbours, clouds)
                features = {
                    made: kept for made, kept in features.items() if self._joined_at[made] > stage.position
                }
                if stage.position in self._joined_at:
                    features[stage.position] = x
        logits: Tensor = self.head(x)
        return logits


def build_genotype(
    genotype: Genotype, *, in_channels: int, out_channels: int, has_edges: bool = False
) -> SearchedModel:
    """Return a new model of a genotype, initialised from torch's global random state."""
    if out_channels < 1:
        raise ModelError(f"expected at least one output channel (got {out_channels})")
    return SearchedModel(genotype, in_channels, out_channels, has_edges=has_edges)


def _module_of(stage: Stage) -> nn.Module:
    if stage.idle:
        return nn.Identity()
    operation: Operation = stage.operation
    channels = stage.read.channels
    if isinstance(operation, Sample):
        return Sampling(operation.method, operation.k)
    if isinstance(operation, Aggregate):
        return GraphAggregate(operation.reducer, operation.message, k=stage.k)
    if isinstance(operation, Combine):
        return Combination(channels, operation.width, operation.activation)
    if isinstance(operation, EdgeMlp):
        network = Combination(2 * channels, operation.width, operation.activation)
        return EdgeNetwork(network, operation.reducer)
    if isinstance(operation, Pool):
        return CloudPooling(operation.reducers)
    if isinstance(operation, Concat):
        return Concatenation()
    return Skip()


def _run(
    stage: Stage,
    module: nn.Module,
    x: Tensor,
    features: dict[int, Tensor],
    neighbours: Neighbours | None,
    clouds: Clouds,
) -> Tensor:
    """Return what one position makes of the features as they are."""
    result: Tensor
    if stage.joined:
        result = module(*(features[one.made_by] for one in stage.joined))
    elif stage.added is not None:
        result = module(x, features[stage.added.made_by])
    elif isinstance(stage.operation, (Aggregate, EdgeMlp)):
        asked = stage.k is None or stage.sampled_at is not None
        result = module(x, neighbours if asked else None)
    elif isinstance(stage.operation, Pool):
        result = module(x, clouds)
    else:
        result = module(x)
    return result
