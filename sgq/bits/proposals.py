"""What to measure next: model the accuracy, score thousands of unseen assignments, take those worth most.

SGQuant's ABS (arXiv 2007.05100; what is known of it is its two parts) fits a cost model of accuracy to what
was measured and measures what it predicts well. Here the cost model also says how sure it is, memory is known
exactly, and an assignment is worth the hypervolume that it is expected to add (EHVI), or, every second time
where there is an accuracy limit, the bytes that it is expected to save inside the limit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from sgq.bits.ends import Ends
from sgq.bits.front import FRAME_HEIGHT, Frame, front_level, front_of
from sgq.bits.gaussian_process import GaussianProcess
from sgq.bits.space import Codes, Space

MemoryOf = Callable[[np.ndarray], np.ndarray]
"""Bytes [assignments] of codes [assignments, axes]."""

CANDIDATES = 5000
"""How many assignments are looked at a round; a space of no more is looked at whole."""
SCORED = 800
"""How many of them, those most above the front, are scored by how sure the model is of them too."""
ROUND_SHARE = 100
"""One pick a round for every so many trials: a fit costs more the more there are."""
TUNING_GROWTH = 1.2
"""The kernel is tuned anew when there are so many times more trials."""
SQUASH = 0.1
"""Drops beyond so much count by their logarithm: how deep a collapse is matters little."""
SQUASH_AT_LIMIT = 0.02
"""Instead, where all that is asked is which side of a limit an assignment is on."""
BEST_SHARE = 20
"""The accuracy that drops are counted from is the mean of the best of so many trials."""
LEAST_START = 8
MOST_MOVES = 3


@dataclass(frozen=True)
class History:
    """What was measured: codes [trials, axes], accuracies [trials], and which trials had their full budget.

    `pending` are the codes of assignments that are being measured [running, axes]. `trainings` are the
    shares of those that each trial was measured on [trials, trainings]; see `GaussianProcess.fit`.
    """

    codes: np.ndarray
    accuracy: np.ndarray
    complete: np.ndarray
    pending: np.ndarray
    trainings: np.ndarray | None = None


@dataclass(frozen=True)
class Scored:
    """Candidates: codes [candidates, axes], bytes, and the mean and spread of what the model expects."""

    codes: np.ndarray
    packed_bytes: np.ndarray
    mean: np.ndarray
    spread: np.ndarray

    def without(self, place: int) -> Scored:
        """Return all candidates but one."""
        arrays = (self.codes, self.packed_bytes, self.mean, self.spread)
        return Scored(*(np.delete(array, place, axis=0) for array in arrays))


class Proposer:
    """The next assignments of a search, from its history alone; it never proposes what was measured.

    `accuracy_limit` (0 to 1) and `memory_limit` (bytes) are where the search should look; without memory
    limit all of the space may be proposed.
    """

    def __init__(
        self,
        space: Space,
        memory: MemoryOf,
        *,
        accuracy_limit: float | None = None,
        memory_limit: float | None = None,
        seed: int = 0,
    ) -> None:
        self.space = space
        self.memory = memory
        self.accuracy_limit = accuracy_limit
        self.memory_limit = memory_limit
        self.seed = seed
        self._model = GaussianProcess(space)
        self._tuned_at = 0
        self._counts = np.array(space.counts)
        self._ends = Ends.of(space, memory)
        self._start = self._starting_points()

    def propose(self, history: History, *, excluded: Collection[Codes] = ()) -> list[Codes]:
        """Return the next assignments to measure, best first; none where nothing is left.

        `excluded` are never proposed. The result depends on the arguments, the seed, and when the kernel was
        tuned: it is so only now and then.
        """
        left_out = np.array(sorted(excluded), dtype=np.int64).reshape(-1, len(self._counts))
        known = np.concatenate((history.codes, history.pending, left_out))
        seen = set(map(tuple, known.tolist()))
        started = [codes for codes in self._start if codes not in seen]
        if started:
            return started[:1]
        generator = np.random.default_rng((self.seed, len(known)))
        if len(history.codes) == 0:
            nowhere = np.zeros((0, len(self._counts)), dtype=np.int64)
            unseen = self._unseen_rows(self._candidates(nowhere, generator), known)
            return self._inside([tuple(row) for row in unseen.tolist()])[:1]
        return self._best(history, known, generator)

    def _starting_points(self) -> list[Codes]:
        """Return the widest, one width everywhere, and mixtures from wide to narrow in random order."""
        uniform = [self.space.uniform(width) for width in reversed(self.space.shared_widths)]
        generator = np.random.default_rng(self.seed)
        count = max(LEAST_START, len(self.space.axes))
        shares = generator.permutation((np.arange(count) + 0.5) / count)
        mixed = generator.binomial(self._counts - 1, shares[:, None], size=(count, len(self._counts)))
        points = [
            self.space.widest,
            *(codes for codes in uniform if codes is not None),
            *map(tuple, mixed.tolist()),
        ]
        kept = list(dict.fromkeys(points))
        return kept if self.memory_limit is None else self._inside([*kept, self._ends.smallest])

    def _inside(self, rows: list[Codes]) -> list[Codes]:
        """Return those that hold the memory limit, each once."""
        rows = list(dict.fromkeys(rows))
        if self.memory_limit is None or not rows:
            return rows
        inside = self.memory(np.array(rows)) <= self.memory_limit
        return [codes for codes, holds in zip(rows, inside, strict=True) if holds]

    def _best(self, history: History, known: np.ndarray, generator: np.random.Generator) -> list[Codes]:
        best = np.sort(history.accuracy)[-max(1, len(history.accuracy) // BEST_SHARE) :].mean()
        values = squashed(history.accuracy - best)
        count = len(history.codes)
        tune = count >= self._tuned_at * TUNING_GROWTH
        self._tuned_at = count if tune else self._tuned_at
        self._model.fit(history.codes, values, trainings=history.trainings, tune=tune)
        bases = history.codes[history.complete]
        mean = self._model.predict(bases)[0] if len(bases) else np.zeros(0)
        top = float(mean.max()) if len(bases) else float(values.max())
        worst = top + squashed(np.array(-FRAME_HEIGHT)).item()
        frame = Frame(self._ends.least_bytes, self._ends.most_bytes, worst=worst, best=top)
        memory = self.memory(bases) if len(bases) else np.zeros(0)
        front = front_of(memory, mean)
        limit = None if self.accuracy_limit is None else squashed(np.array(self.accuracy_limit - best)).item()
        # Running trials, and earlier picks of a round, count at what the model expects of them.
        believed = self._model.predict(history.pending)[0] if len(history.pending) else np.zeros(0)
        memory = np.concatenate((memory, self.memory(history.pending))) if len(believed) else memory
        mean = np.concatenate((mean, believed))
        unseen = self._unseen_rows(self._candidates(bases[front], generator), known)
        pool = self._scored(unseen, memory, mean)
        picks: list[Codes] = []
        for turn in range(max(1, count // ROUND_SHARE)):
            target = limit if (count + turn) % 2 else None
            if not len(pool.codes):
                break
            chosen = int(self._worth(memory, mean, pool, frame, target).argmax())
            picks.append(tuple(pool.codes[chosen].tolist()))
            memory, mean = np.append(memory, pool.packed_bytes[chosen]), np.append(mean, pool.mean[chosen])
            pool = pool.without(chosen)
        return picks

    def _worth(
        self, memory: np.ndarray, accuracy: np.ndarray, pool: Scored, frame: Frame, limit: float | None
    ) -> np.ndarray:
        """Return what each candidate is worth: bytes saved inside the limit, or, if none is, hypervolume."""
        if limit is not None:
            worth = expected_saving(memory, accuracy, pool, limit, self._ends.most_bytes)
            if worth.max() > 0.0:
                return worth
        if (
            self._ends.least_bytes == self._ends.most_bytes
        ):  # no plane to cover: what is more accurate is better
            return expected_above(pool.mean, pool.spread, float(accuracy.max(initial=frame.best)))
        return expected_improvement(memory, accuracy, pool, frame)

    def _scored(self, codes: np.ndarray, memory: np.ndarray, accuracy: np.ndarray) -> Scored:
        """Return what is expected of assignments inside the memory limit, or of the most promising of them.

        memory, accuracy: [known], what the front is of that they should be above.
        """
        packed_bytes = self.memory(codes) if len(codes) else np.zeros(0)
        if self.memory_limit is not None:
            inside = packed_bytes <= self.memory_limit
            codes, packed_bytes = codes[inside], packed_bytes[inside]
        if len(codes) > SCORED:
            above = self._model.mean(codes) - front_level(memory, accuracy, packed_bytes)
            kept = np.argpartition(-above, SCORED)[:SCORED]
            codes, packed_bytes = codes[kept], packed_bytes[kept]
        mean, spread = self._model.predict(codes) if len(codes) else (np.zeros(0), np.zeros(0))
        return Scored(codes, packed_bytes, mean, spread)

    def _candidates(self, front: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Return assignments: random ones of every mean width, and some that are few moves from the front."""
        if self.space.size <= CANDIDATES:
            return np.array(list(self.space.every()))
        axes = len(self._counts)
        half = CANDIDATES // 2
        shares = generator.random((half, 1))
        mixed = generator.binomial(self._counts - 1, np.broadcast_to(shares, (half, axes)))
        if not len(front):
            return mixed
        near = front[generator.integers(0, len(front), half)]
        return np.concatenate((mixed, moved(near, self._counts, np.arange(axes), generator)))

    def _unseen_rows(self, pool: np.ndarray, known: np.ndarray) -> np.ndarray:
        keys = row_keys(pool)
        _, first = np.unique(keys, return_index=True)
        first = first[~np.isin(keys[first], row_keys(known))]
        return pool[np.sort(first)]


def moved(
    codes: np.ndarray, counts: np.ndarray, axes: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Return each assignment a few random steps away, each of one of `axes` to its next choice.

    codes: [assignments, axes]; counts: how many choices each axis has [axes].
    """
    near, rows = codes.copy(), np.arange(len(codes))
    moves = generator.integers(1, MOST_MOVES + 1, len(codes))
    for move in range(MOST_MOVES):
        axis = axes[generator.integers(0, len(axes), len(codes))]
        step = np.where(generator.random(len(codes)) < 0.5, -1, 1)
        to = np.clip(near[rows, axis] + step, 0, counts[axis] - 1)
        near[rows, axis] = np.where(moves > move, to, near[rows, axis])
    return near


def row_keys(codes: np.ndarray) -> np.ndarray:
    """Return a 64-bit hash of each row of codes [rows, axes]; equal rows have equal hashes."""
    multipliers = np.cumprod(np.full(codes.shape[1], 0x9E3779B97F4A7C15, dtype=np.uint64))
    return (codes.astype(np.uint64) + np.uint64(1)) @ multipliers


def squashed(drop: np.ndarray, scale: float = SQUASH) -> np.ndarray:
    """Return differences to the best accuracy, or to a limit: as they are above it, ever less steep below."""
    return np.where(drop > 0, drop, -scale * np.log1p(np.maximum(-drop, 0.0) / scale))


def expected_above(mean: np.ndarray, spread: np.ndarray, level: np.ndarray | float) -> np.ndarray:
    """Return E[max(y - level, 0)] of normal y."""
    z = (mean - level) / spread
    return spread * (np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi) + z * ndtr(z))


def expected_improvement(
    memory: np.ndarray, accuracy: np.ndarray, scored: Scored, frame: Frame
) -> np.ndarray:
    """Return the hypervolume that each candidate is expected to add to the front of what is known.

    memory, accuracy: [known]. Memory is exact, so the integral over accuracies is closed on every stretch of
    memory between two members of the front.
    """
    height = frame.best - frame.worst
    front = front_of(memory, accuracy)
    gains = frame.gain(accuracy[front])
    costs = np.clip(frame.cost(memory[front]), 0.0, 1.0)
    starts, ends = np.append(0.0, costs), np.append(costs, 1.0)
    levels = np.append(0.0, gains)
    own = frame.cost(scored.packed_bytes)[:, None]
    widths = np.maximum(ends - np.maximum(starts, own), 0.0)
    mean, spread = (scored.mean - frame.worst) / height, scored.spread / height
    above = expected_above(mean[:, None], spread[:, None], levels)
    return np.sum(widths * np.maximum(above - expected_above(mean, spread, 1.0)[:, None], 0.0), axis=1)


def expected_saving(
    memory: np.ndarray, accuracy: np.ndarray, scored: Scored, limit: float, widest_bytes: float
) -> np.ndarray:
    """Return the bytes that each candidate is expected to save beyond the best known inside the limit."""
    inside = accuracy >= limit
    smallest = float(memory[inside].min()) if inside.any() else widest_bytes
    return np.maximum(smallest - scored.packed_bytes, 0.0) * ndtr((scored.mean - limit) / scored.spread)
