from __future__ import annotations

import torch


def test_a_chung_lu_graph_is_simple_sorted_and_has_the_edges_asked_for() -> None:
    from benches.graphs import chung_lu

    edges = chung_lu(500, 4000, seed=3)
    assert edges.shape == (2, 4000)
    keys = edges[1] * 500 + edges[0]
    assert bool((keys.diff() > 0).all()), "sorted by target, then source, without doubles"
    assert not bool((edges[0] == edges[1]).any())
    assert torch.equal(edges, chung_lu(500, 4000, seed=3))
    assert not torch.equal(edges, chung_lu(500, 4000, seed=4))


def test_its_degrees_follow_a_power_law_and_its_ids_do_not_tell_them() -> None:
    from benches.graphs import chung_lu

    nodes = 20_000
    degree = torch.bincount(chung_lu(nodes, 400_000)[1], minlength=nodes).double()
    assert float(degree.median()) < 0.6 * float(degree.mean())
    # The number of nodes above a degree falls with its power 1 - exponent.
    above = [float((degree >= least).sum()) for least in (40, 160)]
    slope = torch.tensor(above[0] / above[1]).log() / torch.tensor(4.0).log()
    assert 0.9 < float(slope) < 1.5
    ids = torch.arange(nodes).double()
    assert abs(float(torch.corrcoef(torch.stack([ids, degree]))[0, 1])) < 0.05


def test_in_a_regular_graph_every_node_has_as_many_distinct_sources() -> None:
    from benches.graphs import regular

    edges = regular(200, 20)
    assert torch.bincount(edges[1], minlength=200).tolist() == [20] * 200
    assert torch.unique(edges, dim=1).size(1) == 4000
    assert not bool((edges[0] == edges[1]).any())
    assert bool(((edges[1] * 200 + edges[0]).diff() > 0).all())
