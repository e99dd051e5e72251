"""What tests of the search for bits share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from sgq.bits import Space, candidates, refinement
from sgq.bits.space import Assignment
from tests.bits.beliefs import Believe


@pytest.fixture
def believe(monkeypatch: pytest.MonkeyPatch) -> Believe:
    """Let the cost model believe in so much accuracy above the limit (below it: less than 0)."""

    def put(belief: Callable[[Assignment], float]) -> None:
        class Model:
            noise = 0.0

            def __init__(self, space: Space) -> None:
                self.space = space

            def fit(
                self,
                codes: np.ndarray,
                values: np.ndarray,
                *,
                trainings: np.ndarray,
                repeats: np.ndarray | None = None,
            ) -> None:
                assert codes.shape == (len(values), len(self.space.axes))
                assert repeats is None or repeats.shape == values.shape
                assert trainings.shape[0] == len(values)
                if trainings.shape[1]:
                    np.testing.assert_allclose(trainings.sum(1), 1.0)

            def mean(self, codes: np.ndarray) -> np.ndarray:
                return np.array([belief(self.space.assignment(row)) for row in codes.tolist()])

            def predict(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
                return self.mean(codes), np.full(len(codes), 1e-9)

        monkeypatch.setattr(candidates, "GaussianProcess", Model)
        monkeypatch.setattr(refinement, "GaussianProcess", Model)

    return put
