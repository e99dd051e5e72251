"""What a model is trained and judged on: one interface for node and graph classification.

A task yields batches, turns a model's output into a loss, and measures accuracy on a split. Training,
calibration and evaluation know only this interface.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sgq.data import GraphDataset, check_data, resolve_data
from sgq.errors import DataError, UsageError
from sgq.graph.adjacency import adjacency_of, edge_count, in_degree, out_degree
from sgq.graph.buckets import DegreeBuckets, quantile_edges
from sgq.graph.inputs import call
from sgq.graph.sites import Workload

Split = Literal["train", "val", "test"]

DEFAULT_BATCH_SIZE = 128
"""Graphs a batch, as Degree-Quant trains (arXiv 2008.05000)."""


@runtime_checkable
class Task(Protocol):
    """What finetuning and evaluation need to know of the data."""

    @property
    def buckets(self) -> tuple[int, ...]:
        """The degree bucket edges that the data has ids for; empty without."""
        ...

    @property
    def static_features(self) -> Tensor | None:
        """The input features if every batch has the same ones (a whole graph), else None."""
        ...

    def with_buckets(self, edges: tuple[int, ...]) -> Task:
        """Return the task with `bucket` ids in its data."""
        ...

    def with_features(self, features: Tensor) -> Task:
        """Return the task with other static input features."""
        ...

    def sample(self) -> Any:
        """Return the data that a model is probed on: the whole graph, or the first batch."""
        ...

    def batches(self, *, seed: int) -> Iterator[Any]:
        """Yield the training batches of one epoch."""
        ...

    def forward(self, model: nn.Module, batch: Any) -> Tensor:
        """Return the model's logits [rows, classes] on a batch, with its bucket ids passed where needed."""
        ...

    def loss(self, logits: Tensor, batch: Any) -> Tensor:
        """Return the training loss of a batch."""
        ...

    def predictions(self, model: nn.Module, split: Split) -> tuple[Tensor, Tensor]:
        """Return (logits [rows, classes], labels [rows]) of a split."""
        ...

    def rows_of(self, split: Split) -> Tensor:
        """Return the nodes (or graphs) of a split by their numbers in the data, as `predictions` has them."""
        ...


@dataclass(frozen=True)
class NodeTask:
    """Node classification on one graph: full-batch, or trained on the mini-batches of a `loader`.

    A loader is a PyG NeighborLoader over the same graph whose seed nodes are training nodes; evaluation
    is on the whole graph. Its batches carry `bucket` when DegreeBuckets was applied before sampling.
    """

    data: Any
    loader: Any = None
    buckets: tuple[int, ...] = ()

    @property
    def static_features(self) -> Tensor | None:
        """The features [nodes, channels], for full-batch training."""
        return self.data.x if self.loader is None else None

    def with_buckets(self, edges: tuple[int, ...]) -> NodeTask:
        """Return the task with the bucket of every node in its graph, and in its loader's."""
        bucketed = DegreeBuckets(edges)(copy.copy(self.data))
        if self.loader is not None:
            sampled = getattr(self.loader.data, "bucket", None)
            if sampled is None or not torch.equal(sampled.cpu(), bucketed.bucket.cpu()):
                fault = "no buckets" if sampled is None else "other buckets than the plan"
                raise UsageError(
                    f"the loader's graph has {fault}: apply sgq.DegreeBuckets({list(edges)}) to the data "
                    "before making the loader"
                )
        return replace(self, data=bucketed, buckets=edges)

    def with_features(self, features: Tensor) -> NodeTask:
        """Return the task on the same graph with other features."""
        data = copy.copy(self.data)
        data.x = features
        return replace(self, data=data)

    def sample(self) -> Any:
        """Return the whole graph."""
        return self.data

    def batches(self, *, seed: int) -> Iterator[Any]:
        """Yield the whole graph once, or the loader's batches."""
        if self.loader is None:
            yield self.data
        else:
            torch.manual_seed(seed)
            yield from self.loader

    def forward(self, model: nn.Module, batch: Any) -> Tensor:
        """Return logits [nodes of the batch, classes]."""
        return call(model, batch, bucket=batch.bucket if self.buckets else None)

    def loss(self, logits: Tensor, batch: Any) -> Tensor:
        """Return the mean cross-entropy over the training nodes (a loader's seed nodes)."""
        if self.loader is None:
            return F.cross_entropy(logits[batch.train_mask], batch.y[batch.train_mask])
        return F.cross_entropy(logits[: batch.batch_size], batch.y[: batch.batch_size])

    def predictions(self, model: nn.Module, split: Split) -> tuple[Tensor, Tensor]:
        """Return the logits and labels of a split's nodes, computed on the whole graph."""
        mask = self.data[f"{split}_mask"]
        return self.forward(model, self.data)[mask], self.data.y[mask]

    def rows_of(self, split: Split) -> Tensor:
        """Return the nodes of a split."""
        nodes: Tensor = self.data[f"{split}_mask"].nonzero().squeeze(1)
        return nodes


@dataclass(frozen=True)
class GraphTask:
    """Graph classification over a list of graphs, in mini-batches."""

    graphs: list[Any]
    splits: dict[str, Tensor] = field(default_factory=dict)
    batch_size: int = DEFAULT_BATCH_SIZE
    buckets: tuple[int, ...] = ()

    @property
    def static_features(self) -> Tensor | None:
        """None: every batch has other graphs."""
        return None

    def with_buckets(self, edges: tuple[int, ...]) -> GraphTask:
        """Return the task with the bucket of every node in each of its graphs."""
        transform = DegreeBuckets(edges)
        graphs = [transform(copy.copy(graph)) for graph in self.graphs]
        return replace(self, graphs=graphs, buckets=edges)

    def with_features(self, features: Tensor) -> GraphTask:
        """Raise: graphs have features of their own."""
        raise UsageError("a graph classification task has no static input features")

    def sample(self) -> Any:
        """Return the first batch of training graphs."""
        return next(iter(self._loader("train")))

    def batches(self, *, seed: int) -> Iterator[Any]:
        """Yield the training graphs in shuffled batches."""
        yield from self._loader("train", seed=seed)

    def forward(self, model: nn.Module, batch: Any) -> Tensor:
        """Return logits [graphs of the batch, classes]."""
        return call(model, batch, bucket=batch.bucket if self.buckets else None)

    def loss(self, logits: Tensor, batch: Any) -> Tensor:
        """Return the mean cross-entropy over the batch's graphs."""
        return F.cross_entropy(logits, batch.y)

    def predictions(self, model: nn.Module, split: Split) -> tuple[Tensor, Tensor]:
        """Return the logits and labels of a split's graphs."""
        logits, labels = [], []
        for batch in self._loader(split):
            logits.append(self.forward(model, batch))
            labels.append(batch.y)
        return torch.cat(logits), torch.cat(labels)

    def rows_of(self, split: Split) -> Tensor:
        """Return the graphs of a split."""
        return self.splits[split]

    def _loader(self, split: Split, *, seed: int | None = None) -> Iterable[Any]:
        from torch_geometric.loader import DataLoader

        graphs = [self.graphs[int(index)] for index in self.splits[split]]
        if not graphs:
            raise DataError(f"expected graphs in the {split} split (got none of {len(self.graphs)})")
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        return DataLoader(graphs, self.batch_size, shuffle=seed is not None, generator=generator)


def as_task(data: Any, *, seed: int = 0) -> Task:
    """Return the task of a data set name, a PyG Data, a list or loader of them, or a task as it is."""
    if isinstance(data, Task):
        return data
    dataset = resolve_data(data, seed=seed)
    for member in dataset.members:
        check_data(member)
    return task_of(dataset)


def task_of(dataset: GraphDataset) -> Task:
    """Return the task of a data set; of a loader of graphs, its graphs and batch size, split anew."""
    if dataset.task == "node":
        if dataset.data is None:
            raise DataError(f'data set "{dataset.name}" has no graph')
        return NodeTask(dataset.data, loader=dataset.loader)
    splits = {"train": dataset.train, "val": dataset.val, "test": dataset.test}
    batch_size = getattr(dataset.loader, "batch_size", None) or DEFAULT_BATCH_SIZE
    return GraphTask(
        list(dataset.graphs),
        {name: index for name, index in splits.items() if index is not None},
        batch_size=batch_size,
    )


def workload_of(data: Any, edges: tuple[int, ...] = ()) -> Workload:
    """Return the sizes of a graph or batch, and its bucket counts for the given bucket edges."""
    nodes, graphs = int(data.num_nodes), int(getattr(data, "num_graphs", 1) or 1)
    if nodes == 0:
        raise DataError("the graph is empty (0 nodes)")
    count = edge_count(adjacency_of(data))
    if not edges:
        return Workload(nodes, count, graphs)
    bucket = DegreeBuckets(edges)(copy.copy(data)).bucket.long()

    def by_bucket(per_node: Tensor) -> tuple[int, ...]:
        totals = bucket.new_zeros(len(edges) + 1).index_add_(0, bucket, per_node.long())
        return tuple(totals.tolist())

    return Workload(
        nodes,
        count,
        graphs,
        bucket_nodes=by_bucket(torch.ones_like(bucket)),
        bucket_messages=by_bucket(out_degree(data)),
        bucket_nonzeros=() if data.x is None else by_bucket(_row_nonzeros(data.x)),
    )


def _row_nonzeros(x: Tensor) -> Tensor:
    if x.layout == torch.sparse_csr:
        return x.crow_indices().diff()
    return x.reshape(x.size(0), -1).count_nonzero(dim=1)


def bucket_edges_of(
    task: Task, *, edges: tuple[int, ...] = (), quantiles: int | None = None
) -> tuple[int, ...]:
    """Return bucket edges: as given, or at the quantiles of the in-degrees of the task's graphs."""
    if quantiles is None:
        return edges
    graphs = task.graphs if isinstance(task, GraphTask) else [task.sample()]
    return quantile_edges(torch.cat([in_degree(graph) for graph in graphs]), quantiles)
