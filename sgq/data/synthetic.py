"""The embedded node task: a degree-corrected stochastic block model of about Cora's size.

Heavy-tailed degrees with a few hubs, homophilous edges, sparse bag-of-words features. Only `random` of
PCG64, rounding and stable sorts decide the result, so it is the same on every machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy

if TYPE_CHECKING:
    from torch_geometric.data import Data

SEED = 20210426
CLASS_SIZES = (818, 426, 418, 351, 298, 217, 180)
NODES = sum(CLASS_SIZES)
EDGES = 5260
"""Undirected; each is stored in both directions."""
WORDS = 1433
TOPIC_WORDS = 120
MIN_TOKENS, MAX_TOKENS = 8, 24
HUB_WEIGHTS = (110.0, 70.0, 45.0, 30.0)
HOMOPHILY = 0.74
TOPICALITY = 0.27
TRAIN_PER_CLASS, VAL_NODES, TEST_NODES = 20, 500, 1000


def synthetic_node_data() -> Data:
    """Return the graph: x float32 {0, 1} [2708, 1433], y, edge_index [2, edges] of both directions, masks."""
    import torch
    from torch_geometric.data import Data

    generator = numpy.random.Generator(numpy.random.PCG64(SEED))
    labels = numpy.repeat(numpy.arange(len(CLASS_SIZES)), CLASS_SIZES)
    labels = labels[numpy.argsort(generator.random(NODES), kind="stable")]
    edges = _edges(labels, generator)
    words = _words(labels, generator)
    train, val, test = _masks(labels, generator)
    return Data(
        x=torch.from_numpy(words),
        edge_index=torch.from_numpy(edges),
        y=torch.from_numpy(labels),
        train_mask=torch.from_numpy(train),
        val_mask=torch.from_numpy(val),
        test_mask=torch.from_numpy(test),
    )


def _draw(weights: numpy.ndarray, uniform: numpy.ndarray) -> numpy.ndarray:
    """Return indices drawn in proportion to `weights`, one for each value of `uniform` in [0, 1)."""
    bounds = numpy.cumsum(weights)
    return numpy.minimum(numpy.searchsorted(bounds, uniform * bounds[-1], side="right"), weights.size - 1)


def _edges(labels: numpy.ndarray, generator: numpy.random.Generator) -> numpy.ndarray:
    """Degree-corrected block model (Karrer and Newman, arXiv 1008.3926): endpoints by weight, in the
    node's own class with probability HOMOPHILY. Every node starts one edge, so that few are isolated.
    """
    # Rounding hides the last-bit differences of `power` between machines.
    weights = numpy.round((1.0 - generator.random(NODES)) ** -0.55, 4)
    weights = numpy.minimum(weights, 20.0)
    hubs = numpy.argsort(generator.random(NODES), kind="stable")[: len(HUB_WEIGHTS)]
    weights[hubs] = HUB_WEIGHTS
    candidates = 3 * EDGES
    source = numpy.concatenate([numpy.arange(NODES), _draw(weights, generator.random(candidates - NODES))])
    inside = generator.random(candidates) < HOMOPHILY
    target = _draw(weights, generator.random(candidates))
    uniform = generator.random(candidates)
    for label in range(len(CLASS_SIZES)):
        members = numpy.flatnonzero(labels == label)
        chosen = numpy.flatnonzero(inside & (labels[source] == label))
        target[chosen] = members[_draw(weights[members], uniform[chosen])]
    keys = numpy.minimum(source, target) * NODES + numpy.maximum(source, target)
    keys = keys[source != target]
    _, first = numpy.unique(keys, return_index=True)
    low, high = numpy.divmod(keys[numpy.sort(first)[:EDGES]], NODES)
    both = numpy.stack([numpy.concatenate([low, high]), numpy.concatenate([high, low])])
    return both[:, numpy.lexsort((both[1], both[0]))]


def _words(labels: numpy.ndarray, generator: numpy.random.Generator) -> numpy.ndarray:
    """Each document draws tokens, with probability TOPICALITY from its class's words, else from all."""
    count = MIN_TOKENS + (generator.random(NODES) * (MAX_TOKENS - MIN_TOKENS + 1)).astype(numpy.int64)
    ranks = numpy.arange(1, WORDS + 1)
    uniform = generator.random((NODES, MAX_TOKENS))
    background = _draw(1.0 / (ranks + 20.0), uniform)
    on_topic = generator.random((NODES, MAX_TOKENS)) < TOPICALITY
    # Neighbouring classes share half of their topic words.
    start = (labels * (TOPIC_WORDS // 2))[:, None]
    spread = numpy.argsort(generator.random(WORDS), kind="stable")
    topic = spread[start + (generator.random((NODES, MAX_TOKENS)) * TOPIC_WORDS).astype(numpy.int64)]
    tokens = numpy.where(on_topic, topic, background)
    node, position = numpy.nonzero(numpy.arange(MAX_TOKENS) < count[:, None])
    words = numpy.zeros((NODES, WORDS), dtype=numpy.float32)
    words[node, tokens[node, position]] = 1.0
    return words


def _masks(labels: numpy.ndarray, generator: numpy.random.Generator) -> tuple[numpy.ndarray, ...]:
    """Boolean masks as in Planetoid's public split: 20 a class, then 500 and 1000 of the others."""
    order = numpy.argsort(generator.random(NODES), kind="stable")
    by_class = order[numpy.argsort(labels[order], kind="stable")]
    starts = numpy.cumsum((0, *CLASS_SIZES[:-1]))
    train = by_class[(starts[:, None] + numpy.arange(TRAIN_PER_CLASS)).ravel()]
    left = order[~numpy.isin(order, train)]
    parts = (train, left[:VAL_NODES], left[VAL_NODES : VAL_NODES + TEST_NODES])
    return tuple(numpy.isin(numpy.arange(NODES), part) for part in parts)
