from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from sgq.errors import PlanError
from sgq.graph.buckets import (
    DegreeBuckets,
    assign_buckets,
    bound_buckets,
    check_edges,
    current_buckets,
    quantile_edges,
)
from tests.graph.small_graph import BUCKET_EDGES, bucketed, quantized, small_graph, zoo_model


def star() -> Data:
    """Node 0 with three in-edges, of which one is double; nodes 1 to 3 with none, node 4 isolated."""
    return Data(x=torch.ones(5, 1), edge_index=torch.tensor([[1, 2, 3, 3], [0, 0, 0, 0]]))


def test_a_bucket_holds_the_in_degrees_from_its_edge_to_below_the_next() -> None:
    degrees = torch.tensor([0, 3, 4, 15, 16, 63, 64, 1000])
    assert assign_buckets(degrees, (4, 16, 64)).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert assign_buckets(degrees, (4,)).dtype is torch.uint8


def test_degrees_count_incoming_edges_and_every_multi_edge() -> None:
    assert DegreeBuckets([1, 4])(star()).bucket.tolist() == [2, 0, 0, 0, 0]


def test_the_transform_gives_the_same_buckets_for_a_sparse_adjacency() -> None:
    from sgq.data.adjacency import with_adjacency

    wanted = DegreeBuckets(BUCKET_EDGES)(small_graph()).bucket
    sparse = with_adjacency(small_graph(), adjacency="csr")
    assert torch.equal(DegreeBuckets(BUCKET_EDGES)(sparse).bucket, wanted)


def test_quantile_edges_split_the_nodes_evenly() -> None:
    degree = torch.arange(1, 101)
    edges = quantile_edges(degree, 4)
    assert edges == (26, 51, 76)
    assert torch.bincount(assign_buckets(degree, edges).long()).tolist() == [25, 25, 25, 25]


def test_quantiles_of_equal_degrees_are_refused_with_advice() -> None:
    with pytest.raises(PlanError, match=r"cannot be split into 4 quantile buckets.*Use fewer buckets"):
        quantile_edges(torch.full((50,), 3), 4)


def test_quantiles_of_an_empty_graph_are_refused() -> None:
    with pytest.raises(PlanError, match="got 0 nodes"):
        quantile_edges(torch.empty(0, dtype=torch.long), 4)


@pytest.mark.parametrize("edges", [[], [0, 4], [4, 4], [8, 4]])
def test_bucket_edges_that_do_not_increase_are_refused(edges: list[int]) -> None:
    with pytest.raises(PlanError, match="positive and increasing"):
        check_edges(edges)


def test_the_transform_wants_edges_or_quantiles() -> None:
    with pytest.raises(PlanError, match="either edges or quantiles"):
        DegreeBuckets()
    with pytest.raises(PlanError, match="either edges or quantiles"):
        DegreeBuckets([4], quantiles=2)
    assert repr(DegreeBuckets([4, 16])) == "DegreeBuckets(edges=[4, 16])"
    assert repr(DegreeBuckets(quantiles=4)) == "DegreeBuckets(quantiles=4)"


def test_a_batch_of_graphs_concatenates_their_buckets() -> None:
    transform = DegreeBuckets([1])
    batch = Batch.from_data_list([transform(star()), transform(star())])
    assert batch.bucket.tolist() == [1, 0, 0, 0, 0] * 2


def test_a_bound_bucket_ends_with_its_block_also_after_an_error() -> None:
    outer, inner = torch.zeros(2), torch.ones(3)
    seen: list[Tensor | None] = []
    with bound_buckets(outer):
        with pytest.raises(IndexError), bound_buckets(inner):
            seen.extend([current_buckets(), inner[7]])
        seen.append(current_buckets())
    assert len(seen) == 1
    assert seen[0] is outer
    assert current_buckets() is None


def test_more_edges_than_a_byte_of_bucket_ids_holds_are_refused_with_their_number() -> None:
    with pytest.raises(PlanError, match=r"at most 254 degree bucket edges \(got 255\)"):
        DegreeBuckets(range(1, 256))


def test_the_innermost_bound_bucket_counts() -> None:
    outer, inner = torch.zeros(2), torch.ones(3)
    with bound_buckets(outer), bound_buckets(inner):
        assert current_buckets() is inner


def test_passed_buckets_override_the_models_own() -> None:
    data = small_graph()
    model = quantized(zoo_model("gcn"), data, spec=bucketed, bucket=data.bucket)
    own = model(data.x, data.edge_index)
    assert torch.equal(model(data.x, data.edge_index, bucket=data.bucket), own)
    coarse = model(data.x, data.edge_index, bucket=torch.full_like(data.bucket, 2))
    assert not torch.equal(coarse, own)
    assert torch.equal(model(data.x, data.edge_index), own)


def test_too_few_or_no_bucket_ids_name_the_transform_that_makes_them() -> None:
    data = small_graph()
    model = quantized(zoo_model("gcn"), data, spec=bucketed, bucket=data.bucket)
    with pytest.raises(PlanError, match=r"40 rows and 39 bucket ids\. Apply sgq\.DegreeBuckets"):
        model(data.x, data.edge_index, bucket=data.bucket[1:])
    model.degree_bucket = torch.empty(0, dtype=torch.uint8)
    with pytest.raises(PlanError, match=r"DegreeBuckets.*bucket=batch\.bucket"):
        model(data.x, data.edge_index)
    with pytest.raises(PlanError, match=r"no bucket ids\. Apply sgq\.DegreeBuckets"):
        model.convs[0](data.x, data.edge_index)


def test_bucket_ids_for_a_plan_without_buckets_are_an_error() -> None:
    data = small_graph()
    model = quantized(zoo_model("gcn"), data)
    with pytest.raises(PlanError, match="whose plan has no degree buckets"):
        model(data.x, data.edge_index, bucket=data.bucket)


def test_two_threads_with_two_batches_do_not_mix_their_buckets() -> None:
    data = small_graph()
    model = quantized(zoo_model("gcn"), data, spec=bucketed, bucket=data.bucket)
    batches = {size: data.subgraph(torch.arange(size)) for size in (17, 29)}
    with torch.no_grad():
        alone = {
            size: model(batch.x, batch.edge_index, bucket=batch.bucket) for size, batch in batches.items()
        }
    both_inside = threading.Barrier(2, timeout=30)

    def meet(module: object, args: object) -> None:
        both_inside.wait()  # each thread is inside its root forward, its buckets bound

    handle = model.convs[0].register_forward_pre_hook(meet)
    found: dict[int, list[Tensor]] = {size: [] for size in batches}
    failures: list[BaseException] = []

    def run(size: int) -> None:
        try:
            with torch.no_grad():
                for _ in range(10):
                    batch = batches[size]
                    found[size].append(model(batch.x, batch.edge_index, bucket=batch.bucket))
        except BaseException as error:
            failures.append(error)
            both_inside.abort()

    threads = [threading.Thread(target=run, args=(size,)) for size in batches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    handle.remove()
    assert failures == []
    for size, results in found.items():
        assert len(results) == 10
        assert all(torch.equal(result, alone[size]) for result in results)
