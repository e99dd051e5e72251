"""What a plan or an architecture costs on a device: memory, latency and energy, known before it is built."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sgq.cost.memory import MemoryReport, SiteMemory, memory_of, site_memory
from sgq.cost.pricing import Price, Pricer, price
from sgq.cost.workload import POINTS, Workload

if TYPE_CHECKING:
    from sgq.cost.model_pricing import price_of_model

__all__ = [
    "POINTS",
    "MemoryReport",
    "Price",
    "Pricer",
    "SiteMemory",
    "Workload",
    "memory_of",
    "price",
    "price_of_model",
    "site_memory",
]


def __getattr__(name: str) -> Any:
    """Return what is imported when it is first used: walking models takes PyG."""
    if name != "price_of_model":
        raise AttributeError(f"module 'sgq.cost' has no attribute {name!r}")
    from sgq.cost.model_pricing import price_of_model

    return price_of_model
