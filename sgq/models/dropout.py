"""Dropout of features in either storage."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class FeatureDropout(nn.Module):
    """Dropout of dense features, or of the stored values of sparse CSR ones (zeros stay zeros anyway)."""

    def __init__(self, p: float) -> None:
        """Drop each value with probability `p` while training."""
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape and layout."""
        if not self.training or self.p == 0.0:
            return x
        if x.layout != torch.sparse_csr:
            return functional.dropout(x, self.p, True)
        return torch.sparse_csr_tensor(
            x.crow_indices(),
            x.col_indices(),
            functional.dropout(x.values(), self.p, True),
            size=x.shape,
            check_invariants=False,
        )

    def extra_repr(self) -> str:
        """Return the probability, for the module's repr."""
        return f"p={self.p}"


def densify(x: Tensor) -> Tensor:
    """Return strided features; for layers that aggregate their input before any matrix product."""
    return x.to_dense() if x.layout == torch.sparse_csr else x
