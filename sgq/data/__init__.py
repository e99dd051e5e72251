"""Data sets by name, splits with a stated seed, the embedded synthetic graphs, and the user's own data."""

from __future__ import annotations

from sgq.data.adjacency import normalise_adjacency
from sgq.data.dataset import GraphDataset
from sgq.data.factory import import_factory, is_factory_path
from sgq.data.loading import load
from sgq.data.registry import dataset_names, one_spelling
from sgq.data.resolution import resolve_data
from sgq.data.validation import check_data

__all__ = [
    "GraphDataset",
    "check_data",
    "dataset_names",
    "import_factory",
    "is_factory_path",
    "load",
    "normalise_adjacency",
    "one_spelling",
    "resolve_data",
]
