from __future__ import annotations

import os

# Set before torch is imported: the workers of a parallel run share the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)
