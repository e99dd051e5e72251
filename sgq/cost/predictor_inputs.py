"""What a predictor is given: graphs of architectures, with a device's look-up table and the modelled peak."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
import torch

from sgq.cost.architecture_graph import COLUMNS, GLOBAL, INPUT, OUTPUT, PLACE, SHORTEST_S, Row, size_of
from sgq.cost.predictor import Batch
from sgq.cost.workload import Workload

BEFORE, AFTER = 2, 1
"""Nodes before the positions (global and input), and after the head (output)."""


def batch_of_rows(
    rows: Sequence[Sequence[Row]],
    seconds: Sequence[float],
    peak_bytes: Sequence[float],
    workload: Workload,
) -> Batch:
    """Return architectures together: rows of their positions and head layers, in order.

    `seconds` and `peak_bytes` are what the look-up table and the memory model say of each.
    """
    counts = np.array([len(own) for own in rows], dtype=np.int64)
    lengths = counts + BEFORE + AFTER
    nodes = np.zeros((len(rows), lengths.max(initial=0), len(COLUMNS)), dtype=np.float32)
    of = np.repeat(np.arange(len(rows)), counts)
    at = np.arange(len(of)) - np.repeat(np.cumsum(counts) - counts, counts) + BEFORE
    if len(of):
        known = np.frombuffer(b"".join(chain.from_iterable(rows)), dtype=np.float32)
        nodes[of, at] = known.reshape(len(of), len(COLUMNS))
    total = np.array(seconds, dtype=np.float32)
    nodes[..., PLACE["share of the time"]] /= np.maximum(total, SHORTEST_S)[:, None]
    held = np.exp(nodes[..., PLACE["log bytes"]]) * nodes.any(axis=2)
    last = lengths - 1
    every = np.arange(len(rows))
    nodes[:, 0, PLACE[GLOBAL]] = nodes[:, 1, PLACE[INPUT]] = nodes[every, last, PLACE[OUTPUT]] = 1.0
    nodes[:, 0, PLACE["share of the time"]] = 1.0
    nodes[:, :2, PLACE["rows"]] = size_of(workload.rows)
    nodes[:, 1, PLACE["channels out"]] = size_of(workload.features)
    nodes[:, 0, PLACE["log seconds"]] = np.log(np.maximum(total, SHORTEST_S))
    nodes[:, 0, PLACE["log bytes"]] = np.log(np.maximum(held.sum(1), 1.0))
    nodes[:, 1, PLACE["log seconds"]] = nodes[every, last, PLACE["log seconds"]] = np.log(SHORTEST_S)
    base = torch.tensor([seconds, peak_bytes], dtype=torch.float32).T
    present = torch.from_numpy(np.arange(nodes.shape[1]) < lengths[:, None])
    return Batch(torch.from_numpy(nodes), present, base)
