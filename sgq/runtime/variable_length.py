"""Whole numbers in few bytes: LEB128, seven bits a byte; the eighth says whether more follow."""

from __future__ import annotations

import torch
from torch import Tensor

from sgq.errors import CheckpointError

_GROUP_BITS = 7
_MORE = 1 << _GROUP_BITS
_LONGEST = 5
"""Bytes that hold any number of 32 bits."""


def variable_length_bytes(values: Tensor) -> int:
    """Return the bytes that `to_variable_length` makes of the values."""
    return int(_lengths(values).sum())


def _lengths(values: Tensor) -> Tensor:
    """Return how many bytes each value takes."""
    limits = torch.tensor([1 << (_GROUP_BITS * groups) for groups in range(1, _LONGEST)])
    return 1 + torch.bucketize(values, limits, right=True)


def to_variable_length(values: Tensor) -> Tensor:
    """Return whole numbers from 0 to 2^32 - 1 as bytes, uint8 [variable_length_bytes(values)]."""
    lengths = _lengths(values)
    ends = lengths.cumsum(0)
    written = torch.zeros(int(lengths.sum()), dtype=torch.uint8)
    for group in range(_LONGEST):
        here = lengths > group
        content = (values[here] >> (_GROUP_BITS * group)) & (_MORE - 1)
        content |= torch.where(lengths[here] > group + 1, _MORE, 0)
        written[(ends - lengths)[here] + group] = content.to(torch.uint8)
    return written


def from_variable_length(written: Tensor, *, owner: str) -> Tensor:
    """Return the numbers that `to_variable_length` wrote, int64.

    Raises CheckpointError, naming `owner`, for a number that is too long or has no end.
    """
    ends = (written < _MORE).nonzero().view(-1)
    starts = torch.cat([ends.new_zeros(1), ends + 1])
    lengths = starts.diff()
    if int(starts[-1]) != written.numel() or (lengths.numel() and int(lengths.max()) > _LONGEST):
        raise CheckpointError(f'"{owner}": expected gaps of at most {_LONGEST} bytes, all of them ended')
    values = torch.zeros_like(lengths)
    for group in range(_LONGEST):
        here = lengths > group
        content = written[starts[:-1][here] + group].long() & (_MORE - 1)
        values[here] |= content << (_GROUP_BITS * group)
    return values
