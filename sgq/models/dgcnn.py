"""DGCNN as a genotype (Wang et al., arXiv 1801.07829): the baseline of HGNAS and GCoDE."""

from __future__ import annotations

from sgq.models.genotype import Combine, Concat, EdgeMlp, Genotype, Head, Operation, Pool, Sample

EDGE_WIDTHS = (64, 64, 128, 256)
EMBEDDING = 1024


def dgcnn(k: int = 20) -> Genotype:
    """Return DGCNN for classification: four edge convolutions, each on a graph of its own, then 1,024 wide.

    1,024 points and k = 20 are 5.33 GFLOP.
    """
    positions: list[Operation] = []
    made = []
    for width in EDGE_WIDTHS:
        positions += [Sample("knn", k), EdgeMlp(width)]
        made.append(len(positions) - 1)
    positions += [Concat(tuple(made)), Combine(EMBEDDING, "leaky_relu"), Pool(("max", "mean"))]
    return Genotype(tuple(positions), Head((512, 256)), name="dgcnn", about="Dynamic graph CNN, four layers")
