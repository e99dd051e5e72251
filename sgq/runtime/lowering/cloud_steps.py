"""Steps of searched models: neighbours found at run time, messages put together, rows pooled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sgq.models.neighbours import Clouds, random_rows
from sgq.runtime import kernels
from sgq.runtime.csr import COLUMN_PADDING, Csr
from sgq.runtime.finish import Finish
from sgq.runtime.kernels.contract import Reduction, Term
from sgq.runtime.lowering.graphs import Edges, PreparedInputs
from sgq.runtime.lowering.steps import Values, for_rows, in_float_rows
from sgq.runtime.workspace import Workspace


@dataclass
class NeighboursStep:
    """The k nearest rows of each row, as edges."""

    source: int
    output: int
    k: int

    @property
    def inputs(self) -> tuple[int, ...]:
        """The numbers of the values that it reads."""
        return (self.source,)

    def run(self, values: Values, inputs: PreparedInputs, workspace: Workspace) -> None:
        """Find them."""
        rows = in_float_rows(values[self.source], workspace)
        values[self.output] = kernels.neighbours(rows, clouds=inputs.count, k=self.k, workspace=workspace)

    def tensors(self) -> Iterator[Tensor]:
        """Yield nothing: neighbours are made anew in every run."""
        yield from ()


@dataclass
class RandomNeighboursStep:
    """The random neighbours that a model has in evaluation, as edges; the same in every run."""

    output: int
    k: int
    _drawn: dict[tuple[int, int], Csr] = field(default_factory=dict, repr=False)

    @property
    def inputs(self) -> tuple[int, ...]:
        """It reads no values."""
        return ()

    def run(self, values: Values, inputs: PreparedInputs, workspace: Workspace) -> None:
        """Hand them out; they are drawn once for clouds of one number and size."""
        key = (inputs.count, inputs.nodes)
        if key not in self._drawn:
            clouds = Clouds(None, inputs.count, inputs.nodes // inputs.count)
            picked = random_rows(clouds, self.k, device=inputs.device, fixed=True)
            first = torch.arange(inputs.count, device=inputs.device) * (clouds.size or 0)
            self._drawn[key] = fixed_degree((picked + first.view(-1, 1, 1)).flatten(0, 1))
        values[self.output] = self._drawn[key]

    def tensors(self) -> Iterator[Tensor]:
        """Yield the neighbours that are kept."""
        for graph in self._drawn.values():
            yield from graph.tensors()


@dataclass
class DistanceStep:
    """The reduced distances between the ends of the edges into each node."""

    source: int
    output: int
    edges: Edges
    reduction: Reduction
    finish: Finish = field(default_factory=Finish)

    @property
    def inputs(self) -> tuple[int, ...]:
        """The numbers of the values that it reads."""
        return (self.source, self.edges) if isinstance(self.edges, int) else (self.source,)

    def run(self, values: Values, inputs: PreparedInputs, workspace: Workspace) -> None:
        """Measure, reduce and finish."""
        values[self.output] = kernels.edge_distances(
            inputs.edges(self.edges, values),
            in_float_rows(values[self.source], workspace),
            for_rows(self.finish, inputs),
            reduction=self.reduction,
            workspace=workspace,
        )

    def tensors(self) -> Iterator[Tensor]:
        """Yield what it holds in memory."""
        yield from self.finish.tensors()


@dataclass
class AssembleStep:
    """Blocks of channels side by side, each a sum of values times factors: (number, factor) a term."""

    blocks: tuple[tuple[tuple[int, float], ...], ...]
    output: int
    finish: Finish = field(default_factory=Finish)

    @property
    def inputs(self) -> tuple[int, ...]:
        """The numbers of the values that it reads."""
        return tuple(dict.fromkeys(number for block in self.blocks for number, _ in block))

    def run(self, values: Values, inputs: PreparedInputs, workspace: Workspace) -> None:
        """Put together, and finish."""
        blocks = tuple(
            tuple(Term(values[number], factor) for number, factor in block) for block in self.blocks
        )
        values[self.output] = kernels.assemble(blocks, for_rows(self.finish, inputs), workspace=workspace)

    def tensors(self) -> Iterator[Tensor]:
        """Yield what it holds in memory."""
        yield from self.finish.tensors()


@dataclass
class PoolStep:
    """One row a graph: the rows of its nodes, reduced."""

    source: int
    output: int
    reduction: Reduction
    finish: Finish = field(default_factory=Finish)

    @property
    def inputs(self) -> tuple[int, ...]:
        """The numbers of the values that it reads."""
        return (self.source,)

    def run(self, values: Values, inputs: PreparedInputs, workspace: Workspace) -> None:
        """Reduce and finish."""
        assert inputs.members is not None
        rows = in_float_rows(values[self.source], workspace)
        values[self.output] = kernels.aggregate(
            inputs.members, rows, self.finish, reduction=self.reduction, workspace=workspace
        )

    def tensors(self) -> Iterator[Tensor]:
        """Yield what it holds in memory."""
        yield from self.finish.tensors()


SAMPLING = (NeighboursStep, RandomNeighboursStep)
"""Steps that look for neighbours in clouds of one size."""


def fixed_degree(sources: Tensor) -> Csr:
    """Return edges from sources [rows, k] to each row."""
    rows, k = sources.shape
    columns = torch.zeros(rows * k + COLUMN_PADDING, dtype=torch.int32, device=sources.device)
    columns[: rows * k] = sources.reshape(-1)
    pointers = torch.arange(0, rows * k + 1, k, dtype=torch.int32, device=sources.device)
    return Csr(pointers, columns, None, rows, rows, 1, k)


def members_of(pointers: Tensor) -> Csr:
    """Return the rows of each graph as edges into it; `pointers` [graphs + 1] tells where graphs begin."""
    nodes = int(pointers[-1])
    columns = torch.zeros(nodes + COLUMN_PADDING, dtype=torch.int32, device=pointers.device)
    columns[:nodes] = torch.arange(nodes, device=pointers.device)
    sizes = pointers.diff()
    return Csr(
        pointers.to(torch.int32), columns, None, sizes.numel(), nodes, 1, int(sizes.max()) if nodes else 0
    )
