"""Tables for a terminal, as all suites print them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


def empty_table(title: str, words: Sequence[str], figures: Sequence[str]) -> Table:
    """Return a table with columns of words, then of figures, and no rows."""
    from rich.table import Table

    table = Table(title=title)
    for name in words:
        table.add_column(name)
    for name in figures:
        table.add_column(name, justify="right", no_wrap=True)
    return table
