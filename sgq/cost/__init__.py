"""What a plan costs: memory by site, modelled."""

from sgq.cost.memory import MemoryReport, SiteMemory, memory_of, site_memory

__all__ = ["MemoryReport", "SiteMemory", "memory_of", "site_memory"]
