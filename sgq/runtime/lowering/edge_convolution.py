"""EdgeConv: a small network on every edge, a block of target nodes at a time, then a reduction."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sgq.runtime import kernels
from sgq.runtime.csr import COLUMN_PADDING, Csr
from sgq.runtime.finish import Finish
from sgq.runtime.kernels.contract import Reduction
from sgq.runtime.lowering.graphs import Edges, PreparedInputs
from sgq.runtime.lowering.steps import Step, Values, in_float, in_float_rows
from sgq.runtime.workspace import AT_ONCE, Workspace

EDGE_BLOCK = 8192
"""Edges whose messages are held at a time; a node with more edges than that is a block of its own."""


@dataclass
class EdgeConvStep:
    """max (or sum, mean) over edges of network([x_i, x_j − x_i]); Wang et al., arXiv 1801.07829, 3.1."""

    source: int
    output: int
    edges: Edges
    network: tuple[Step, ...]
    network_output: int
    channels: int
    reduction: Reduction

    @property
    def inputs(self) -> tuple[int, ...]:
        """The numbers of the values that it reads."""
        return (self.source, self.edges) if isinstance(self.edges, int) else (self.source,)

    def run(self, values: Values, inputs: PreparedInputs, workspace: Workspace) -> None:
        """Run the network block by block, and reduce each."""
        given, graph = values[self.source], inputs.edges(self.edges, values)
        values[self.output] = workspace.computed(lambda: self._result(given, graph, inputs))

    def _result(self, given: Any, graph: Csr, inputs: PreparedInputs) -> Tensor:
        x = in_float(given)
        sizes = graph.sizes
        out = torch.zeros(graph.rows, self.channels, device=x.device)
        for first, last in _blocks(sizes):
            edges = slice(int(graph.pointers[first * graph.step]), int(graph.pointers[last * graph.step]))
            count = edges.stop - edges.start
            if count == 0:
                continue
            target = x[first:last].repeat_interleave(sizes[first:last], dim=0)
            rows = torch.cat([target, x[graph.columns[edges].long()] - target], dim=1)
            inner: Values = {0: rows}
            for step in self.network:
                step.run(inner, inputs, AT_ONCE)
            messages = in_float_rows(inner[self.network_output], AT_ONCE)
            block = _by_row(graph, first, last, count)
            reduced = kernels.aggregate(block, messages, Finish(), reduction=self.reduction)
            assert isinstance(reduced, Tensor)
            out[first:last] = reduced
        return out

    def tensors(self) -> Iterator[Tensor]:
        """Yield what it holds in memory."""
        for step in self.network:
            yield from step.tensors()


def _blocks(sizes: Tensor) -> Iterator[tuple[int, int]]:
    """Yield (first, last) of runs of nodes with at most a block of edges together."""
    ends = sizes.cumsum(0)
    first, before = 0, 0
    while first < sizes.numel():
        last = int(torch.searchsorted(ends, before + EDGE_BLOCK, right=True))
        last = max(last, first + 1)
        yield first, last
        before = int(ends[last - 1])
        first = last


def _by_row(graph: Csr, first: int, last: int, count: int) -> Csr:
    """Return the edges of some targets with their own messages as sources."""
    pointers = graph.pointers[:: graph.step][first : last + 1]
    columns: Any = torch.arange(count + COLUMN_PADDING, dtype=torch.int32, device=pointers.device)
    columns[count:] = 0
    return Csr((pointers - pointers[0]).contiguous(), columns, None, last - first, count, 1, graph.longest)
