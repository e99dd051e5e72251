"""Automatic bit selection: search the bits of a recipe for the least memory inside an accuracy limit.

    result = sgq.bits.search(space, evaluate, memory, trials=200, limit={"accuracy_drop": 0.004})

The sampler `abs` follows SGQuant (arXiv 2007.05100): a learned model of accuracy decides what to measure
next.
"""

from __future__ import annotations

from sgq.bits.abs_sampler import AbsSampler
from sgq.bits.limits import Limits
from sgq.bits.searching import SearchResult, search
from sgq.bits.space import Axis, Space
from sgq.bits.trials import Evaluation, Trial

__all__ = ["AbsSampler", "Axis", "Evaluation", "Limits", "SearchResult", "Space", "Trial", "search"]
