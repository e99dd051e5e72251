"""Random valid genotypes: what predictors learn from, and where searches start."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from quantizers.spec import FLOAT_BITS
from sgq.models.genotype import (
    WIDTHS,
    Activation,
    Aggregate,
    Combine,
    Connect,
    Genotype,
    Head,
    Message,
    Operation,
    Pool,
    Pooling,
    Reducer,
    Sample,
    choices_of,
)
from sgq.models.genotype_rules import Features, faults_of, last_features, stages_of

POOLINGS: tuple[tuple[Pooling, ...], ...] = (
    ("max",),
    ("mean",),
    ("sum",),
    ("max", "mean"),
    ("max", "sum"),
    ("mean", "sum"),
)


@dataclass(frozen=True)
class GenotypeSpace:
    """Which genotypes there are: how many positions, and what each may be.

    `widest` bounds the channels between positions. Features and weights have one of `bits`; a genotype is
    uniform (in fp32, or in one width) as often as it is mixed.
    """

    least_positions: int = 4
    most_positions: int = 12
    k: tuple[int, ...] = (10, 20, 30)
    methods: tuple[str, ...] = ("knn", "random")
    widths: tuple[int, ...] = WIDTHS
    reducers: tuple[str, ...] = choices_of(Reducer)
    messages: tuple[str, ...] = choices_of(Message)
    poolings: tuple[tuple[Pooling, ...], ...] = POOLINGS
    activations: tuple[str, ...] = choices_of(Activation)
    bits: tuple[int, ...] = (FLOAT_BITS, 8, 4, 2)
    heads: tuple[tuple[int, ...], ...] = ((512, 256), (256,), (128,))
    widest: int = 1024
    has_edges: bool = False


def random_genotype(
    space: GenotypeSpace, generator: random.Random, *, in_channels: int, name: str = "random"
) -> Genotype:
    """Return a valid genotype that ends in a pool, with bits."""
    count = generator.randint(space.least_positions, space.most_positions)
    positions: list[Operation] = []
    while len(positions) < count - 1:
        wanted = _operation(space, generator)
        tried = Genotype((*positions, wanted))
        if faults_of(tried, in_channels, has_edges=space.has_edges):
            continue
        if last_features(stages_of(tried, in_channels, has_edges=space.has_edges), in_channels).channels <= (
            space.widest
        ):
            positions.append(wanted)
    positions.append(Pool(generator.choice(space.poolings)))
    bare = Genotype(tuple(positions), Head(generator.choice(space.heads)), name=name)
    return with_random_bits(bare, space, generator, in_channels=in_channels)


def with_random_bits(
    genotype: Genotype, space: GenotypeSpace, generator: random.Random, *, in_channels: int
) -> Genotype:
    """Return the genotype with other bits: the same ones throughout, or each its own."""
    uniform = generator.choice(space.bits) if generator.random() < 0.5 else None

    def width() -> int:
        return generator.choice(space.bits) if uniform is None else uniform

    kept: dict[Features, int] = {}
    positions = list(genotype.positions)
    stages = stages_of(genotype, in_channels, has_edges=space.has_edges)
    for stage in stages:
        operation = positions[stage.position]
        changes = {}
        for component in operation.bit_components():
            if component == "weight":
                changes["weight_bits"] = width()
            else:
                bits = kept.get(stage.read) or width()
                changes[f"{component}_bits"] = bits
                if stage.reads:
                    kept[stage.read] = bits
        positions[stage.position] = replace(operation, **changes)
    last = last_features(stages, in_channels)
    head = replace(genotype.head, input_bits=kept.get(last) or width(), weight_bits=width())
    return replace(genotype, positions=tuple(positions), head=head)


def with_bits(genotype: Genotype, bits: int) -> Genotype:
    """Return the genotype with one width for all features and weights."""
    positions = tuple(
        replace(one, **{f"{component}_bits": bits for component in one.bit_components()})
        for one in genotype.positions
    )
    return replace(
        genotype, positions=positions, head=replace(genotype.head, input_bits=bits, weight_bits=bits)
    )


def _operation(space: GenotypeSpace, generator: random.Random) -> Operation:
    """Return any operation but a pool: the space's four kinds are equally frequent."""
    choose = generator.choice
    kind = choose((Sample, Aggregate, Combine, Connect))
    if kind is Sample:
        return Sample(choose(space.methods), choose(space.k))  # type: ignore[arg-type]
    if kind is Aggregate:
        return Aggregate(choose(space.reducers), choose(space.messages))  # type: ignore[arg-type]
    if kind is Combine:
        return Combine(choose(space.widths), choose(space.activations))  # type: ignore[arg-type]
    return Connect(choose(("identity", "skip")))
