"""Neighbours: nearest ones with ties by hand, clouds apart, graphs of unequal size."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sgq.errors import DataError
from sgq.models.neighbours import Clouds, Neighbours, Sampling, random_rows, squared_distances


def of(x: Tensor, *, k: int, count: int = 1, method: str = "knn") -> Neighbours:
    batch = torch.arange(x.size(0)) // (x.size(0) // count)
    sampling = Sampling(method, k).eval()  # type: ignore[arg-type]
    found: Neighbours = sampling(x, Clouds.of(x.size(0), batch, count, equal=True))
    return found


def test_nearest_points_on_a_line() -> None:
    found = of(torch.tensor([[0.0], [1.0], [3.0], [10.0]]), k=2)
    assert found.k == 2
    assert found.edge_index[1].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert found.edge_index[0].view(4, 2).tolist() == [[0, 1], [1, 0], [2, 1], [3, 2]]


def test_clouds_do_not_see_each_other() -> None:
    x = torch.tensor([[0.0], [5.0], [0.1], [5.1]])
    found = of(x, k=2, count=2)
    assert found.edge_index[0].view(4, 2).tolist() == [[0, 1], [1, 0], [2, 3], [3, 2]]


@pytest.mark.parametrize("method", ["knn", "random"])
def test_evaluation_gives_the_same_neighbours_every_time(method: str) -> None:
    x = torch.randn(64, 3)
    first, again = (of(x, k=5, count=2, method=method) for _ in range(2))
    assert torch.equal(first.edge_index, again.edge_index)
    source, target = first.edge_index
    assert bool((source // 32 == target // 32).all())


def test_training_draws_random_neighbours_anew() -> None:
    sampling = Sampling("random", 8).train()
    clouds = Clouds(None, 1, 100)
    drawn = [sampling(torch.zeros(100, 1), clouds).edge_index[0] for _ in range(2)]
    assert not torch.equal(*drawn)
    assert int(torch.cat(drawn).max()) < 100


def test_random_rows_stay_in_their_cloud() -> None:
    rows = random_rows(Clouds(None, 3, 7), 50, device=torch.device("cpu"), fixed=True)
    assert rows.shape == (3, 7, 50)
    assert (int(rows.min()), int(rows.max())) == (0, 6)


def test_distances_rank_as_euclidean_ones_do() -> None:
    x = torch.randn(2, 30, 5, dtype=torch.float64)
    ranked = squared_distances(x) + x.square().sum(2).unsqueeze(2)
    assert torch.allclose(ranked, torch.cdist(x, x).square())


def test_graphs_of_unequal_size_have_up_to_k_neighbours() -> None:
    x = torch.tensor([[0.0], [1.0], [9.0], [5.0], [5.5]])
    batch = torch.tensor([0, 0, 0, 1, 1])
    clouds = Clouds.of(5, batch, 2, equal=False)
    assert clouds.size is None
    found = Sampling("knn", 3).eval()(x, clouds)
    assert found.k is None
    edges = set(map(tuple, found.edge_index.t().tolist()))
    assert edges == {(a, b) for a in range(3) for b in range(3)} | {(a, b) for a in (3, 4) for b in (3, 4)}


def test_more_neighbours_than_points_are_refused() -> None:
    with pytest.raises(DataError, match="clouds of at least k = 5 points \\(got 4\\)"):
        of(torch.zeros(4, 1), k=5)


def test_clouds_of_unequal_size_are_refused() -> None:
    with pytest.raises(DataError, match="3 clouds of equally many points \\(got 7 points\\)"):
        Clouds.of(7, torch.tensor([0, 0, 1, 1, 2, 2, 2]), 3, equal=True)
    with pytest.raises(DataError, match="the points of a cloud one after the other"):
        Clouds.of(4, torch.tensor([0, 1, 0, 1]), 2, equal=True)
    with pytest.raises(DataError, match="equally many points"):
        Clouds.of(4, torch.tensor([0, 0, 0, 1]), 2, equal=True)
