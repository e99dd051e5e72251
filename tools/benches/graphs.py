"""Two large random graphs: one whose degrees follow a power law, and one where all are equal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

SPARE = 1.1
"""Pairs drawn for each edge wanted: some are drawn twice, some are loops."""


def chung_lu(nodes: int, edges: int, *, exponent: float = 2.1, seed: int = 0) -> Tensor:
    """Return a simple directed graph [2, edges] whose expected degrees follow a power law; ids are shuffled.

    Both ends of an edge are drawn by the weights (i + i0)^(-1 / (exponent - 1)). As in Chung and Lu
    (doi 10.1073/pnas.252631999), i0 holds the largest weight at the square root of their sum, above which
    pairs would be drawn twice. Edges are sorted by target, then by source.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    mean = edges / nodes
    first = nodes * (mean * (exponent - 2) / (edges**0.5 * (exponent - 1))) ** (exponent - 1)
    rank = torch.arange(nodes, dtype=torch.float64)
    cumulated = (rank + first).pow(-1 / (exponent - 1)).cumsum(0)
    shuffled = torch.randperm(nodes, generator=generator)
    keys = torch.empty(0, dtype=torch.int64)
    while keys.numel() < edges:
        draws = torch.rand(
            2, int(SPARE * (edges - keys.numel())) + 1, dtype=torch.float64, generator=generator
        )
        ranks = torch.searchsorted(cumulated, draws * cumulated[-1]).clamp_(max=nodes - 1)
        target, source = shuffled[ranks]
        drawn = (target * nodes + source)[target != source]
        keys = torch.unique(torch.cat([keys, drawn]))
    kept = torch.randperm(keys.numel(), generator=generator)[:edges]
    keys = keys[kept].sort().values
    return torch.stack([keys % nodes, keys // nodes])


def regular(nodes: int, degree: int, *, seed: int = 0) -> Tensor:
    """Return a simple directed graph [2, nodes * degree] in which every node has `degree` random sources.

    One source comes from each of `degree` equal ranges of ids, so that they are distinct and sorted.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    size = nodes // degree
    place = torch.randint(size, (nodes, degree), generator=generator)
    begin = size * torch.arange(degree)
    target = torch.arange(nodes).unsqueeze(1).expand(nodes, degree)
    loops = begin + place == target
    source = begin + (place + loops.long()) % size
    return torch.stack([source.reshape(-1), target.reshape(-1)])
