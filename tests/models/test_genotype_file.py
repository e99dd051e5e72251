"""Genotypes in YAML: there and back, and every fault with its place."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from sgq.errors import GenotypeError
from sgq.models.dgcnn import dgcnn
from sgq.models.genotype import Aggregate, Combine, Communicate, Connect, Genotype, Head, Pool, Sample
from sgq.models.genotype_file import genotype_text, load_genotype, parse_genotype
from sgq.models.genotype_sampling import GenotypeSpace, random_genotype

SMALL = """\
version: 1
name: small
about: an example
positions:
  - {sample: knn, k: 20, bits: 8}
  - {aggregate: max, message: target_relative, bits: {message: 8}}
  - {combine: 64, activation: leaky_relu, bits: {input: 8, weight: 4}}
  - {connect: identity}
  - {communicate: true}
  - {pool: [max, mean]}
head: {widths: [256], bits: 8}
"""


def test_a_file_is_a_genotype() -> None:
    assert parse_genotype(SMALL) == Genotype(
        (
            Sample("knn", 20, input_bits=8),
            Aggregate("max", "target_relative", message_bits=8),
            Combine(64, "leaky_relu", input_bits=8, weight_bits=4),
            Connect("identity"),
            Communicate(),
            Pool(("max", "mean")),
        ),
        Head((256,), input_bits=8, weight_bits=8),
        name="small",
        about="an example",
    )


@pytest.mark.parametrize("seed", range(20))
def test_what_is_written_is_read_back(seed: int) -> None:
    genotype = random_genotype(GenotypeSpace(), random.Random(seed), in_channels=3)
    assert parse_genotype(genotype_text(genotype)) == genotype


def test_dgcnn_is_known_by_name_and_can_be_written(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(genotype_text(load_genotype("dgcnn")))
    assert load_genotype(file) == dgcnn()


def test_an_unknown_name_is_told_the_nearest() -> None:
    with pytest.raises(GenotypeError, match=r'no genotype "dgcn": no such file\. Did you mean "dgcnn"'):
        load_genotype("dgcn")


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("{sample: knm, k: 3}", "4:14: position 0, sample: expected one of knn, random (got 'knm')."),
        ("{sample: knn, k: 0}", "4:22: position 0, k: expected a number of at least 1 (got 0)"),
        ("{sample: knn}", '4:5: position 0: sample needs "k"'),
        ("{aggregate: max}", '4:5: position 0: aggregate needs "message"'),
        ("{combine: 64, k: 3}", '4:5: position 0: combine has no "k"'),
        ("{combine: 0}", "4:15: position 0, combine: expected a number of at least 1 (got 0)"),
        (
            "{combine: 64, bits: {message: 8}}",
            "4:5: position 0: combine has no bits of message (it has: input",
        ),
        (
            "{combine: 64, bits: 40}",
            "g.yaml:4:25: position 0, bits: expected bits in 1 to 16, or 32 for float (got 40)",
        ),
        ("{connect: skp}", "4:15: position 0, connect: expected one of identity, skip (got 'skp')."),
        ("{communicate: true, bits: 2}", "4:5: position 0: communicate has no bits"),
        ("{connect: skip, bits: {input: 8}}", "4:5: position 0: connect has no bits"),
        ("{pool: [max, max]}", "4:5: position 0: expected two reducers that differ (got max, max)"),
        ("{pool: []}", "4:12: position 0, pool: expected at least 1 in the list"),
        ("{communicate: false}", "4:5: position 0: expected communicate: true (got false)"),
        ("{sample: knn, k: 3, pool: [max]}", "4:5: position 0: expected one operation of sample, aggregate"),
        ("{agregate: max}", '4:6: unknown key "agregate". Did you mean "aggregate"?'),
        ("{}", "4:5: position 0: expected one operation of"),
        ("knn", "4:5: position 0: expected a mapping (got 'knn')"),
    ],
)
def test_a_faulty_position_is_named_with_its_place(line: str, fault: str) -> None:
    text = f"version: 1\nname: x\npositions:\n  - {line}\n"
    with pytest.raises(GenotypeError) as error:
        parse_genotype(text, file="g.yaml")
    assert fault in str(error.value)
    assert str(error.value).startswith("g.yaml:")


def test_all_faults_are_reported_at_once() -> None:
    text = (
        "version: 2\nname: x\npositions:\n  - {combine: 64, k: 3}\n  - {sample: knm, k: 3}\n"
        "head: {width: 3, bits: {message: 8}}\n"
    )
    with pytest.raises(GenotypeError) as error:
        parse_genotype(text, file="g.yaml")
    places = [line.split(": ")[0] for line in str(error.value).splitlines()]
    assert places == ["g.yaml:1:10", "g.yaml:4:5", "g.yaml:5:14", "g.yaml:6:8", "g.yaml:6:34"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "g.yaml:1:1: expected a genotype (got an empty file)"),
        ("- 1", "g.yaml:1:1: expected a mapping (got a list)"),
        ("version: 1\nname: x\n", 'g.yaml:1:1: missing key "positions"'),
    ],
)
def test_what_is_no_genotype_is_said_so(text: str, fault: str) -> None:
    with pytest.raises(GenotypeError) as error:
        parse_genotype(text, file="g.yaml")
    assert str(error.value) == fault
