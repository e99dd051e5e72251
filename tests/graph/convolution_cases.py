"""Every convolution of `torch_geometric.nn.conv` that runs on plain torch, with weights and inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch_geometric.nn import conv
from torch_geometric.utils import degree

from tests.graph.convolution_graph import (
    CHANNELS,
    EDGE_CHANNELS,
    HYPEREDGES,
    METADATA,
    NODES,
    RELATIONS,
    Arguments,
    Graph,
    attributed,
    bipartite,
    bipartite_attributed,
    bipartite_weighted,
    heterogeneous,
    initial,
    located,
    plain,
    random_graph,
    signed,
    typed,
    weighted,
    with_csr,
)


@dataclass(frozen=True)
class ConvolutionCase:
    """One way to use one convolution.

    `edges` are the positions of forward's arguments that take an adjacency (none for a hypergraph's
    incidences), `idle` the parameters that have no influence on the output in this use.
    """

    name: str
    make: Callable[[], nn.Module]
    inputs: Callable[[Graph], Arguments]
    edges: tuple[int, ...] = (1,)
    idle: frozenset[str] = frozenset()

    @property
    def convolution(self) -> str:
        """The class's name, which is the case's name up to the first dash."""
        return self.name.partition("-")[0]

    @property
    def csr(self) -> bool:
        """Whether the float convolution takes a CSR adjacency and gives what it gives with `edge_index`."""
        return self.name not in WITHOUT_CSR

    def build(self) -> nn.Module:
        """The module in eval mode: the same weights each time, none of them left at a neutral value."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(20)
            module = self.make()
            perturb(module)
        return module.eval()

    def arguments(self, *, simple: bool = False) -> Arguments:
        """What forward gets, edges as `edge_index`; `simple`: without self-loops and multi-edges."""
        return self.inputs(random_graph(simple=simple))

    def csr_arguments(self) -> Arguments:
        """What `arguments(simple=True)` gives, with every adjacency as CSR and edge weights as its values."""
        if not self.edges:
            raise ValueError(f"expected a convolution with an adjacency (got {self.name!r})")
        graph = random_graph(simple=True)
        return with_csr(graph, self.inputs(graph))


def perturb(module: nn.Module) -> None:
    """Move every parameter and running statistic off its neutral start, so that each one matters."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith("sigma"):
                parameter.uniform_(0.5, 1.5)
            elif name == "l2":  # RGATConv leaves it uninitialised
                parameter.normal_(0.1, 0.1)
            else:
                parameter.add_(0.1 * torch.randn_like(parameter))
        for name, buffer in module.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0.0, 0.2)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)


def perceptron(inputs: int, outputs: int = 8) -> nn.Sequential:
    """A two-layer perceptron."""
    return nn.Sequential(nn.Linear(inputs, 12), nn.ReLU(), nn.Linear(12, outputs))


def in_degree_histogram() -> Tensor:
    """How many nodes of the graph have each in-degree."""
    return torch.bincount(degree(random_graph().edge_index[1], NODES, dtype=torch.long))


PAIR = (CHANNELS, CHANNELS)
SCALERS = ["identity", "amplification", "attenuation"]


def convolution_cases() -> Iterator[ConvolutionCase]:
    """The table itself."""
    case, c, d, e, r = ConvolutionCase, CHANNELS, 8, EDGE_CHANNELS, RELATIONS
    yield case("SimpleConv", lambda: conv.SimpleConv(aggr="mean", combine_root="sum"), plain)
    yield case("SimpleConv-weighted", lambda: conv.SimpleConv(aggr="sum", combine_root="cat"), weighted)
    yield case("GCNConv", lambda: conv.GCNConv(c, d), plain)
    yield case("GCNConv-weighted", lambda: conv.GCNConv(c, d), weighted)
    yield case("GCNConv-raw", lambda: conv.GCNConv(c, d, normalize=False), plain)
    yield case("ChebConv", lambda: conv.ChebConv(c, d, K=3), weighted)
    yield case("SAGEConv", lambda: conv.SAGEConv(c, d), plain)
    yield case("SAGEConv-max", lambda: conv.SAGEConv(c, d, aggr="max"), plain)
    yield case("SAGEConv-several", lambda: conv.SAGEConv(c, d, aggr=["mean", "max", "std"]), plain)
    yield case("SAGEConv-project", lambda: conv.SAGEConv(c, d, project=True, normalize=True), plain)
    yield case("SAGEConv-bipartite", lambda: conv.SAGEConv(PAIR, d), bipartite)
    yield case("GraphConv", lambda: conv.GraphConv(c, d), weighted)
    yield case("GraphConv-bipartite", lambda: conv.GraphConv(PAIR, d, aggr="mean"), bipartite_weighted)
    yield case("GatedGraphConv", lambda: conv.GatedGraphConv(c, num_layers=2), weighted)
    yield case("ResGatedGraphConv", lambda: conv.ResGatedGraphConv(c, d), plain)
    yield case("ResGatedGraphConv-attributed", lambda: conv.ResGatedGraphConv(c, d, edge_dim=e), attributed)
    yield case("GATConv", lambda: conv.GATConv(c, d, heads=2), plain)
    yield case(
        "GATConv-attributed", lambda: conv.GATConv(c, d, heads=2, edge_dim=e, residual=True), attributed
    )
    yield case("GATConv-average", lambda: conv.GATConv(c, d, heads=2, concat=False), plain)
    yield case("GATConv-bipartite", lambda: conv.GATConv(PAIR, d, heads=2, add_self_loops=False), bipartite)
    yield case("GATv2Conv", lambda: conv.GATv2Conv(c, d, heads=2), plain)
    yield case("GATv2Conv-attributed", lambda: conv.GATv2Conv(c, d, heads=2, edge_dim=e), attributed)
    yield case("GATv2Conv-shared", lambda: conv.GATv2Conv(c, d, heads=2, share_weights=True), plain)
    yield case(
        "GATv2Conv-bipartite", lambda: conv.GATv2Conv(PAIR, d, heads=2, add_self_loops=False), bipartite
    )
    key_bias = frozenset(
        {"lin_key.bias"}
    )  # the softmax over a node's edges takes a shift of all keys out again
    yield case("TransformerConv", lambda: conv.TransformerConv(c, d, heads=2), plain, idle=key_bias)
    yield case(
        "TransformerConv-attributed",
        lambda: conv.TransformerConv(c, d, heads=2, beta=True, edge_dim=e),
        attributed,
        idle=key_bias,
    )
    yield case("AGNNConv", lambda: conv.AGNNConv(), plain)
    yield case("TAGConv", lambda: conv.TAGConv(c, d, K=2), weighted)
    yield case("GINConv", lambda: conv.GINConv(perceptron(c), eps=0.3, train_eps=True), plain)
    yield case("GINConv-bipartite", lambda: conv.GINConv(perceptron(c), eps=0.3), bipartite)
    yield case("GINEConv", lambda: conv.GINEConv(perceptron(c), edge_dim=e), attributed)
    yield case("ARMAConv", lambda: conv.ARMAConv(c, d, num_stacks=2, num_layers=2), weighted)
    yield case("ARMAConv-shared", lambda: conv.ARMAConv(c, d, num_layers=2, shared_weights=True), plain)
    yield case("SGConv", lambda: conv.SGConv(c, d, K=2), weighted)
    yield case("SSGConv", lambda: conv.SSGConv(c, d, alpha=0.1, K=2), weighted)
    yield case("APPNP", lambda: conv.APPNP(K=3, alpha=0.1), weighted)
    unfed = frozenset({"lins_l.0.weight"})  # a node without edges aggregates zeros
    yield case("MFConv", lambda: conv.MFConv(c, d, max_degree=2), plain, idle=unfed)
    yield case("RGCNConv", lambda: conv.RGCNConv(c, d, r), typed)
    yield case("RGCNConv-bases", lambda: conv.RGCNConv(c, d, r, num_bases=2), typed)
    yield case("RGCNConv-blocks", lambda: conv.RGCNConv(c, d, r, num_blocks=4), typed)
    yield case("FastRGCNConv", lambda: conv.FastRGCNConv(c, d, r), typed)
    yield case("FastRGCNConv-bases", lambda: conv.FastRGCNConv(c, d, r, num_bases=2, aggr="sum"), typed)
    unscaled = frozenset({"w", "l1", "b1", "l2", "b2"})  # serve `mod="additive"` and `mod="scaled"` alone
    yield case("RGATConv", lambda: conv.RGATConv(c, d, r, heads=2), typed, idle=unscaled)
    yield case(
        "RGATConv-attributed",
        lambda: conv.RGATConv(c, d, r, heads=2, edge_dim=e, mod="scaled", num_bases=2),
        lambda g: ((g.x, g.edge_index, g.edge_type, g.edge_attr), {}),
        idle=frozenset({"w"}),
    )
    yield case("SignedConv", lambda: conv.SignedConv(c, d, first_aggr=True), signed, (1, 2))
    yield case("SignedConv-deeper", lambda: conv.SignedConv(c // 2, d, first_aggr=False), signed, (1, 2))
    yield case(
        "DNAConv",
        lambda: conv.DNAConv(c, heads=2, groups=2),
        lambda g: (
            (torch.stack([g.x_initial, g.x, g.x_initial * g.x], dim=1), g.edge_index, g.edge_weight),
            {},
        ),
    )
    yield case("PointNetConv", lambda: conv.PointNetConv(perceptron(c + 3), nn.Linear(8, d)), located, (2,))
    yield case("GMMConv", lambda: conv.GMMConv(c, d, dim=e, kernel_size=2), attributed)
    yield case("GMMConv-separate", lambda: conv.GMMConv(c, d, e, 2, separate_gaussians=True), attributed)
    yield case("NNConv", lambda: conv.NNConv(c, d, perceptron(e, c * d)), attributed)
    yield case(
        "NNConv-bipartite", lambda: conv.NNConv(PAIR, d, perceptron(e, c * d), "mean"), bipartite_attributed
    )
    yield case("CGConv", lambda: conv.CGConv(c, dim=e, batch_norm=True), attributed)
    yield case("CGConv-bipartite", lambda: conv.CGConv(PAIR), bipartite)
    yield case("EdgeConv", lambda: conv.EdgeConv(perceptron(2 * c)), plain)
    yield case(
        "PPFConv",
        lambda: conv.PPFConv(perceptron(c + 4), nn.Linear(8, d)),
        lambda g: ((g.x, g.pos, g.normal, g.edge_index), {}),
        (3,),
    )
    yield case("FeaStConv", lambda: conv.FeaStConv(c, d, heads=3), plain)
    yield case(
        "PointTransformerConv",
        lambda: conv.PointTransformerConv(c, d, pos_nn=perceptron(3, d), attn_nn=perceptron(d, d)),
        located,
        (2,),
        frozenset({"attn_nn.2.bias"}),  # the same shift of all scores
    )
    yield case(
        "HypergraphConv",
        lambda: conv.HypergraphConv(c, d),
        lambda g: ((g.x, g.hyperedge_index, g.hyperedge_weight), {}),
        edges=(),
    )
    yield case(
        "HypergraphConv-attention",
        lambda: conv.HypergraphConv(c, d, use_attention=True, heads=2),
        lambda g: ((g.x, g.hyperedge_index), {"hyperedge_attr": g.hyperedge_attr, "num_edges": HYPEREDGES}),
        edges=(),
    )
    yield case("LEConv", lambda: conv.LEConv(c, d), weighted)
    yield case(
        "PNAConv",
        lambda: conv.PNAConv(
            c, d, ["mean", "max", "std"], SCALERS, in_degree_histogram(), edge_dim=e, towers=2
        ),
        attributed,
    )
    yield case("ClusterGCNConv", lambda: conv.ClusterGCNConv(c, d, diag_lambda=0.5), plain)
    yield case(
        "GENConv",
        lambda: conv.GENConv(c, d, "softmax", learn_t=True, msg_norm=True, learn_msg_scale=True, edge_dim=e),
        attributed,
    )
    yield case(
        "GENConv-power",
        lambda: conv.GENConv(c, c, aggr="power", learn_p=True, norm="layer"),
        plain,
    )
    yield case("GCN2Conv", lambda: conv.GCN2Conv(c, 0.2, theta=0.5, layer=1), initial, (2,))
    yield case("GCN2Conv-separate", lambda: conv.GCN2Conv(c, 0.2, shared_weights=False), initial, (2,))
    yield case("WLConvContinuous", lambda: conv.WLConvContinuous(), weighted)
    yield case("FiLMConv", lambda: conv.FiLMConv(c, d), plain)
    yield case("FiLMConv-typed", lambda: conv.FiLMConv(c, d, num_relations=r, act=nn.Tanh()), typed)
    yield case("SuperGATConv", lambda: conv.SuperGATConv(c, d, heads=2), plain)
    yield case("SuperGATConv-dot", lambda: conv.SuperGATConv(c, d, heads=2, attention_type="SD"), plain)
    yield case("FAConv", lambda: conv.FAConv(c, eps=0.3), initial, (2,))
    yield case("EGConv", lambda: conv.EGConv(c, c, num_heads=4), plain)
    yield case("EGConv-several", lambda: conv.EGConv(c, c, ["symnorm", "mean", "max", "std"], 4), plain)
    yield case("PDNConv", lambda: conv.PDNConv(c, d, edge_dim=e, hidden_channels=8), attributed)
    yield case("GeneralConv", lambda: conv.GeneralConv(c, d, in_edge_channels=e), attributed)
    yield case(
        "GeneralConv-attention",
        lambda: conv.GeneralConv(c, d, heads=2, attention=True, directed_msg=False, l2_normalize=True),
        plain,
    )
    yield case("HGTConv", lambda: conv.HGTConv(c, c, METADATA, heads=2), heterogeneous)
    yield case(
        "HEATConv",
        lambda: conv.HEATConv(c, d, 2, r, 5, e, 7, heads=2),
        lambda g: ((g.x, g.edge_index, g.node_type, g.edge_type, g.edge_attr), {}),
    )
    yield case(
        "HeteroConv",
        lambda: conv.HeteroConv(
            {
                METADATA[1][0]: conv.SAGEConv(PAIR, d),
                METADATA[1][1]: conv.GCNConv(c, d),
                METADATA[1][2]: conv.GATConv(PAIR, d, add_self_loops=False),
            }
        ),
        heterogeneous,
    )
    yield case("HANConv", lambda: conv.HANConv(c, d, METADATA, heads=2), heterogeneous)
    yield case("LGConv", lambda: conv.LGConv(), weighted)
    yield case(
        "PointGNNConv",
        lambda: conv.PointGNNConv(perceptron(c, 3), perceptron(c + 3), perceptron(8, c)),
        located,
        (2,),
    )
    yield case(
        "GPSConv",
        lambda: conv.GPSConv(c, conv.GINConv(perceptron(c, c)), heads=2),
        lambda g: ((g.x, g.edge_index, g.batch), {}),
    )
    yield case(
        "GPSConv-performer",
        lambda: conv.GPSConv(c, conv.GCNConv(c, c), heads=2, attn_type="performer", norm="layer_norm"),
        lambda g: ((g.x, g.edge_index, g.batch), {}),
    )
    yield case("AntiSymmetricConv", lambda: conv.AntiSymmetricConv(c, num_iters=2), plain)
    yield case("DirGNNConv", lambda: conv.DirGNNConv(conv.GCNConv(c, d)), plain)
    yield case("MixHopConv", lambda: conv.MixHopConv(c, d, powers=[0, 1, 2]), weighted)
    yield case("MeshCNNConv", lambda: conv.MeshCNNConv(c, d), lambda g: ((g.x, g.mesh), {}))


CASES: tuple[ConvolutionCase, ...] = tuple(convolution_cases())

WITHOUT_CSR: dict[str, str] = {
    "ChebConv": "its Laplacian is computed from an edge_index alone",
    "GATConv-attributed": "loses edge_attr where it removes self-loops from a CSR adjacency",
    "GATv2Conv-attributed": "loses edge_attr where it removes self-loops from a CSR adjacency",
    "ARMAConv": "its features are three-dimensional, the fused product takes matrices",
    "ARMAConv-shared": "its features are three-dimensional, the fused product takes matrices",
    "MFConv": "counts degrees on an edge_index alone",
    "RGCNConv": "selects a relation's edges from an edge_index alone",
    "RGCNConv-bases": "selects a relation's edges from an edge_index alone",
    "RGCNConv-blocks": "selects a relation's edges from an edge_index alone",
    "FiLMConv-typed": "selects a relation's edges from an edge_index alone",
    "HypergraphConv": "takes incidences of nodes and hyperedges, no adjacency",
    "HypergraphConv-attention": "takes incidences of nodes and hyperedges, no adjacency",
    "WLConvContinuous": "counts degrees on an edge_index alone",
    "PDNConv": "silently ignores the weights it computes from edge_attr: another output",
    "DirGNNConv": "turns an edge_index round",
    "MeshCNNConv": "relies on the order of a face's four edges, which CSR sorts away",
}
"""Every case whose float convolution refuses a CSR adjacency, or gives another output with it, and why."""

EXCEPTIONS: dict[str, str] = {
    "MessagePassing": "the abstract base class: its forward does nothing",
    "CuGraphSAGEConv": "needs pylibcugraphops and a CUDA device",
    "CuGraphGATConv": "needs pylibcugraphops and a CUDA device",
    "CuGraphRGCNConv": "needs pylibcugraphops and a CUDA device",
    "FusedGATConv": "needs dgNN, a CUDA kernel that replaces message passing as a whole",
    "GravNetConv": "needs the nearest-neighbour search of pyg-lib",
    "DynamicEdgeConv": "needs the nearest-neighbour search of pyg-lib",
    "XConv": "needs the nearest-neighbour search of pyg-lib",
    "SplineConv": "needs the B-spline basis of pyg-lib or torch-spline-conv",
    "PANConv": "needs torch-sparse: it multiplies sparse matrices as SparseTensor",
    "WLConv": "refines integer colours by hashing: no float tensor",
}
"""Every class that has no case, and why."""
