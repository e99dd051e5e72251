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
from sgq.errors import DataError, SgqError

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
    Raise UsageError for a bad import path and DataError for a factory that fails or data that no task can
    be made of.
    """
    if isinstance(spec, str) and not is_factory_path(spec):
        return load(spec, root=root, seed=seed, adjacency=adjacency, features=features)
    if not isinstance(spec, str):
        return _wrap(spec, name=type(spec).__name__, seed=seed)
    found = import_factory(spec)
    return _wrap(_call(found, spec) if _is_factory(found) else found, name=spec, seed=seed)


def _is_factory(found: Any) -> bool:
    from torch_geometric.data import Data, Dataset

    return callable(found) and not isinstance(found, (GraphDataset, Data, Dataset))


def _call(factory: Any, spec: str) -> Any:
    try:
        return factory()
    except SgqError:
        raise
    except Exception as error:  # a user's factory may raise anything
        raise DataError(f"{spec} failed: {type(error).__name__}: {error}") from error


def _wrap(given: Any, *, name: str, seed: int) -> GraphDataset:
    import torch
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
    dataset = _wrap(source, name=name, seed=seed)
    if dataset.data is not None and dataset.data.x.layout is not torch.strided:
        raise DataError(
            f"expected dense features in the graph of {name}, since a sampler picks rows of them "
            '(got sparse CSR); load it with features="dense", or set data.x = data.x.to_dense() before '
            "making the loader"
        )
    return replace(dataset, loader=given)


def _wrap_node_data(given: Data, *, name: str, seed: int) -> GraphDataset:
    data = copy.copy(given)  # labels and masks may be set; the tensors are shared
    present = [key for key in MASKS if data.get(key) is not None]
    if present and len(present) < len(MASKS):
        raise DataError(f"expected {', '.join(MASKS)} or none of them in {name} (got {', '.join(present)})")
    task = node_task(data, name=name, split="none")
    if not present:
        return replace(task, split=assign_split_per_class(data, seed=seed))
    _check_masks(data, name=name)
    counts = "/".join(str(int(data[key].sum())) for key in MASKS)
    return replace(task, split=f"given {counts}")


def _check_masks(data: Data, *, name: str) -> None:
    """Raise DataError for a mask that does not pick nodes, or picks none, or one without a label."""
    import torch

    for key in MASKS:
        mask = data[key]
        if mask.dtype != torch.bool or mask.shape != (data.num_nodes,):
            raise DataError(
                f"expected {key} of type bool and shape [nodes] in {name} "
                f"(got {mask.dtype}, {tuple(mask.shape)})"
            )
        labels = data.y[mask]
        if labels.numel() == 0:
            raise DataError(f"expected at least one node in {key} of {name} (got none)")
        if bool((labels < 0).any()):
            raise DataError(f"expected labels of at least 0 in {key} of {name} (got {int(labels.min())})")
