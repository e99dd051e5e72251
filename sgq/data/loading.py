"""Data sets by name."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from sgq.data.adjacency import Adjacency, with_adjacency
from sgq.data.cache import raw_root, read_through_cache
from sgq.data.dataset import GraphDataset
from sgq.data.features import FeatureLayout, normalise_rows, store_features
from sgq.data.registry import DatasetRecord, RowNorm, find_record, one_spelling
from sgq.data.splits import TRAIN_PER_CLASS, VAL_PER_CLASS, split_graphs, split_nodes_per_class
from sgq.data.synthetic import synthetic_node_data
from sgq.data.synthetic_graphs import synthetic_graph_list
from sgq.data.validation import check_data
from sgq.errors import DataError, UsageError

if TYPE_CHECKING:
    from torch_geometric.data import Data

EMBEDDED_SPLIT = "fixed, 20 a class/500/1000"


def load(
    name: str,
    *,
    root: str | Path | None = None,
    seed: int = 0,
    adjacency: Adjacency = "edge_index",
    features: FeatureLayout = "auto",
) -> GraphDataset:
    """Return the data set called `name`, in any case; `synthetic` and `synthetic-graphs` need no file.

    `root` is a read-only folder of raw files (default: SGQ_DATA); without one PyG downloads. `seed` chooses
    the split where there is no single public one. `adjacency` "csr" gives `data.adj_t` in place of
    `data.edge_index`. `features` "auto" stores them as CSR below 5 % density; samplers need "dense".
    Raise DataError for an unknown name, or where neither files nor a download can be had.
    """
    _check_option("adjacency", adjacency, get_args(Adjacency))
    _check_option("features", features, get_args(FeatureLayout))
    embedded = _EMBEDDED.get(one_spelling(name))
    if embedded is not None:
        return embedded(seed, adjacency, features)
    record = find_record(name)
    dataset = read_through_cache(record, _reader(record), root=raw_root(root))
    if record.task == "graph":
        graphs = [_prepare(graph, record, adjacency=adjacency, features="dense") for graph in dataset]
        return graph_task(graphs, name=record.name, seed=seed)
    data = _prepare(dataset[0], record, adjacency=adjacency, features=features)
    split = _SPLITS[record.split](data, dataset, seed)
    return node_task(data, name=record.name, split=split, row_norm=record.row_norm)


def node_task(data: Data, *, name: str, split: str, row_norm: RowNorm | None = None) -> GraphDataset:
    """Return a node task on a graph that has its masks; labels are checked."""
    check_data(data, name=name)
    data.y = _labels(data.y, rows=data.x.size(0), name=name)
    classes = int(data.y.max()) + 1
    return GraphDataset(name, "node", data.x.size(1), classes, split, data=data, row_norm=row_norm)


def graph_task(graphs: list[Data], *, name: str, seed: int) -> GraphDataset:
    """Return a graph task on a list of graphs with one label each, split 80/10/10 by class."""
    import torch

    if not graphs:
        raise DataError(f"expected at least one graph in {name} (got none)")
    for position, graph in enumerate(graphs):
        check_data(graph, name=f"graph {position} of {name}")
        graph.y = _labels(graph.y, rows=1, name=f"graph {position} of {name}")
    widths = {graph.x.size(1) for graph in graphs}
    if len(widths) > 1:
        raise DataError(f"expected one number of features in {name} (got {sorted(widths)})")
    labels = torch.cat([graph.y for graph in graphs])
    train, val, test = split_graphs(labels, seed=seed)
    return GraphDataset(
        name=name,
        task="graph",
        num_features=widths.pop(),
        num_classes=int(labels.max()) + 1,
        split=f"seed {seed}, stratified 80/10/10 % of the graphs",
        graphs=graphs,
        train=train,
        val=val,
        test=test,
    )


def assign_split_per_class(data: Data, *, seed: int) -> str:
    """Give a graph its masks, 20/30 nodes a class for train/validation and the rest for test; say so."""
    data.train_mask, data.val_mask, data.test_mask = split_nodes_per_class(data.y, seed=seed)
    return f"seed {seed}, {TRAIN_PER_CLASS}/{VAL_PER_CLASS} a class, rest test"


def _check_option(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UsageError(f"expected {name} to be one of {', '.join(known)} (got {value!r})")


def _labels(y: Any, *, rows: int, name: str) -> Any:
    import torch

    if not torch.is_tensor(y) or y.is_floating_point() or y.numel() != rows:
        got = (
            "none" if y is None else f"{y.dtype} {tuple(y.shape)}" if torch.is_tensor(y) else type(y).__name__
        )
        raise DataError(f"expected {rows} integer class labels y in {name} (got {got})")
    return y.view(-1).long()


def _prepare(data: Data, record: DatasetRecord, *, adjacency: Adjacency, features: FeatureLayout) -> Data:
    import torch

    if data.x is None and record.constant_feature:
        # Degree-Quant (arXiv 2008.05000) does the same on REDDIT-BINARY: the graph alone tells the class.
        data.x = torch.ones(data.num_nodes, 1)
    x = data.x.float()
    data.x = store_features(
        x if record.row_norm is None else normalise_rows(x, norm=record.row_norm), layout=features
    )
    return with_adjacency(data, adjacency=adjacency)


def _public_split(data: Data, dataset: Any, seed: int) -> str:
    import torch

    if "train_mask" not in data:
        parts = dataset.get_idx_split()
        for key, part in (("train_mask", "train"), ("val_mask", "valid"), ("test_mask", "test")):
            data[key] = torch.zeros(data.x.size(0), dtype=torch.bool).index_fill_(0, parts[part], True)
    counts = "/".join(str(int(data[key].sum())) for key in ("train_mask", "val_mask", "test_mask"))
    return f"public {counts}"


def _column_split(data: Data, dataset: Any, seed: int) -> str:
    columns = data.train_mask.size(1)
    column = seed % columns
    for key in ("train_mask", "val_mask", "test_mask"):
        data[key] = data[key][:, column].contiguous()
    return f"public, column {column} of {columns} (seed {seed})"


def _per_class_split(data: Data, dataset: Any, seed: int) -> str:
    return assign_split_per_class(data, seed=seed)


_SPLITS: dict[str, Callable[[Any, Any, int], str]] = {
    "public": _public_split,
    "columns": _column_split,
    "per_class": _per_class_split,
}


def _reader(record: DatasetRecord) -> Callable[..., Any]:
    if not record.reader.startswith("ogb:"):
        reader: Callable[..., Any] = getattr(
            importlib.import_module("torch_geometric.datasets"), record.reader
        )
        return reader
    try:
        module = importlib.import_module("ogb.nodeproppred")
    except ImportError as error:
        raise DataError(
            f'the data set {record.name} needs the extra "ogb": pip install "sgq[ogb]" ({error})'
        ) from error
    return _ogb_reader(getattr(module, record.reader.removeprefix("ogb:")))


def _ogb_reader(reader: Callable[..., Any]) -> Callable[..., Any]:
    """Let ogb load its own processed files under torch's weights_only default, which it predates."""
    import torch
    from torch_geometric.data.data import DataEdgeAttr, DataTensorAttr
    from torch_geometric.data.storage import GlobalStorage

    def read(*, root: str, name: str) -> Any:
        with torch.serialization.safe_globals([DataEdgeAttr, DataTensorAttr, GlobalStorage]):
            return reader(name=name, root=root)

    return read


def _embedded_nodes(seed: int, adjacency: Adjacency, features: FeatureLayout) -> GraphDataset:
    data = synthetic_node_data()
    data.x = store_features(normalise_rows(data.x, norm="sum"), layout=features)
    data = with_adjacency(data, adjacency=adjacency)
    return node_task(data, name="synthetic", split=EMBEDDED_SPLIT, row_norm="sum")


def _embedded_graphs(seed: int, adjacency: Adjacency, features: FeatureLayout) -> GraphDataset:
    graphs = [with_adjacency(graph, adjacency=adjacency) for graph in synthetic_graph_list()]
    return graph_task(graphs, name="synthetic-graphs", seed=seed)


_EMBEDDED: dict[str, Callable[[int, Adjacency, FeatureLayout], GraphDataset]] = {
    "synthetic": _embedded_nodes,
    "synthetic-graphs": _embedded_graphs,
}
