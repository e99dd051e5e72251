"""What a verb writes: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

PIPE_WIDTH = 200
"""Columns of a table that goes into a file or a pipe, where nothing tells the width."""


def print_json(document: Any) -> None:
    """Print one JSON document on stdout."""
    print(json.dumps(document, indent=2, allow_nan=False))


def console() -> Console:
    """Return the console of results, on stdout."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else PIPE_WIDTH
    return Console(file=sys.stdout, width=width, highlight=False, markup=False, emoji=False)


def note(text: str, *, quiet: bool = False) -> None:
    """Print a line about the progress on stderr."""
    if not quiet:
        print(text, file=sys.stderr)
