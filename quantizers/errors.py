"""The exception tree: everything that sgq and quantizers raise on purpose descends from SgqError.

A message says what is wrong, where, the nearest right name and what to do. `exit_code` is what the
command line returns for it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SgqError(Exception):
    """Base of all errors that this library raises on purpose."""

    exit_code = 1


class QuantizerError(SgqError):
    """A quantizer was asked for something that it cannot do (bits, granularity, shape, phase)."""

    exit_code = 3


def nearest_name(name: str, known: Iterable[str]) -> str:
    """Return ' Did you mean "x"?' for the known name closest to `name`, or '' when none is close."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f' Did you mean "{matches[0]}"?' if matches else ""
