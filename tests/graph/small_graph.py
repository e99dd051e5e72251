"""One small random graph with labels and masks, zoo models that fit it, and their quantized forms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from quantizers import QuantizerSpec
from sgq.data.adjacency import with_adjacency
from sgq.graph.buckets import DegreeBuckets
from sgq.graph.inputs import call
from sgq.graph.probe import find_sites
from sgq.graph.sites import Site, SiteTable, Workload
from sgq.graph.wrap import Assignment, quantizers_of, wrap_sites
from sgq.models import build, default_options

NODES, CHANNELS, CLASSES = 40, 12, 3
BUCKET_EDGES = (3, 5)

WEIGHT = QuantizerSpec(4, granularity="channel", symmetric=True, signed=True)
TENSOR = QuantizerSpec(8)
BUCKETED = QuantizerSpec((8, 4, 2), granularity="bucket")


def small_graph() -> Data:
    """40 nodes in three degree buckets, about 150 edges, sparse non-negative features."""
    generator = torch.Generator().manual_seed(3)
    ends = torch.randint(NODES, (2, 160), generator=generator)
    edge_index = torch.unique(ends[:, ends[0] != ends[1]], dim=1)
    x = torch.rand(NODES, CHANNELS, generator=generator)
    x = x * (torch.rand(NODES, CHANNELS, generator=generator) < 0.4)
    node = torch.arange(NODES)
    data = Data(
        x=x,
        edge_index=edge_index,
        y=torch.randint(CLASSES, (NODES,), generator=generator),
        train_mask=node < 20,
        val_mask=(node >= 20) & (node < 30),
        test_mask=node >= 30,
    )
    return DegreeBuckets(BUCKET_EDGES)(data)


def csr_graph() -> Data:
    return with_adjacency(small_graph(), adjacency="csr")


def zoo_model(name: str, *, dropout: float | None = None) -> nn.Module:
    torch.manual_seed(1)
    options = default_options(name)
    options = options if dropout is None else replace(options, dropout=dropout)
    return build(name, in_channels=CHANNELS, out_channels=CLASSES, options=options).eval()


def sites_on(model: nn.Module, data: Data) -> SiteTable:
    edges = data.edge_index.size(1) if "edge_index" in data else data.adj_t.values().numel()
    return find_sites(model, lambda probed: call(probed, data), Workload(int(data.num_nodes), edges))


def uniform(site: Site) -> QuantizerSpec:
    return WEIGHT if site.rows == "parameter" else TENSOR


def bucketed(site: Site) -> QuantizerSpec:
    return BUCKETED if site.rows == "node" else uniform(site)


def quantized(
    model: nn.Module,
    data: Data,
    *,
    spec: Callable[[Site], QuantizerSpec] = uniform,
    bucket: Tensor | None = None,
) -> nn.Module:
    """The model with every site quantized as `spec` says, calibrated on the graph and frozen."""
    table = sites_on(model, data)
    wrapped = wrap_sites(model, [Assignment(site, spec(site)) for site in table.sites], bucket=bucket)
    with torch.no_grad():
        call(wrapped, data)
    freeze(wrapped)
    return wrapped


def freeze(model: nn.Module) -> None:
    for quantizer in quantizers_of(model).values():
        quantizer.freeze()
