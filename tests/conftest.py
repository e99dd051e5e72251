from __future__ import annotations

import os

# Set before torch is imported: the workers of a parallel run share the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def fused_path_of_sage() -> None:
    """Make a SAGEConv that can take the fused path first, whatever order tests run in.

    PyTorch Geometric writes the propagation of a class once, for its first instance: after one of several
    aggregations, which cannot, all that come later in the process raise NotImplementedError on CSR.
    """
    from torch_geometric.nn import SAGEConv

    SAGEConv(1, 1)
