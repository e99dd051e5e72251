"""Genotypes in YAML: read strictly, with every fault at once, and written back.

version: 1
name: small
positions:
  - {sample: knn, k: 20}
  - {aggregate: max, message: target_relative, bits: 8}
  - {combine: 64, activation: leaky_relu, bits: {input: 8, weight: 4}}
  - {connect: skip}
  - {pool: [max, mean]}
head: {widths: [512, 256], bits: 8}
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Discriminator, Field, Tag, ValidationError

from quantizers.spec import FLOAT_BITS
from sgq.errors import GenotypeError, nearest_name
from sgq.models.dgcnn import dgcnn
from sgq.models.genotype import (
    MOST_POSITIONS,
    OPERATIONS,
    WIDEST,
    Activation,
    Aggregate,
    Combine,
    Communicate,
    Concat,
    Connect,
    Connection,
    EdgeMlp,
    Genotype,
    Head,
    Message,
    Operation,
    Pool,
    Pooling,
    Reducer,
    Sample,
    SampleMethod,
    choices_of,
)
from sgq.recipe.faults import Parts, schema_faults
from sgq.recipe.loading import read_text, read_yaml
from sgq.recipe.positions import Fault, Positions, raise_faults
from sgq.recipe.schema import FormatVersion, Part, is_mapping
from sgq.recipe.values import Flag, Number, Text, Whole, Width, one_of
from sgq.recipe.writing import in_line, yaml_text

FACTORIES = {"dgcnn": dgcnn}
"""Genotypes that have a name."""


def _known(alias: object) -> Any:
    return one_of(choices_of(alias))


class BitsPart(Part):
    """Widths by component."""

    input: Width | None = None
    message: Width | None = None
    weight: Width | None = None


WidthOrTable = Annotated[
    Annotated[Width, Tag("a width")] | Annotated[BitsPart, Tag("a table")],
    Discriminator(is_mapping("a table", other="a width")),
]
Channels = Annotated[Whole, Field(ge=1, le=WIDEST)]


class PositionPart(Part):
    """One position: exactly one operation, and what belongs to it."""

    sample: Annotated[str, _known(SampleMethod)] | None = None
    aggregate: Annotated[str, _known(Reducer)] | None = None
    combine: Channels | None = None
    connect: Annotated[str, _known(Connection)] | None = None
    pool: Annotated[tuple[Annotated[str, _known(Pooling)], ...], Field(min_length=1, max_length=2)] | None = (
        None
    )
    communicate: Flag | None = None
    edge_mlp: Channels | None = None
    concat: tuple[Annotated[Whole, Field(ge=0)], ...] | None = None
    k: Annotated[Whole, Field(ge=1)] | None = None
    message: Annotated[str, _known(Message)] | None = None
    reducer: Annotated[str, _known(Reducer)] | None = None
    activation: Annotated[str, _known(Activation)] | None = None
    bits: WidthOrTable | None = None

    @property
    def verbs(self) -> list[str]:
        """The operations that are named; one, if it is right."""
        return [verb for verb in OPERATIONS if getattr(self, verb) is not None]

    def clashes(self) -> Iterator[str]:
        """Yield what is wrong between keys."""
        verbs = self.verbs
        if len(verbs) != 1:
            got = " and ".join(verbs) or "none"
            yield f"expected one operation of {', '.join(OPERATIONS)} (got {got})"
            return
        verb = verbs[0]
        needed, possible = KEYS[verb]
        given = [key for key in ("k", "message", "reducer", "activation") if getattr(self, key) is not None]
        yield from (f'{verb} needs "{key}"' for key in needed if key not in given)
        yield from (f'{verb} has no "{key}"' for key in given if key not in (*needed, *possible))
        components = OPERATIONS[verb].bit_components()
        if self.bits is not None and not components:
            yield f"{verb} has no bits"
        elif isinstance(self.bits, BitsPart):
            for component in self.bits.model_fields_set:
                if component not in components:
                    yield f"{verb} has no bits of {component} (it has: {', '.join(components)})"
        if self.communicate is False:
            yield "expected communicate: true (got false): leave the position out instead"
        if self.pool is not None and len(set(self.pool)) < len(self.pool):
            yield f"expected two reducers that differ (got {', '.join(self.pool)})"


KEYS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "sample": (("k",), ()),
    "aggregate": (("message",), ()),
    "combine": ((), ("activation",)),
    "connect": ((), ()),
    "pool": ((), ()),
    "communicate": ((), ()),
    "edge_mlp": ((), ("reducer", "activation")),
    "concat": ((), ()),
}
"""The keys that an operation must have, and those that it may have."""


class HeadPart(Part):
    """The head; see `sgq.models.genotype.Head`."""

    widths: tuple[Channels, ...] = Head().widths
    activation: Annotated[str, _known(Activation)] = "leaky_relu"
    dropout: Annotated[Number, Field(ge=0, lt=1)] = Head().dropout
    bits: WidthOrTable | None = None


class GenotypeFile(Part):
    """A genotype as it stands in a file."""

    version: FormatVersion
    name: Annotated[Text, Field(min_length=1)]
    about: Text = ""
    positions: Annotated[tuple[PositionPart, ...], Field(max_length=MOST_POSITIONS)]
    head: HeadPart = HeadPart()


PARTS: Parts = {
    (): GenotypeFile,
    ("positions",): PositionPart,
    ("positions", "bits"): BitsPart,
    ("head",): HeadPart,
    ("head", "bits"): BitsPart,
}


def load_genotype(name_or_path: str | Path) -> Genotype:
    """Return a genotype by its name (`dgcnn`) or of a YAML file.

    Raises GenotypeError with a line `file:line:col: …` for every fault of the file.
    """
    text = str(name_or_path)
    if text in FACTORIES and not Path(name_or_path).is_file():
        return FACTORIES[text]()
    if not Path(name_or_path).is_file():
        hint = nearest_name(text, FACTORIES)
        raise GenotypeError(f'no genotype "{text}": no such file.{hint} Named: {", ".join(FACTORIES)}')
    return parse_genotype(read_text(name_or_path, error=GenotypeError), file=text)


def parse_genotype(text: str, *, file: str = "<string>") -> Genotype:
    """Return the genotype that `text` holds; `file` names it in messages."""
    document = read_yaml(text, file=file, what="genotype", error=GenotypeError)
    faults = [*document.faults, *_faults(document.data, document.positions)]
    raise_faults(file, faults, error=GenotypeError)
    read = GenotypeFile.model_validate(document.data)
    return Genotype(
        positions=tuple(map(_operation, read.positions)),
        head=Head(
            widths=read.head.widths,
            activation=read.head.activation,  # type: ignore[arg-type]
            dropout=read.head.dropout,
            **_bits(read.head.bits, ("input", "weight")),
        ),
        name=read.name,
        about=read.about,
    )


def genotype_line(genotype: Genotype) -> str:
    """Return a genotype as YAML on one line, which `parse_genotype` reads back to the same genotype."""
    line: str = yaml.safe_dump(
        document_of(genotype), default_flow_style=True, sort_keys=False, width=math.inf
    ).strip()
    return line


def genotype_text(genotype: Genotype) -> str:
    """Return a genotype as YAML that `parse_genotype` reads back to the same genotype."""
    document = document_of(genotype)
    document["positions"] = [in_line(position) for position in document["positions"]]
    document["head"] = in_line(document["head"])
    return yaml_text(document)


def document_of(genotype: Genotype) -> dict[str, Any]:
    """Return a genotype as plain data, as it stands in a file."""
    document: dict[str, Any] = {"version": 1, "name": genotype.name}
    if genotype.about:
        document["about"] = genotype.about
    document["positions"] = [_written(operation) for operation in genotype.positions]
    head = genotype.head
    written: dict[str, Any] = {
        "widths": list(head.widths),
        "activation": head.activation,
        "dropout": head.dropout,
    }
    bits = {"input": head.input_bits, "weight": head.weight_bits}
    document["head"] = written | _written_bits(bits)
    return document


def _faults(data: Mapping[str, Any], positions: Positions) -> Iterator[Fault]:
    broken: set[int] = set()
    try:
        GenotypeFile.model_validate(data)
    except ValidationError as error:
        yield from schema_faults(error, positions, parts=PARTS)
        places = (detail["loc"] for detail in error.errors())
        broken = {int(place[1]) for place in places if place[:1] == ("positions",) and len(place) > 1}
    written = data.get("positions")
    for index, part in enumerate(written if isinstance(written, list) else []):
        if index in broken or not isinstance(part, dict):
            continue
        for message in PositionPart.model_validate(part).clashes():
            yield Fault(positions.of_value(("positions", index)), f"position {index}: {message}")
    head = data.get("head")
    given = head.get("bits") if isinstance(head, dict) else None
    if isinstance(given, dict) and "message" in given:
        place = positions.of_value(("head", "bits", "message"))
        yield Fault(place, "head has no bits of message (it has: input, weight)")


def _operation(part: PositionPart) -> Operation:
    (verb,) = part.verbs
    kind = OPERATIONS[verb]
    bits = _bits(part.bits, kind.bit_components())
    value: Any = getattr(part, verb)
    activation: dict[str, Any] = {} if part.activation is None else {"activation": part.activation}
    if kind is Sample:
        assert part.k is not None
        return Sample(value, part.k, **bits)
    if kind is Aggregate:
        return Aggregate(value, part.message, **bits)  # type: ignore[arg-type]
    if kind is EdgeMlp:
        reducer: dict[str, Any] = {} if part.reducer is None else {"reducer": part.reducer}
        return EdgeMlp(value, **reducer, **activation, **bits)
    if kind is Combine:
        return Combine(value, **activation, **bits)
    if kind is Connect:
        return Connect(value)
    if kind is Concat:
        return Concat(value)
    return Communicate() if kind is Communicate else Pool(value, **bits)


def _bits(written: BitsPart | int | None, components: tuple[str, ...]) -> dict[str, Any]:
    """Return widths by field: one for all, those that are named, or none (fp32)."""
    if written is None:
        return {}
    if isinstance(written, int):
        return {f"{component}_bits": written for component in components}
    named = ((component, getattr(written, component)) for component in components)
    return {f"{component}_bits": bits for component, bits in named if bits is not None}


def _written(operation: Operation) -> dict[str, Any]:
    verb = operation.verb
    data: dict[str, Any]
    if isinstance(operation, Sample):
        data = {verb: operation.method, "k": operation.k}
    elif isinstance(operation, Aggregate):
        data = {verb: operation.reducer, "message": operation.message}
    elif isinstance(operation, EdgeMlp):
        data = {verb: operation.width, "reducer": operation.reducer, "activation": operation.activation}
    elif isinstance(operation, Combine):
        data = {verb: operation.width, "activation": operation.activation}
    elif isinstance(operation, Connect):
        data = {verb: operation.connection}
    elif isinstance(operation, Concat):
        data = {verb: list(operation.positions)}
    elif isinstance(operation, Pool):
        data = {verb: list(operation.reducers)}
    else:
        data = {verb: True}
    return data | _written_bits(operation.bits)


def _written_bits(bits: dict[str, int]) -> dict[str, Any]:
    narrow = {component: width for component, width in bits.items() if width < FLOAT_BITS}
    if narrow and len(set(bits.values())) == 1:
        return {"bits": next(iter(bits.values()))}
    return {"bits": narrow} if narrow else {}
