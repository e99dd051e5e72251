"""The ends of a space in bytes: of the fewest bits everywhere, and of the most.

Bits say which assignment is smallest, but texts (names of quantizers) have no order: the ends are looked for
among all combinations of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from sgq.bits.space import Codes, Space

if TYPE_CHECKING:
    from sgq.bits.proposals import MemoryOf

MOST_TEXTS = 4096
"""So many combinations of texts are looked at."""


@dataclass(frozen=True)
class Ends:
    """The assignment of least bytes, and the bytes of the smallest and of the largest one.

    `certain`: all combinations of texts were looked at, so that nothing is smaller or larger.
    """

    smallest: Codes
    least_bytes: float
    most_bytes: float
    certain: bool

    @classmethod
    def of(cls, space: Space, memory: MemoryOf) -> Ends:
        """Return the ends of a space."""
        narrow = list(islice(space.beside_texts(space.narrowest), MOST_TEXTS))
        wide = list(islice(space.beside_texts(space.widest), MOST_TEXTS))
        of_narrow, of_wide = memory(np.array(narrow)), memory(np.array(wide))
        return cls(
            smallest=narrow[int(of_narrow.argmin())],
            least_bytes=float(min(of_narrow.min(), of_wide.min())),
            most_bytes=float(max(of_narrow.max(), of_wide.max())),
            certain=space.texts <= MOST_TEXTS,
        )
