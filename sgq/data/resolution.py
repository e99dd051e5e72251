"""From what a user gives, a name, a factory path or an object, to a GraphDataset."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgq.data.adjacency import Adjacency
from sgq.data.dataset import GraphDataset
from sgq.data.factory import import_factory, is_factory_path
from sgq.data.features import FeatureLayout
from sgq.data.loading import assign_split_per_class, graph_task, load, node_task
from sgq.errors import DataError

if TYPE_CHECKING:
    from torch_geometric.data import Data

MASKS = ("train_mask", "val_mask", "test_mask")


def resolve_data(
    spec: Any,
    *,
    root: str | Path | None = None,
    seed: int = 0,
    adjacency: Adjacency = "edge_index",
    features: FeatureLayout = "auto",
) -> GraphDataset:
    """Return a data set for a name, a `package.module:factory`, or an object that such a factory returns.

    A PyG `Data` is a node task (a missing split is made with `seed`), a list or PyG data set of `Data` a
    graph task (or the node task of its only graph), a loader the task of the data that it was made from,
    with the loader kept. `root`, `adjacency` and `features` hold for names; own data stays as it is.
    Raise UsageError for a bad import path and DataError for data that no task can be made of.
    """
    if isinstance(spec, str) and not is_factory_path(spec):
        return load(spec, root=root, seed=seed, adjacency=adjacency, features=features)
    if not isinstance(spec, str):
        return _wrap(spec, name=type(spec).__name__, seed=seed)
    found = import_factory(spec)
    return _wrap(found() if _is_factory(found) else found, name=spec, seed=seed)


def _is_factory(found: Any) -> bool:
    from torch_geometric.data import Data, Dataset

    return callable(found) and not isinstance(found, (GraphDataset, Data, Dataset))


def _wrap(given: Any, *, name: str, seed: int) -> GraphDataset:
    from torch.utils.data import DataLoader
    from torch_geometric.data import Data, Dataset

    if isinstance(given, GraphDataset):
        return given
    if isinstance(given, Data):
        return _wrap_node_data(given, name=name, seed=seed)
    if isinstance(given, Dataset) and len(given) == 1:
        return _wrap_node_data(given[0], name=name, seed=seed)
    if isinstance(given, (list, tuple, Dataset)) and all(isinstance(item, Data) for item in given):
        return graph_task([copy.copy(item) for item in given], name=name, seed=seed)
    source = getattr(given, "data", None)
    if not isinstance(source, Data):
        source = given.dataset if isinstance(given, DataLoader) else None
    if source is None or isinstance(source, DataLoader):
        raise DataError(
            f"expected Data, a list of Data, a loader with .data or .dataset, or a GraphDataset from {name} "
            f"(got {type(given).__name__})"
        )
    return replace(_wrap(source, name=name, seed=seed), loader=given)


def _wrap_node_data(given: Data, *, name: str, seed: int) -> GraphDataset:
    data = copy.copy(given)  # labels and masks may be set; the tensors are shared
    present = [key for key in MASKS if data.get(key) is not None]
    if present and len(present) < len(MASKS):
        raise DataError(f"expected {', '.join(MASKS)} or none of them in {name} (got {', '.join(present)})")
    if not present:
        task = node_task(data, name=name, split="none")
        return replace(task, split=assign_split_per_class(data, seed=seed))
    for key in MASKS:
        if data[key].shape != (data.num_nodes,):
            raise DataError(f"expected {key} of shape [nodes] in {name} (got {tuple(data[key].shape)})")
    counts = "/".join(str(int(data[key].sum())) for key in MASKS)
    return node_task(data, name=name, split=f"given {counts}")
