"""Node features: row normalisation, and sparse storage where most values are zero."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Literal

from sgq.data.registry import RowNorm

if TYPE_CHECKING:
    from torch import Tensor

FeatureLayout = Literal["auto", "dense", "csr"]

SPARSE_BELOW_DENSITY = 0.05
"""Below this share of non-zero values, "auto" stores features as CSR: a product then costs its non-zeros."""


def normalise_rows(x: Tensor, *, norm: RowNorm) -> Tensor:
    """Return dense features [nodes, features] with each row divided by its sum, or by its Euclidean length.

    With "sum" the same numbers as `torch_geometric.transforms.NormalizeFeatures`; a divisor below 1 is 1.
    """
    if x.numel() == 0:
        return x
    if norm == "length":
        return x / x.norm(dim=-1, keepdim=True).clamp_(min=1.0)
    x = x - x.min()
    return x.div_(x.sum(dim=-1, keepdim=True).clamp_(min=1.0))


def count_nonzeros(x: Tensor) -> int:
    """Return how many values of a dense or sparse CSR tensor are not zero."""
    import torch

    values = x.values() if x.layout == torch.sparse_csr else x
    return int(torch.count_nonzero(values))


def sparse_csr(x: Tensor) -> Tensor:
    """Return a dense tensor as CSR: values of the same type, int64 indices."""
    import torch

    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Sparse CSR tensor support is in beta", category=UserWarning
        )
        csr = x.to_sparse_csr()
        return torch.sparse_csr_tensor(
            csr.crow_indices(), csr.col_indices(), csr.values(), size=csr.shape, check_invariants=False
        )


def store_features(x: Tensor, *, layout: FeatureLayout = "auto") -> Tensor:
    """Return dense float features as `layout` asks: dense, csr, or whichever their density makes faster.

    CSR features cannot be indexed by row, so a neighbour sampler needs "dense".
    """
    if layout == "dense" or x.numel() == 0:
        return x
    if layout == "csr" or count_nonzeros(x) < SPARSE_BELOW_DENSITY * x.numel():
        return sparse_csr(x)
    return x
