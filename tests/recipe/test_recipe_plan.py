from __future__ import annotations

import json
from dataclasses import replace

import pytest

from quantizers.spec import QuantizerSpec
from sgq.errors import PlanError
from sgq.graph.sites import SiteTable
from sgq.recipe import Plan, load_recipe, resolve


@pytest.fixture
def plan(gat_table: SiteTable) -> Plan:
    return resolve(load_recipe("sgquant/gat-lwq-cwq-taq"), gat_table)


def test_a_plan_is_rebuilt_from_its_json(plan: Plan) -> None:
    again = Plan.from_json(json.loads(json.dumps(plan.to_json())))
    assert again == plan
    assert hash(again) == hash(plan)
    assert again.digest == plan.digest


def test_the_digest_is_the_same_for_the_same_recipe_and_sites(plan: Plan, gat_table: SiteTable) -> None:
    assert resolve(load_recipe("sgquant/gat-lwq-cwq-taq"), gat_table).digest == plan.digest


def test_the_digest_changes_with_every_part_that_decides_the_result(plan: Plan) -> None:
    others = [
        plan.with_specs({"convs.0:attention": QuantizerSpec(bits=3)}),
        plan.with_specs({"convs.0:attention": None}),
        replace(plan, bucket_edges=(1, 2, 3)),
        replace(plan, calibration=replace(plan.calibration, batches=1)),
        replace(plan, finetuning=replace(plan.finetuning, epochs=1)),
    ]
    assert len({plan.digest, *(other.digest for other in others)}) == len(others) + 1


def test_a_plan_of_another_format_is_an_error(plan: Plan) -> None:
    with pytest.raises(PlanError, match="expected a plan of format 1"):
        Plan.from_json({**plan.to_json(), "format": 99})


def test_a_site_is_found_by_its_name_and_by_its_aliases(plan: Plan) -> None:
    assert plan["convs.0.lin:output"] is plan["convs.0:message"]
    with pytest.raises(KeyError):
        plan["convs.9:message"]


def test_other_specs_for_unknown_sites_are_an_error(plan: Plan) -> None:
    with pytest.raises(PlanError, match=r"convs\.9:input"):
        plan.with_specs({"convs.9:input": None})


def test_a_plan_prints_a_line_a_site_with_its_spec_and_origin(plan: Plan) -> None:
    lines = str(plan).splitlines()
    assert len(lines) == len(plan) + 1
    [line] = [line for line in lines if line.strip().startswith("convs.1:input ")]
    assert "8/4/4/2 bucket" in line
    assert "sgquant/gat-lwq-cwq-taq.yaml:" in line
