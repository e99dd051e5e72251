"""Compact JSON is exact, short, and read strictly."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantizers.spec import ObserverSpec, QuantizerSpec
from sgq.errors import PlanError
from sgq.graph.sites import KeptBuffer, SiteTable
from sgq.recipe import Calibration, Finetuning, Limits, Plan, load_recipe, resolve
from sgq.recipe.compact import from_compact_text, to_compact_text


@dataclass(frozen=True)
class Leaf:
    name: str
    share: float = 0.5
    kind: Literal["a", "b"] = "a"
    width: int | tuple[int, ...] | None = 8


@dataclass(frozen=True)
class Tree:
    leaves: tuple[Leaf, ...] = ()
    flag: bool = False


leaves = st.builds(
    Leaf,
    name=st.text(alphabet='ab:."\\\n{é–\U0001f600', max_size=8),
    share=st.floats(allow_nan=False, allow_infinity=False),
    kind=st.sampled_from(["a", "b"]),
    width=st.none() | st.integers(-(2**63) + 1, 2**63 - 1) | st.lists(st.integers(0, 9)).map(tuple),
)


@settings(deadline=None)
@given(st.builds(Tree, leaves=st.lists(leaves, max_size=4).map(tuple), flag=st.booleans()))
def test_reading_is_the_exact_inverse_of_writing(tree: Tree) -> None:
    assert from_compact_text(Tree, to_compact_text(tree)) == tree


def test_what_is_at_its_default_is_not_written() -> None:
    assert to_compact_text(Tree()) == "{}"
    assert to_compact_text(Tree((Leaf("x"),), flag=True)) == '{"leaves":[{"name":"x"}],"flag":true}'


def test_a_plan_comes_back_with_its_digest_and_is_shorter(gcn_table: SiteTable) -> None:
    plan = resolve(load_recipe("int4"), gcn_table)
    plan = replace(
        plan,
        bucket_edges=(3, 9),
        calibration=Calibration(3),
        finetuning=Finetuning(epochs=5, lr=1e-3, select_on="last"),
        limits=Limits(packed_bytes=10),
        notes=("a note – two",),
        buffers=(KeptBuffer("norm.mean", 4, "float32", 4),),
    ).with_specs(
        {"convs.0:input": QuantizerSpec((8, 4, 2), granularity="node", observer=ObserverSpec("mse"))}
    )
    text = to_compact_text(plan)
    restored = from_compact_text(Plan, text)
    assert restored == plan
    assert restored.digest == plan.digest
    assert len(text) < 0.6 * len(json.dumps(plan.to_json(), separators=(",", ":")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", r"tree: expected an object \(got \[\]\)"),
        ("{", "expected JSON"),
        ('{"flag": NaN}', "NaN is no JSON number"),
        ("[" * 100_000, "expected JSON"),
        ('{"flag": true, "flag": false}', 'duplicate key "flag"'),
        ('{"flags": true}', r'unknown field "flags"\. Did you mean "flag"\?'),
        ('{"flag": 1}', r"tree\.flag: expected bool \(got 1\)"),
        ('{"leaves": {}}', r"tree\.leaves: expected tuple"),
        ('{"leaves": [{}]}', r"tree\.leaves\[0\]: expected name \(got none\)"),
        ('{"leaves": [{"name": 3}]}', r"tree\.leaves\[0\]\.name: expected str \(got 3\)"),
        ('{"leaves": [{"name": "x", "kind": "c"}]}', r"\.kind: expected Literal"),
        ('{"leaves": [{"name": "x", "width": true}]}', r"\.width: expected"),
        ('{"leaves": [{"name": "x", "width": 1.5}]}', r"\.width: expected"),
        (f'{{"leaves": [{{"name": "x", "width": {2**63}}}]}}', r"\.width: expected"),
        ('{"leaves": [{"name": "x", "width": [' + ",".join("1" * 2000) + "]}]}", "at most 1024 numbers"),
        ('{"leaves": [{"name": "\\ud800"}]}', r"\.name: expected str"),
        ('{"\\ud800": 1}', "expected JSON"),
    ],
)
def test_anything_else_is_refused_with_the_field(text: str, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        from_compact_text(Tree, text)


@pytest.mark.parametrize("share", ["1e999", "-1e999", "1" + "0" * 400, "9223372036854775808"])
def test_a_number_beyond_its_type_is_refused(share: str) -> None:
    with pytest.raises(PlanError, match=r"leaf\.share: expected float"):
        from_compact_text(Leaf, f'{{"name":"a","share":{share}}}')


@pytest.mark.parametrize("member", ["[],", '"ab",', "1,", "{},"])
def test_a_flood_of_members_is_refused_unparsed(member: str) -> None:
    with pytest.raises(PlanError, match="texts, brackets and commas"):
        from_compact_text(Tree, "[" + member * 20_000 + "0]")


def test_signs_inside_texts_are_no_members() -> None:
    tree = Tree((Leaf('[{,"' * 20_000),))
    assert from_compact_text(Tree, to_compact_text(tree)) == tree
