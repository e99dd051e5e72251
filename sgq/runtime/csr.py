"""A graph's edges as the kernels read them: CSR by target, 32-bit, sources grouped by segment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sgq.errors import DataError
from sgq.runtime.huge_pages import large_empty

COLUMN_PADDING = 64
"""Zeros after the last column, so that prefetching ahead never reads past the end."""


@dataclass(frozen=True)
class Csr:
    """Edges by target node: the sources of target i are `columns[pointers[i·step] : pointers[(i+1)·step]]`.

    Where sources lie in `step` > 1 segments, `pointers[i·step + s]` is where those of segment s begin.
    `pointers` [rows·step + 1] and `columns` [edges + 64] are int32; `weights` [edges] fp32 or None. `longest`
    is the largest number of edges into one node.
    """

    pointers: Tensor
    columns: Tensor
    weights: Tensor | None
    rows: int
    sources: int
    step: int
    longest: int

    @property
    def edges(self) -> int:
        """How many edges there are."""
        return self.columns.numel() - COLUMN_PADDING

    @property
    def sizes(self) -> Tensor:
        """Edges into each node, int64 [rows]."""
        return self.pointers[:: self.step].long().diff()

    @property
    def targets(self) -> Tensor:
        """The target of each edge, int64 [edges]."""
        nodes = torch.arange(self.rows, device=self.columns.device)
        return torch.repeat_interleave(nodes, self.sizes)

    def tensors(self) -> Iterator[Tensor]:
        """Yield what it holds in memory."""
        yield self.pointers
        yield self.columns
        if self.weights is not None:
            yield self.weights


def csr_of(
    source: Tensor,
    target: Tensor,
    weights: Tensor | None = None,
    *,
    rows: int,
    segments: tuple[int, ...] | None = None,
) -> Csr:
    """Return edges (source and target ids, [edges] each) as CSR; `segments` counts the rows of each segment.

    Multi-edges and self-loops stay what they are. Raise DataError for ids that are no rows, and for more
    edges than 32 bits count.
    """
    sources = rows if segments is None else sum(segments)
    step = 1 if segments is None else len(segments)
    for name, ids, count in (("source", source, sources), ("target", target, rows)):
        if ids.numel() and not (int(ids.min()) >= 0 and int(ids.max()) < count):
            raise DataError(
                f"expected {name} ids of 0 to {count - 1} (got {int(ids.min())} to {int(ids.max())})"
            )
    if source.numel() >= 2**31 - COLUMN_PADDING:
        raise DataError(f"expected fewer than 2^31 edges (got {source.numel()})")
    order = torch.argsort(target.long() * max(sources, 1) + source.long(), stable=True)
    source, target = source[order].long(), target[order].long()
    place = target
    if segments is not None:
        ends = torch.tensor(segments, device=source.device).cumsum(0)
        place = target * step + torch.searchsorted(ends, source, right=True)
    counts = torch.bincount(place, minlength=rows * step)
    pointers = torch.zeros(rows * step + 1, dtype=torch.int64, device=source.device)
    torch.cumsum(counts, 0, out=pointers[1:])
    columns = large_empty(source.numel() + COLUMN_PADDING, dtype=torch.int32).to(source.device)
    columns[: source.numel()] = source
    columns[source.numel() :] = 0
    sizes = torch.bincount(target, minlength=max(rows, 1))
    return Csr(
        pointers.to(torch.int32),
        columns,
        None if weights is None else weights[order].float().contiguous(),
        rows,
        sources,
        step,
        int(sizes.max()) if source.numel() else 0,
    )
