"""Splits with a seed."""

from __future__ import annotations

import torch

from sgq.data.splits import split_graphs, split_nodes_per_class


def test_each_class_gives_twenty_and_thirty_nodes_and_the_rest_is_test() -> None:
    labels = torch.arange(3).repeat(100)
    train, val, test = split_nodes_per_class(labels, seed=0)
    assert labels[train].bincount().tolist() == [20, 20, 20]
    assert labels[val].bincount().tolist() == [30, 30, 30]
    assert (train.int() + val.int() + test.int() == 1).all()


def test_a_seed_means_one_split_and_another_seed_another() -> None:
    labels = torch.arange(4).repeat(60)
    first = split_nodes_per_class(labels, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(first, split_nodes_per_class(labels, seed=3), strict=True))
    assert not torch.equal(first[0], split_nodes_per_class(labels, seed=4)[0])


def test_small_classes_give_a_third_to_each_part_and_unlabelled_nodes_none() -> None:
    labels = torch.tensor([0] * 9 + [1] + [-1] * 5)
    train, val, test = split_nodes_per_class(labels, seed=0)
    assert [int(mask[:9].sum()) for mask in (train, val, test)] == [3, 3, 3]
    assert bool(train[9])
    assert not (train | val | test)[10:].any()


def test_a_class_of_three_graphs_has_one_in_each_part() -> None:
    parts = split_graphs(torch.tensor([0] * 3 + [1] * 2), seed=0)
    assert [part[part < 3].numel() for part in parts] == [1, 1, 1]


def test_graphs_are_split_eighty_ten_ten_in_every_class() -> None:
    labels = torch.tensor([0] * 60 + [1] * 40)
    train, val, test = split_graphs(labels, seed=1)
    assert labels[val].bincount().tolist() == [6, 4]
    assert labels[test].bincount().tolist() == [6, 4]
    assert torch.cat([train, val, test]).sort().values.tolist() == list(range(100))
