"""The embedded graph task: 200 small graphs, tree-like ones against triangle-rich ones.

Both kinds start as a random tree and get extra edges: class 0 a few between random pairs, class 1 on
average more, which close triangles. How many overlaps between the classes. Node features are the degree,
one-hot and capped, so the classes differ in structure only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy

if TYPE_CHECKING:
    from torch_geometric.data import Data

SEED = 20210427
GRAPHS = 200
MIN_NODES, MAX_NODES = 16, 40
EXTRA_EDGES_PER_NODE = ((0.05, 0.45), (0.8, 1.6))
"""By class: the range from which a graph's number of extra edges is drawn."""
MAX_DEGREE = 9


def synthetic_graph_list() -> list[Data]:
    """Return 200 graphs with x one-hot degree [nodes, 10], y [1] in {0, 1} and both edge directions."""
    generator = numpy.random.Generator(numpy.random.PCG64(SEED))
    return [_graph(index % 2, generator) for index in range(GRAPHS)]


def _graph(label: int, generator: numpy.random.Generator) -> Data:
    import torch
    from torch_geometric.data import Data

    nodes = MIN_NODES + int(generator.random() * (MAX_NODES - MIN_NODES + 1))
    child = numpy.arange(1, nodes)
    parent = (generator.random(nodes - 1) * child).astype(numpy.int64)
    tree = numpy.stack([parent, child])
    least, most = EXTRA_EDGES_PER_NODE[label]
    extra = int((least + (most - least) * generator.random()) * nodes)
    joined = (_random_pairs if label == 0 else _closing_pairs)(tree, extra, generator)
    pairs = numpy.concatenate([tree, joined], axis=1)
    low, high = pairs.min(axis=0), pairs.max(axis=0)
    low, high = numpy.divmod(numpy.unique((low * nodes + high)[low != high]), nodes)
    edges = numpy.stack([numpy.concatenate([low, high]), numpy.concatenate([high, low])])
    degree = numpy.minimum(numpy.bincount(edges[0], minlength=nodes), MAX_DEGREE)
    x = numpy.zeros((nodes, MAX_DEGREE + 1), dtype=numpy.float32)
    x[numpy.arange(nodes), degree] = 1.0
    return Data(x=torch.from_numpy(x), edge_index=torch.from_numpy(edges), y=torch.tensor([label]))


def _random_pairs(tree: numpy.ndarray, count: int, generator: numpy.random.Generator) -> numpy.ndarray:
    return (generator.random((2, count)) * (tree.shape[1] + 1)).astype(numpy.int64)


def _closing_pairs(tree: numpy.ndarray, count: int, generator: numpy.random.Generator) -> numpy.ndarray:
    """Pairs of neighbours of one node: a tree edge, continued by another one from its parent."""
    order = numpy.argsort(tree[0], kind="stable")
    parent, child = tree[:, order]
    first = (generator.random(count) * child.size).astype(numpy.int64)
    begin = numpy.searchsorted(parent, parent[first], side="left")
    end = numpy.searchsorted(parent, parent[first], side="right")
    second = begin + (generator.random(count) * (end - begin)).astype(numpy.int64)
    return numpy.stack([child[first], child[second]])
