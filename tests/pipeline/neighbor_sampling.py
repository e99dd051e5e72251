"""A NeighborLoader that runs without pyg-lib: PyG's loader over a sampler in plain torch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.loader import NeighborLoader
from torch_geometric.sampler import BaseSampler, NodeSamplerInput, SamplerOutput


class UniformSampler(BaseSampler):
    """Draws at most `neighbors[hop]` in-edges of every node that the hop before reached."""

    def __init__(self, data: Data, neighbors: tuple[int, ...]) -> None:
        self.neighbors = neighbors
        source, target = data.edge_index
        order = target.argsort(stable=True)
        self.source = source[order]
        self.start = torch.zeros(int(data.num_nodes) + 1, dtype=torch.long)
        self.start[1:] = torch.bincount(target, minlength=int(data.num_nodes)).cumsum(0)

    def sample_from_nodes(self, index: NodeSamplerInput, **_: Any) -> SamplerOutput:
        nodes, frontier = index.node, index.node
        sources, targets = [], []
        for limit in self.neighbors:
            drawn = [self._draw(int(node), limit) for node in frontier]
            sources.append(torch.cat(drawn))
            targets.append(frontier.repeat_interleave(torch.tensor([len(part) for part in drawn])))
            reached = torch.unique(sources[-1])
            frontier = reached[~torch.isin(reached, nodes)]
            nodes = torch.cat([nodes, frontier])
        position = torch.full((len(self.start) - 1,), -1)
        position[nodes] = torch.arange(len(nodes))
        row, column = position[torch.cat(sources)], position[torch.cat(targets)]
        return SamplerOutput(nodes, row, column, None, metadata=(index.input_id, index.time))

    def _draw(self, node: int, limit: int) -> Tensor:
        first, last = int(self.start[node]), int(self.start[node + 1])
        return self.source[first + torch.randperm(last - first)[:limit]]

    def sample_from_edges(self, *_: Any, **__: Any) -> SamplerOutput:
        raise NotImplementedError


def neighbor_loader(
    data: Data, *, neighbors: tuple[int, ...] = (5, 5), batch_size: int = 8
) -> NeighborLoader:
    return NeighborLoader(
        data,
        num_neighbors=list(neighbors),
        input_nodes=data.train_mask,
        batch_size=batch_size,
        shuffle=True,
        neighbor_sampler=UniformSampler(data, neighbors),
    )
