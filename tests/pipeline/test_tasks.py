from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Data

import sgq
from sgq.errors import DataError, UsageError
from sgq.pipeline.tasks import GraphTask, NodeTask, bucket_edges_of, task_of, workload_of
from tests.pipeline.trained_models import community_graph


class Echo(nn.Module):
    """Its logits are the features, so that predictions are known."""

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return x


class Mean(nn.Module):
    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor, batch_size: int) -> Tensor:
        return torch.zeros(batch_size, x.size(1)).index_add_(0, batch, x)


def labelled() -> Data:
    """Four nodes in a row, of which the features name the class of all but the last."""
    return Data(
        x=torch.tensor([[1.0, 0], [0, 1], [1, 0], [1, 0]]),
        edge_index=torch.tensor([[0, 1, 2], [1, 2, 3]]),
        y=torch.tensor([0, 1, 0, 1]),
        train_mask=torch.tensor([True, True, False, False]),
        val_mask=torch.tensor([False, False, True, False]),
        test_mask=torch.tensor([False, False, True, True]),
    )


def small_graphs(count: int = 20) -> list[Data]:
    graphs = []
    for index in range(count):
        label = index % 2
        x = torch.zeros(4, 2)
        x[:, label] = 1.0
        edges = torch.tensor([[0, 1, 2], [1, 2, 3]]) if label else torch.tensor([[1, 2, 3], [0, 0, 0]])
        graphs.append(Data(x=x, edge_index=edges, y=torch.tensor([label])))
    return graphs


def test_node_predictions_and_accuracy_are_those_of_the_split() -> None:
    task = NodeTask(labelled())
    logits, labels = task.predictions(Echo(), "test")
    assert torch.equal(logits, torch.tensor([[1.0, 0], [1, 0]]))
    assert labels.tolist() == [0, 1]
    assert sgq.accuracy(Echo(), task, "test") == 0.5
    assert sgq.accuracy(Echo(), task, "val") == 1.0


def test_the_node_loss_is_the_cross_entropy_of_the_training_nodes() -> None:
    task = NodeTask(labelled())
    loss = task.loss(task.forward(Echo(), task.data), task.data)
    torch.testing.assert_close(loss, torch.tensor(2.718281828).add(1).log() - 1)


def test_a_node_task_has_one_batch_and_its_features_are_static() -> None:
    task = NodeTask(labelled())
    assert list(task.batches(seed=0)) == [task.data]
    assert task.static_features is task.data.x
    other = task.with_features(torch.zeros(4, 2))
    assert float(other.data.x.sum()) == 0
    assert float(task.data.x.sum()) == 4  # the user's data is left alone


def test_buckets_go_into_a_copy_of_the_data() -> None:
    data = labelled()
    task = NodeTask(data).with_buckets((1,))
    assert task.data.bucket.tolist() == [0, 1, 1, 1]
    assert "bucket" not in data


def test_graph_batches_have_every_training_graph_once_and_repeat_for_a_seed() -> None:
    graphs = small_graphs(10)
    for index, graph in enumerate(graphs):
        graph.number = torch.tensor([index])
    task = GraphTask(graphs, {"train": torch.arange(6), "val": torch.arange(6, 8)}, batch_size=4)
    orders = [torch.cat([batch.number for batch in task.batches(seed=seed)]).tolist() for seed in (1, 1, 2)]
    assert sorted(orders[0]) == list(range(6))
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]


def test_graph_predictions_keep_the_order_of_the_split() -> None:
    task = GraphTask(small_graphs(10), {"test": torch.tensor([3, 0, 1])}, batch_size=2)
    logits, labels = task.predictions(Mean(), "test")
    assert labels.tolist() == [1, 0, 1]
    assert logits.argmax(1).tolist() == [1, 0, 1]


def test_graph_buckets_ride_along_in_every_batch() -> None:
    task = GraphTask(small_graphs(4), {"train": torch.arange(4)}, batch_size=4).with_buckets((1, 3))
    batch = next(iter(task.batches(seed=0)))
    assert sorted(batch.bucket.view(4, 4).tolist()) == [
        [0, 1, 1, 1],
        [0, 1, 1, 1],
        [2, 0, 0, 0],
        [2, 0, 0, 0],
    ]


def test_a_graph_task_has_no_static_features() -> None:
    task = GraphTask(small_graphs(4), {"train": torch.arange(4)})
    assert task.static_features is None
    with pytest.raises(UsageError, match="no static input features"):
        task.with_features(torch.zeros(1))


def test_a_workload_counts_nodes_edges_graphs_and_the_edges_that_start_in_a_bucket() -> None:
    workload = workload_of(labelled(), (1,))
    assert (workload.nodes, workload.edges, workload.graphs) == (4, 3, 1)
    # Bucket 0 is node 0 alone (no in-edge), where one of the three edges starts.
    assert workload.bucket_nodes == (1, 3)
    assert workload.bucket_messages == (1, 2)
    batch = GraphTask(small_graphs(4), {"train": torch.arange(4)}).sample()
    assert (workload_of(batch).nodes, workload_of(batch).graphs) == (16, 4)


def test_an_empty_graph_is_a_data_error() -> None:
    with pytest.raises(DataError, match="0 nodes"):
        workload_of(Data(x=torch.empty(0, 2), edge_index=torch.empty(2, 0, dtype=torch.long)))


def test_a_graph_without_edges_and_isolated_nodes_are_fine() -> None:
    data = community_graph()
    data.edge_index = torch.empty(2, 0, dtype=torch.long)
    assert workload_of(data, (3,)).bucket_nodes == (90, 0)
    assert workload_of(data, (3,)).bucket_messages == (0, 0)


def test_quantiles_are_of_all_graphs_of_a_task() -> None:
    task = GraphTask(small_graphs(20), {"train": torch.arange(20)})
    assert bucket_edges_of(task, quantiles=2) == (1,)
    assert bucket_edges_of(task, edges=(5, 7)) == (5, 7)


def test_an_empty_split_is_a_data_error_that_names_it() -> None:
    data = labelled()
    data.val_mask = torch.zeros(4, dtype=torch.bool)
    with pytest.raises(DataError, match="expected labels in the val split of the data"):
        sgq.accuracy(Echo(), NodeTask(data), "val")
    task = GraphTask(small_graphs(4), {"train": torch.arange(4), "val": torch.arange(0)})
    with pytest.raises(DataError, match=r"expected graphs in the val split \(got none of 4\)"):
        sgq.accuracy(Mean(), task, "val")


def test_a_data_set_s_kind_decides_the_task() -> None:
    assert isinstance(task_of(sgq.load_data("synthetic")), NodeTask)
    graphs = task_of(sgq.load_data("synthetic-graphs"))
    assert isinstance(graphs, GraphTask)
    assert set(graphs.splits) == {"train", "val", "test"}


def test_as_task_takes_a_task_a_graph_or_a_list_of_graphs() -> None:
    task = NodeTask(labelled())
    assert sgq.as_task(task) is task
    assert isinstance(sgq.as_task(labelled()), NodeTask)
    assert isinstance(sgq.as_task(small_graphs(30)), GraphTask)


def test_nan_features_are_refused_before_anything_runs() -> None:
    data = labelled()
    data.x[0, 0] = float("nan")
    with pytest.raises(DataError, match=r"(?i)nan|finite"):
        sgq.as_task(data)


def test_a_loader_of_graphs_gives_its_batch_size() -> None:
    from torch_geometric.loader import DataLoader

    task = sgq.as_task(DataLoader(small_graphs(40), batch_size=7))
    assert isinstance(task, GraphTask)
    assert task.batch_size == 7
    assert [batch.num_graphs for batch in task.batches(seed=0)][:2] == [7, 7]
