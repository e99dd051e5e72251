"""The bytes that a search looks up are those of the real plan, for every assignment."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Data

from sgq.bits.planned_space import PlannedSpace, planned_space
from sgq.cost.memory import memory_of
from sgq.errors import RecipeError, SearchError
from sgq.pipeline.planning import plan_for
from sgq.pipeline.tasks import GraphTask, NodeTask, Task
from sgq.recipe import parse_recipe
from sgq.recipe.filling import filled
from tests.graph.small_graph import CHANNELS, small_graph, zoo_model

TRICKY = """
version: 1
name: tricky
degree_buckets: {quantiles: 3}
rules:
  - match: {component: "*"}
    bits: {choices: [1, 8, 16, float], axis: rest}
  - match: {component: weight}
    bits: {choices: [1, 3, 4]}
    quantizer: {choices: [affine]}
    granularity: channel
  - match: {component: input, rows: node}
    bits: {by_bucket: [{choices: [2, float]}, 4, {choices: [1, 16, float], axis: high}]}
    granularity: node
  - match: {module: convs.1, component: message, rows: node}
    bits: {choices: [2, 4, float]}
    granularity: bucket
  - match: {component: message, tensor: "alpha*", rows: node}
    bits: {by_bucket: [{choices: [8, 16]}, float, {choices: [1, 16, float], axis: high}]}
    optional: true
  - match: {module: nowhere}
    bits: {choices: [2, 4]}
    optional: true
"""
"""Overruled and optional rules, shared axes, buckets, and float beside bits."""

ONE_WEIGHT = """
version: 1
name: one-weight
rules:
  - match: {module: convs.0.lin, component: weight}
    bits: {choices: [4, 8, float]}
"""


ONE_MESSAGE = """
version: 1
name: one-message
degree_buckets: {edges: [3, 5]}
rules:
  - match: {module: convs.0, component: message}
    bits: {choices: [4, float]}
    granularity: bucket
"""


def node_task() -> Task:
    return NodeTask(small_graph())


def graph_task() -> Task:
    graphs: list[Data] = [small_graph() for _ in range(3)]
    return GraphTask(graphs, {"train": torch.arange(3)}, batch_size=2)


@cache
def planned_for(model: str, space: str) -> PlannedSpace:
    """Return a shipped space, or the tricky one, on a model of the zoo."""
    recipe = parse_recipe(TRICKY) if space == "tricky" else f"spaces/{model}-{space}"
    return planned_space(zoo_model(model), recipe, node_task())


def assert_exact(planned: PlannedSpace, codes: list[int]) -> None:
    assignment = planned.space.assignment(codes)
    assert planned.memory(assignment) == memory_of(planned.plan_of(assignment)).packed_bytes


@pytest.mark.parametrize("space", ["tricky", "lwq", "taq", "lwq-cwq-taq"])
@pytest.mark.parametrize("model", ["gcn", "gat"])
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_the_bytes_of_the_tables_are_those_of_the_plan(model: str, space: str, data: st.DataObject) -> None:
    planned = planned_for(model, space)
    codes = data.draw(st.tuples(*(st.integers(0, count - 1) for count in planned.space.counts)))
    assert_exact(planned, list(codes))


@pytest.mark.parametrize("model", ["gcn", "gat"])
def test_the_bytes_are_exact_at_both_ends_where_features_have_other_forms(model: str) -> None:
    planned = planned_for(model, "tricky")
    forms = set()
    for codes in (planned.space.narrowest, planned.space.widest):
        assert_exact(planned, list(codes))
        report = memory_of(planned.plan_of(planned.space.assignment(codes)))
        forms |= {site.form for site in report.sites if site.site.features}
    assert len(forms) == 2


def test_mini_batches_of_graphs_are_counted_as_their_plan_counts_them() -> None:
    planned = planned_space(zoo_model("gcn"), parse_recipe(TRICKY), graph_task())
    generator = np.random.default_rng(0)
    for codes in planned.space.sample(generator, 20).tolist():
        assert_exact(planned, codes)


def test_a_weight_of_192_numbers_costs_96_bytes_a_nibble_and_4_for_its_scale() -> None:
    planned = planned_space(zoo_model("gcn"), parse_recipe(ONE_WEIGHT), node_task())
    assert CHANNELS * 16 == 192
    at = {bits: planned.memory({"convs.0.lin:weight": bits}) for bits in (4, 8, 32)}
    assert at[8] - at[4] == 96
    assert at[32] - at[8] == 4 * 192 - 192 - 4


def test_bucket_ids_are_paid_for_only_where_something_needs_them() -> None:
    planned = planned_space(zoo_model("gcn"), parse_recipe(ONE_MESSAGE), node_task())
    at = {bits: planned.memory({"convs.0:message": bits}) for bits in (4, 32)}
    # 40 rows of 16 numbers; three scales and zero points, and for each node an id of two bits.
    assert at[32] - at[4] == 4 * 40 * 16 - (40 * 16 // 2 + 3 * 4 + 3 * 1 + 40 * 2 // 8)


def test_many_assignments_have_the_bytes_that_each_has_alone() -> None:
    planned = planned_for("gat", "tricky")
    codes = planned.space.sample(np.random.default_rng(1), 200)
    together = planned.memory.of_codes(codes)
    assert together.shape == (200,)
    assert len(set(together.tolist())) > 50
    assert together.tolist() == [planned.memory(planned.space.assignment(row)) for row in codes.tolist()]


@pytest.mark.parametrize("model", ["gcn", "gat"])
@pytest.mark.parametrize("space", ["tricky", "lwq-cwq-taq"])
def test_the_plan_of_an_assignment_is_that_of_the_filled_recipe(model: str, space: str) -> None:
    planned = planned_for(model, space)
    plans = []
    for codes in planned.space.sample(np.random.default_rng(2), 3).tolist():
        assignment = planned.space.assignment(codes)
        plans.append(planned.plan_of(assignment))
        recipe = parse_recipe(filled(planned.recipe, assignment).text)
        assert plans[-1].digest == plan_for(zoo_model(model), recipe, node_task()).digest
    assert len({plan.digest for plan in plans}) == 3


def test_places_that_share_an_axis_are_one_axis_of_the_space() -> None:
    assert planned_for("gcn", "tricky").space.to_json() == {
        "rest": [1, 8, 16, 32],
        "*:weight": [1, 3, 4],
        "*:weight.quantizer": ["affine"],
        "*:input[0]": [2, 32],
        "high": [1, 16, 32],
        "convs.1:message": [2, 4, 32],
        "*:message.alpha*[0]": [8, 16],
        "nowhere:*": [2, 4],
    }


def test_a_recipe_without_choices_is_no_space() -> None:
    with pytest.raises(
        SearchError, match=r"^int8\.yaml: expected a space, a recipe with choices \(got none\)"
    ):
        planned_space(zoo_model("gcn"), "int8", node_task())


def test_a_space_of_another_model_is_refused_with_its_line() -> None:
    with pytest.raises(RecipeError, match=r"spaces/gat-lwq\.yaml:\d+:5: rule \d+ matches nothing"):
        planned_space(zoo_model("gcn"), "spaces/gat-lwq", node_task())
