"""Searched models: DGCNN against one written by hand, batches, graphs, and what sites they have."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torch_geometric.data import Batch, Data

from sgq.errors import DataError, ModelError
from sgq.models.dgcnn import dgcnn
from sgq.models.genotype import Aggregate, Combine, Concat, Connect, Genotype, Head, Pool, Sample
from sgq.models.genotype_recipe import recipe_of
from sgq.models.genotype_sampling import with_bits
from sgq.models.searched import SearchedModel, build_genotype
from sgq.pipeline.planning import plan_for
from sgq.pipeline.tasks import GraphTask


class HandWrittenDgcnn(nn.Module):
    """DGCNN's classifier as its authors wrote it, 2-d convolutions over clouds, channels, points, k."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k
        self.convs = nn.ModuleList(
            nn.Sequential(nn.Conv2d(i, o, 1, bias=False), nn.BatchNorm2d(o), nn.LeakyReLU(0.2))
            for i, o in ((6, 64), (128, 64), (128, 128), (256, 256))
        )
        self.embed = nn.Sequential(nn.Conv1d(512, 1024, 1, bias=False), nn.BatchNorm1d(1024))
        self.head = nn.Sequential(
            nn.Linear(2048, 512, bias=False), nn.BatchNorm1d(512), nn.LeakyReLU(0.2),
            nn.Linear(512, 256, bias=False), nn.BatchNorm1d(256), nn.LeakyReLU(0.2), nn.Linear(256, 40),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of x [clouds, points, channels]."""
        made = []
        for conv in self.convs:
            near = torch.cdist(x, x).topk(self.k, dim=2, largest=False).indices
            neighbours = torch.stack([cloud[index] for cloud, index in zip(x, near, strict=True)])
            own = x.unsqueeze(2).expand_as(neighbours)
            edges = torch.cat([neighbours - own, own], dim=3).permute(0, 3, 1, 2)
            x = conv(edges).amax(3).transpose(1, 2)
            made.append(x)
        joined = F.leaky_relu(self.embed(torch.cat(made, dim=2).transpose(1, 2)), 0.2)
        return self.head(torch.cat([joined.amax(2), joined.mean(2)], dim=1))


def with_weights_of(searched: SearchedModel, written: HandWrittenDgcnn) -> SearchedModel:
    """Return the searched DGCNN with the weights of the one by hand, whose halves lie the other way round."""
    for position, conv in zip((1, 3, 5, 7), written.convs, strict=True):
        network = searched.positions[position].network
        weight = conv[0].weight.squeeze(3).squeeze(2)
        half = weight.size(1) // 2
        network.linear.weight.data = torch.cat([weight[:, half:], weight[:, :half]], dim=1)
        network.norm.load_state_dict(conv[1].state_dict())
    searched.positions[9].linear.weight.data = written.embed[0].weight.squeeze(2)
    searched.positions[9].norm.load_state_dict(written.embed[1].state_dict())
    for layer, (linear, norm) in zip(searched.head.hidden, ((0, 1), (3, 4)), strict=True):
        layer.linear.weight.data = written.head[linear].weight
        layer.norm.load_state_dict(written.head[norm].state_dict())
    searched.head.last.load_state_dict(written.head[6].state_dict())
    return searched


def test_the_dgcnn_genotype_is_dgcnn() -> None:
    torch.manual_seed(0)
    written = HandWrittenDgcnn(6).double()
    clouds = torch.randn(3, 40, 3, dtype=torch.float64)
    written(clouds)  # running statistics that are not those of the start
    searched = build_genotype(dgcnn(6), in_channels=3, out_channels=40).double()
    searched = with_weights_of(searched, written).eval()
    logits = searched(clouds.reshape(120, 3), batch=torch.arange(120) // 40, batch_size=3)
    assert torch.allclose(logits, written.eval()(clouds))


def test_dgcnn_has_the_flops_of_the_paper() -> None:
    model = build_genotype(dgcnn(), in_channels=3, out_channels=40).eval()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(torch.randn(1024, 3))
    assert counter.get_total_flops() == pytest.approx(5.33e9, rel=0.002)


EVERY_KIND = Genotype(
    (
        Sample("knn", 5),
        Aggregate("max", "full"),
        Combine(16, "leaky_relu"),
        Sample("random", 3),
        Combine(16),
        Connect("skip"),
        Aggregate("mean", "target_relative"),
        Combine(8),
        Concat((2, 7)),
        Pool(("max", "sum")),
    ),
    Head((12,)),
    name="every kind",
)


def test_clouds_of_a_batch_do_not_see_each_other() -> None:
    torch.manual_seed(0)
    model = build_genotype(EVERY_KIND, in_channels=3, out_channels=4).double().eval()
    clouds = torch.randn(2, 32, 3, dtype=torch.float64)
    together = model(clouds.reshape(64, 3), batch=torch.arange(64) // 32, batch_size=2)
    assert together.shape == (2, 4)
    # Random neighbours are drawn for all clouds of a batch: the first cloud gets the first of them.
    assert torch.allclose(together[:1], model(clouds[0]))


def test_a_genotype_without_pool_classifies_nodes_of_a_graph() -> None:
    genotype = Genotype((Aggregate("mean", "source"), Combine(8)), Head(()))
    model = build_genotype(genotype, in_channels=3, out_channels=2, has_edges=True).eval()
    edges = torch.tensor([[0, 1, 2], [1, 2, 0]])
    assert model(torch.randn(3, 3), edges).shape == (3, 2)
    with pytest.raises(DataError, match="expected edges in the data"):
        model(torch.randn(3, 3))


def test_graphs_of_any_size_are_sampled_and_pooled() -> None:
    genotype = Genotype((Aggregate("max", "source"), Sample("knn", 2), Aggregate("sum", "relative"),
                         Pool(("mean",))), Head((4,)))  # fmt: skip
    model = build_genotype(genotype, in_channels=3, out_channels=2, has_edges=True).double().eval()
    generator = torch.Generator().manual_seed(0)
    graphs = [
        Data(
            x=torch.randn(n, 3, dtype=torch.float64, generator=generator),
            edge_index=torch.stack([torch.arange(n), torch.arange(n).roll(1)]),
        )
        for n in (3, 5, 4)
    ]
    batch = Batch.from_data_list(graphs)
    together = model(batch.x, batch.edge_index, batch.batch, batch.num_graphs)
    alone = torch.cat([model(graph.x, graph.edge_index) for graph in graphs])
    assert torch.allclose(together, alone)


def test_targets_alone_are_counted_by_their_own_sample() -> None:
    x = torch.randn(8, 3, dtype=torch.float64)
    positions = (Sample("knn", 5), Aggregate("max", "source"), Sample("knn", 2), Aggregate("sum", "target"))
    model = build_genotype(Genotype(positions, Head(())), in_channels=3, out_channels=2).double().eval()
    brought = build_genotype(Genotype(positions[:2], Head(())), in_channels=3, out_channels=2).double().eval()
    brought.head.load_state_dict(model.head.state_dict())
    with torch.no_grad():
        brought.head.last.weight *= 2.0
    assert torch.allclose(model(x), brought(x))


def test_a_sum_on_graphs_smaller_than_k_counts_the_edges_that_there_are() -> None:
    genotype = Genotype((Sample("knn", 5), Aggregate("sum", "relative")), Head(()))
    model = build_genotype(genotype, in_channels=1, out_channels=1, has_edges=True).double().eval()
    with torch.no_grad():
        model.head.last.weight.fill_(1.0)
        model.head.last.bias.zero_()
    x = torch.tensor([[0.0], [1.0], [3.0]], dtype=torch.float64)
    edges = torch.zeros(2, 1, dtype=torch.int64)
    batch = torch.tensor([0, 0, 0])
    # Every node has all three as neighbours: 0 + 1 + 3 less three times itself.
    many = model(torch.cat([x, x[:2]]), edges, torch.cat([batch, torch.tensor([1, 1])]), 2)
    assert many.flatten().tolist() == [4.0, 1.0, -5.0, 1.0, -1.0]


def test_a_genotype_that_cannot_run_builds_no_model() -> None:
    with pytest.raises(ModelError, match="aggregate needs neighbours"):
        build_genotype(Genotype((Aggregate("max", "source"),)), in_channels=3, out_channels=2)


@pytest.mark.parametrize("genotype", [EVERY_KIND, dgcnn(4)], ids=["every kind", "dgcnn"])
def test_every_width_of_a_genotype_reaches_a_site(genotype: Genotype) -> None:
    narrow = with_bits(genotype, 4)
    model = build_genotype(narrow, in_channels=3, out_channels=4).eval()
    cloud = Data(x=torch.randn(32, 3), edge_index=torch.empty(2, 0, dtype=torch.int64), y=torch.tensor([0]))
    task = GraphTask([cloud], {"train": torch.tensor([0])})
    plan = plan_for(model, recipe_of(narrow), task)
    assert {entry.spec.widths for entry in plan.quantized} == {(4,)}
    names = {str(name) for entry in plan.quantized for name in entry.site.names}
    for stage in model.stages:
        path = f"positions.{stage.position}"
        if isinstance(stage.operation, Combine):
            assert {f"{path}.linear:input", f"{path}.linear:weight"} <= names
        elif stage.reads and stage.operation.bit_components():
            assert f"{path}:input" in names
    assert "head.last:weight" in names


def test_a_genotype_in_fp32_has_no_recipe() -> None:
    with pytest.raises(ModelError, match='expected bits in "dgcnn" \\(got fp32 throughout\\)'):
        recipe_of(dgcnn())
