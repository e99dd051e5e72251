"""Accuracy against memory: which trials no other one beats in both, and how much of the plane they cover."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def front_of(memory: np.ndarray, accuracy: np.ndarray) -> np.ndarray:
    """Return the indices of the points on the front, by rising memory and so by rising accuracy.

    A point is on it when no other has at most its memory and at least its accuracy; of equal points the
    first is kept. memory, accuracy: [points]
    """
    order = np.lexsort((np.arange(len(memory)), -accuracy, memory))
    if not len(order):
        return order
    rising = accuracy[order]
    before = np.concatenate(([-np.inf], np.maximum.accumulate(rising)[:-1]))
    return order[rising > before]


def front_level(memory: np.ndarray, accuracy: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Return the best accuracy that points of at most so many bytes have; the worst of all where none is.

    memory, accuracy: [points]; at: [queries]
    """
    if not len(memory):
        return np.zeros(len(at))
    front = front_of(memory, accuracy)
    levels = np.append(accuracy.min(), accuracy[front])
    return levels[np.searchsorted(memory[front], at, side="right")]


@dataclass(frozen=True)
class Frame:
    """The part of the plane in which a hypervolume is measured, and which is scaled to 1 x 1.

    Bytes from `narrowest_bytes` to `widest_bytes`, accuracies (0 to 1) from `worst` to `best`.
    """

    narrowest_bytes: float
    widest_bytes: float
    worst: float
    best: float

    @classmethod
    def below(cls, accuracy: float, narrowest_bytes: float, widest_bytes: float) -> Frame:
        """Return the frame that reaches 10 points below an accuracy."""
        return cls(narrowest_bytes, widest_bytes, accuracy - FRAME_HEIGHT, accuracy)

    def cost(self, memory: np.ndarray) -> np.ndarray:
        """Return memory scaled to 0 (narrowest) to 1 (widest)."""
        span = max(self.widest_bytes - self.narrowest_bytes, np.finfo(float).tiny)
        return (np.asarray(memory, dtype=float) - self.narrowest_bytes) / span

    def gain(self, accuracy: np.ndarray) -> np.ndarray:
        """Return accuracy scaled to 0 (worst) to 1 (best), and cut off there."""
        return np.clip((np.asarray(accuracy, dtype=float) - self.worst) / (self.best - self.worst), 0.0, 1.0)


FRAME_HEIGHT = 0.1


def hypervolume(memory: np.ndarray, accuracy: np.ndarray, frame: Frame) -> float:
    """Return the share (0 to 1) of the frame that the points dominate: more memory and less accuracy."""
    cost, gain = frame.cost(memory), frame.gain(accuracy)
    inside = cost <= 1.0
    cost, gain = np.maximum(cost[inside], 0.0), gain[inside]
    front = front_of(cost, gain)
    edges = np.append(cost[front], 1.0)
    return float(np.sum(np.diff(edges) * gain[front]))
