"""Splits with a stated seed: so many nodes a class, or stratified shares of a list of graphs.

Only `Generator.random` of PCG64 and stable sorts are used, so a seed means the same split everywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy

if TYPE_CHECKING:
    from torch import Tensor

TRAIN_PER_CLASS = 20
VAL_PER_CLASS = 30


def _rank_in_class(labels: numpy.ndarray, seed: int) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Return each item's random rank inside its class and the size of its class; both int64 [items]."""
    order = numpy.argsort(numpy.random.Generator(numpy.random.PCG64(seed)).random(labels.size), kind="stable")
    order = order[numpy.argsort(labels[order], kind="stable")]
    _, first, inverse, counts = numpy.unique(
        labels[order], return_index=True, return_inverse=True, return_counts=True
    )
    rank = numpy.empty(labels.size, dtype=numpy.int64)
    size = numpy.empty(labels.size, dtype=numpy.int64)
    rank[order] = numpy.arange(labels.size) - first[inverse]
    size[order] = counts[inverse]
    return rank, size


def split_nodes_per_class(
    labels: Tensor, *, seed: int, train: int = TRAIN_PER_CLASS, val: int = VAL_PER_CLASS
) -> tuple[Tensor, Tensor, Tensor]:
    """Return boolean train, validation and test masks [nodes]: so many nodes a class, the rest for test.

    A class too small for that gives a third to each part. Nodes with a negative label are in no part.
    """
    import torch

    values = labels.detach().cpu().numpy()
    rank, size = _rank_in_class(values, seed)
    train_end = numpy.minimum(train, -(-size // 3))
    val_end = train_end + numpy.minimum(val, (size - train_end) // 2)
    labelled = values >= 0
    parts = (rank < train_end, (rank >= train_end) & (rank < val_end), rank >= val_end)
    train_mask, val_mask, test_mask = (torch.from_numpy(part & labelled) for part in parts)
    return train_mask, val_mask, test_mask


def split_graphs(labels: Tensor, *, seed: int, share: float = 0.1) -> tuple[Tensor, Tensor, Tensor]:
    """Return int64 index tensors of train, validation and test: of each class `share` in the last two.

    A class of three or more has at least one graph in each part.
    """
    import torch

    rank, size = _rank_in_class(labels.detach().cpu().numpy(), seed)
    part = numpy.maximum(numpy.rint(size * share).astype(numpy.int64), size >= 3)
    parts = (rank >= 2 * part, rank < part, (rank >= part) & (rank < 2 * part))
    train, val, test = (torch.from_numpy(numpy.flatnonzero(mask)) for mask in parts)
    return train, val, test
