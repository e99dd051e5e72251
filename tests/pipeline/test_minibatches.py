from __future__ import annotations

import copy
import os
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.loader import NeighborLoader

import sgq
from quantizers import Quantizer
from sgq.errors import PlanError, UsageError
from sgq.graph.buckets import DegreeBuckets, current_buckets
from sgq.graph.wrap import quantizers_of
from sgq.models import build
from sgq.pipeline.tasks import NodeTask
from tests.pipeline.neighbor_sampling import neighbor_loader
from tests.pipeline.trained_models import EDGES, TAQ, community_graph, float_model, recipe

BUCKETS = (4, 16, 64)


@pytest.fixture(scope="module")
def large_graph() -> Data:
    """Computers where its files are at hand, else the embedded graph; with whole-graph buckets."""
    name = "computers" if os.environ.get("SGQ_DATA") else "synthetic"
    return DegreeBuckets(BUCKETS)(sgq.load_data(name, features="dense").data)


def bucketed_community() -> Data:
    return DegreeBuckets(EDGES)(community_graph())


def wrapped_on(data: Data) -> nn.Module:
    task = NodeTask(data, buckets=EDGES)
    model = float_model()
    plan = sgq.plan(model, recipe(TAQ), data)
    wrapped = sgq.wrap(model, plan, bucket=data.bucket)
    sgq.calibrate(wrapped, plan, task)
    return wrapped


def test_every_sampled_node_of_a_large_graph_has_its_whole_graph_bucket(large_graph: Data) -> None:
    torch.manual_seed(0)
    loader = neighbor_loader(large_graph, neighbors=(10, 5), batch_size=64)
    degrees = torch.bincount(large_graph.edge_index[1], minlength=int(large_graph.num_nodes))
    differing = 0
    for batch in loader:
        assert torch.equal(batch.bucket, large_graph.bucket[batch.n_id])
        inside = DegreeBuckets(BUCKETS)(copy.copy(batch)).bucket
        differing += int((inside != batch.bucket).sum())
        assert torch.equal(
            torch.bucketize(degrees[batch.n_id], torch.tensor(BUCKETS), right=True), batch.bucket
        )
    assert differing > 0  # degrees counted in the sample would have given other buckets


def test_mini_batch_training_with_taq_on_a_large_graph_follows_whole_graph_buckets(large_graph: Data) -> None:
    torch.manual_seed(0)
    classes = int(large_graph.y.max()) + 1
    model = build("gcn", in_channels=large_graph.x.size(1), out_channels=classes)
    plan = sgq.plan(model, "sgquant/gcn-taq", large_graph)
    loader = neighbor_loader(large_graph, neighbors=(10, 5), batch_size=64)
    task = NodeTask(large_graph, loader=loader, buckets=BUCKETS)
    wrapped = sgq.wrap(model, plan, bucket=large_graph.bucket)
    sgq.calibrate(wrapped, plan, task)
    optimiser = torch.optim.Adam(wrapped.parameters(), lr=0.05)
    bound: list[Tensor] = []
    handle = wrapped.convs[1].register_forward_pre_hook(lambda *_: bound.append(current_buckets()))
    wrapped.train()
    losses = []
    for _ in range(4):
        for batch in loader:
            optimiser.zero_grad()
            logits = wrapped(batch.x, batch.edge_index, bucket=batch.bucket)
            loss = task.loss(logits, batch)
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
            assert torch.equal(bound[-1], large_graph.bucket[batch.n_id])
    handle.remove()
    assert len(losses) == 4 * len(loader)
    assert sum(losses[-len(loader) :]) < sum(losses[: len(loader)])


def test_apply_with_a_neighbor_loader_trains_on_batches_and_evaluates_the_whole_graph() -> None:
    loader = neighbor_loader(bucketed_community())
    applied = sgq.apply(float_model(trained=True), recipe(TAQ), loader)
    assert len(applied.history.epochs) == 4
    assert applied.accuracy.test > 0.5
    whole = applied.model(loader.data.x, loader.data.edge_index)
    assert whole.shape == (90, 3)


def test_a_loader_without_buckets_names_the_transform() -> None:
    loader = neighbor_loader(community_graph())
    with pytest.raises(UsageError, match=r"no buckets: apply sgq\.DegreeBuckets\(\[3, 6\]\)"):
        sgq.apply(float_model(), recipe(TAQ), loader)


def test_a_loader_with_the_buckets_of_other_edges_is_refused() -> None:
    loader = neighbor_loader(DegreeBuckets([1, 2, 3, 4])(community_graph()))
    with pytest.raises(
        UsageError, match=r"other buckets than the plan: apply sgq\.DegreeBuckets\(\[3, 6\]\)"
    ):
        sgq.apply(float_model(), recipe(TAQ), loader)


def test_a_batch_without_its_buckets_names_the_transform_and_the_argument() -> None:
    data = bucketed_community()
    wrapped = wrapped_on(data)
    batch = next(iter(neighbor_loader(data)))
    with pytest.raises(PlanError, match=r"sgq\.DegreeBuckets.*bucket=batch\.bucket"):
        wrapped(batch.x, batch.edge_index)


def test_two_threads_train_on_two_batches_without_mixing_their_buckets() -> None:
    data = bucketed_community()
    wrapped = wrapped_on(data)
    torch.manual_seed(0)
    batches = list(neighbor_loader(data, neighbors=(3, 2), batch_size=15))
    assert len(batches) == 2
    assert batches[0].num_nodes != batches[1].num_nodes
    alone = [wrapped(batch.x, batch.edge_index, bucket=batch.bucket).detach() for batch in batches]
    barrier = Barrier(2, timeout=30)

    class Meet(nn.Module):
        """Stands before a quantizer: goes on when the other thread is inside its forward as well."""

        def forward(self, *_: object) -> None:
            barrier.wait()

    handle = wrapped.convs[0].register_forward_pre_hook(Meet())

    def steps(index: int) -> list[Tensor]:
        batch = batches[index]
        results = []
        for _ in range(20):
            logits = wrapped(batch.x, batch.edge_index, bucket=batch.bucket)
            torch.autograd.grad(logits.sum(), list(wrapped.parameters()))
            results.append(logits.detach())
        return results

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(steps, range(2)))
    handle.remove()
    for results, wanted in zip(found, alone, strict=True):
        assert len(results) == 20
        assert all(torch.equal(result, wanted) for result in results)


def test_quantizers_see_the_rows_of_the_batch_and_no_others() -> None:
    data = bucketed_community()
    wrapped = wrapped_on(data)
    loader: NeighborLoader = neighbor_loader(data)
    seen: list[tuple[int, int]] = []

    def note(_: Quantizer, args: tuple[Tensor, Tensor]) -> None:
        seen.append((args[0].size(0), args[1].size(0)))

    bucketed = [quantizer for quantizer in quantizers_of(wrapped).values() if quantizer.spec.bucketed]
    handles = [quantizer.register_forward_pre_hook(note) for quantizer in bucketed]
    for batch in loader:
        seen.clear()
        wrapped(batch.x, batch.edge_index, bucket=batch.bucket)
        assert set(seen) == {(batch.num_nodes, batch.num_nodes)}
        assert len(seen) == len(bucketed)
    for handle in handles:
        handle.remove()
