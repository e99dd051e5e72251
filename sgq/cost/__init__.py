"""What a plan or an architecture costs on a device: memory, latency and energy, known before it is built."""

from __future__ import annotations

from sgq.cost.memory import MemoryReport, SiteMemory, memory_of, site_memory
from sgq.cost.pricing import Price, Pricer, price
from sgq.cost.workload import POINTS, Workload

__all__ = [
    "POINTS",
    "MemoryReport",
    "Price",
    "Pricer",
    "SiteMemory",
    "Workload",
    "memory_of",
    "price",
    "site_memory",
]
