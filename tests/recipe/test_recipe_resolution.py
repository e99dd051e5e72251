from __future__ import annotations

from collections.abc import Sequence

import pytest

from quantizers.spec import ObserverSpec, QuantizerSpec
from sgq.errors import RecipeError
from sgq.graph.sites import SiteTable
from sgq.recipe import Plan, parse_recipe, resolve


def planned(table: SiteTable, *rules: str, extra: str = "", edges: tuple[int, ...] = ()) -> Plan:
    """Return the plan of flow-style rules, the first of which is on line 4."""
    text = "version: 1\nname: x\nrules:\n" + "".join(f"  - {{{rule}}}\n" for rule in rules) + extra
    return resolve(parse_recipe(text, file="r.yaml"), table, bucket_edges=edges)


def faults(table: SiteTable, *rules: str, extra: str = "", edges: tuple[int, ...] = ()) -> Sequence[str]:
    with pytest.raises(RecipeError) as caught:
        planned(table, *rules, extra=extra, edges=edges)
    return str(caught.value).splitlines()


def names_with_a_spec(plan: Plan) -> list[str]:
    return [str(entry.site.name) for entry in plan if entry.spec is not None]


def test_every_site_is_in_the_plan_and_those_without_a_rule_stay_in_float(gcn_table: SiteTable) -> None:
    plan = planned(gcn_table, "bits: 8, match: {component: weight}")
    assert [entry.site for entry in plan] == list(gcn_table.sites)
    assert names_with_a_spec(plan) == ["convs.0.lin:weight", "convs.1.lin:weight"]
    assert plan["convs.0:input"].origin == ""
    assert plan.float_parameters == gcn_table.float_parameters
    assert plan.workload == gcn_table.workload
    assert plan.recipe == "x"


def test_a_later_rule_wins_and_the_origin_names_it(gcn_table: SiteTable) -> None:
    plan = planned(gcn_table, "bits: 8", 'bits: 4, match: {module: "convs.1", component: message}')
    assert plan["convs.1:message"].spec == QuantizerSpec(bits=4)
    assert plan["convs.1:message"].origin == "r.yaml:5:5 rule 2"
    assert plan["convs.0:message"].spec == QuantizerSpec(bits=8)
    assert plan["convs.0:message"].origin == "r.yaml:4:5 rule 1"


def test_a_rule_matches_a_site_by_any_of_its_names(gcn_table: SiteTable) -> None:
    plan = planned(gcn_table, "bits: 4, match: {module: convs.0.lin, component: output}")
    assert names_with_a_spec(plan) == ["convs.0:message"]
    assert plan["convs.0.lin:output"].spec == QuantizerSpec(bits=4)


def test_the_conditions_of_a_rule_must_hold_for_one_and_the_same_name(gcn_table: SiteTable) -> None:
    [fault] = faults(gcn_table, "bits: 4, match: {module: convs.0.lin, component: message}")
    assert "has no message; it has input, weight, output" in fault


def test_groups_and_lists_of_components_match(gcn_table: SiteTable) -> None:
    plan = planned(gcn_table, "bits: 4, match: {module: convs.0, component: [aggregation, output]}")
    assert names_with_a_spec(plan) == ["convs.0:message", "convs.0:aggregate", "convs.0:output"]


@pytest.mark.parametrize(
    ("tensor", "names"),
    [
        ("", ["convs.0:message"]),
        ("alpha_src", ["convs.0:message.alpha_src"]),
        ("alpha_*", ["convs.0:message.alpha_src", "convs.0:message.alpha_dst"]),
    ],
)
def test_a_tensor_glob_tells_the_tensors_of_a_component_apart(
    gat_table: SiteTable, tensor: str, names: list[str]
) -> None:
    match = f'{{module: convs.0, component: message, tensor: "{tensor}"}}'
    assert names_with_a_spec(planned(gat_table, f"bits: 4, match: {match}")) == names


def test_rows_narrow_a_match(gat_table: SiteTable) -> None:
    plan = planned(gat_table, "bits: 4, match: {rows: edge}")
    assert names_with_a_spec(plan) == ["convs.0:attention", "convs.1:attention"]


def test_weights_are_symmetric_and_signed_by_default_and_other_tensors_are_not(gcn_table: SiteTable) -> None:
    plan = planned(gcn_table, "bits: 1")
    assert plan["convs.0.lin:weight"].spec == QuantizerSpec(bits=1, symmetric=True, signed=True)
    assert plan["convs.0:input"].spec == QuantizerSpec(bits=1, symmetric=False, signed=False)


@pytest.mark.parametrize(
    ("rule", "symmetric", "signed"),
    [
        ("symmetric: true", True, True),
        ("symmetric: true, signed: false", True, False),
        ("signed: true", False, True),
    ],
)
def test_symmetry_and_sign_can_be_said(
    gcn_table: SiteTable, rule: str, symmetric: bool, signed: bool
) -> None:
    spec = planned(gcn_table, f"bits: 8, {rule}")["convs.0:input"].spec
    assert spec == QuantizerSpec(bits=8, symmetric=symmetric, signed=signed)


@pytest.mark.parametrize(
    ("rule", "observer"),
    [
        ("bits: 8", ObserverSpec()),
        ("bits: 8, observer: mse", ObserverSpec("mse")),
        ("bits: 8, observer: {kind: percentile, q: 0.9}", ObserverSpec("percentile", q=0.9)),
        ("bits: 8, range: [-1, 2.5]", ObserverSpec("fixed", lower=-1.0, upper=2.5)),
    ],
)
def test_a_rule_says_how_ranges_are_found(gcn_table: SiteTable, rule: str, observer: ObserverSpec) -> None:
    spec = planned(gcn_table, rule)["convs.0:input"].spec
    assert spec is not None
    assert spec.observer == observer


def test_bits_by_bucket_take_the_edges_of_the_recipe(gcn_table: SiteTable) -> None:
    rule = "bits: {by_bucket: [8, 4, float]}, match: {component: input}"
    plan = planned(gcn_table, rule, extra="degree_buckets: {edges: [4, 16]}\n")
    assert plan.bucket_edges == (4, 16)
    assert plan["convs.0:input"].spec == QuantizerSpec(bits=(8, 4, 32), granularity="bucket")


def test_quantiles_take_the_edges_of_the_data(gcn_table: SiteTable) -> None:
    rule = "bits: {by_bucket: [8, 4]}, granularity: node, match: {component: input}"
    plan = planned(gcn_table, rule, extra="degree_buckets: {quantiles: 2}\n", edges=(3,))
    assert plan.bucket_edges == (3,)
    assert plan["convs.0:input"].spec == QuantizerSpec(bits=(8, 4), granularity="node")


def test_granularity_bucket_with_one_width_gives_every_bucket_that_width(gcn_table: SiteTable) -> None:
    rule = "bits: 6, granularity: bucket, match: {rows: node}"
    plan = planned(gcn_table, rule, extra="degree_buckets: {edges: [4, 16]}\n")
    assert plan["convs.0:input"].spec == QuantizerSpec(bits=(6, 6, 6), granularity="bucket")


def test_quantiles_without_edges_of_the_data_are_an_error_at_the_rule(gcn_table: SiteTable) -> None:
    rule = "bits: {by_bucket: [8, 4]}, match: {component: input}"
    assert faults(gcn_table, rule, extra="degree_buckets: {quantiles: 2}\n") == [
        "r.yaml:4:5: rule 1 needs the edges of the degree buckets: pass bucket_edges, "
        "the quantiles of this data"
    ]


def test_data_whose_quantiles_give_fewer_buckets_are_an_error_at_the_rule(gcn_table: SiteTable) -> None:
    rule = "bits: {by_bucket: [8, 4, 2]}, match: {component: input}"
    assert faults(gcn_table, rule, extra="degree_buckets: {quantiles: 3}\n", edges=(2,)) == [
        "r.yaml:4:5: rule 1 does not fit: expected 2 widths in by_bucket, one a degree bucket (got 3); "
        "the in-degrees of this data give the edges [2]"
    ]


def test_buckets_on_rows_that_are_no_nodes_are_an_error_that_names_the_site(gat_table: SiteTable) -> None:
    rule = "bits: {by_bucket: [8, 4]}, match: {module: convs.0, component: attention}"
    assert faults(gat_table, rule, extra="degree_buckets: {edges: [4]}\n") == [
        "r.yaml:4:5: rule 1 has bits by degree bucket, but the rows of convs.0:attention are of kind edge; "
        "add rows: node to its match"
    ]


def test_granularity_node_on_a_parameter_is_an_error(gcn_table: SiteTable) -> None:
    rule = "bits: 8, granularity: node, match: {module: convs.0.lin, component: weight}"
    assert faults(gcn_table, rule) == [
        'r.yaml:4:5: rule 1 has granularity "node", but convs.0.lin:weight is a parameter; '
        'use "channel" or "tensor"'
    ]


@pytest.mark.parametrize(
    ("match", "why"),
    [
        ('{module: "conv.*"}', 'module "conv.*". Did you mean "convs.*"?'),
        ("{module: convs.0.lni}", 'module "convs.0.lni". Did you mean "convs.0.lin"?'),
        ("{module: zzz}", 'module "zzz".'),
        ("{module: head}", 'module "head" exists (head) but did not run on this data.'),
        (
            "{module: convs.0, component: attention}",
            'module "convs.0" has no attention; it has input, message, aggregate, output.',
        ),
        (
            "{module: convs.0, component: message, tensor: alpha}",
            'module "convs.0" has no tensor "alpha" there; it has none.',
        ),
        (
            "{module: convs.0, component: message, rows: edge}",
            'module "convs.0" has no such site with rows edge; it has rows node.',
        ),
    ],
)
def test_a_rule_that_matches_nothing_says_why(gcn_table: SiteTable, match: str, why: str) -> None:
    assert faults(gcn_table, "bits: 8", f"bits: 4, match: {match}") == [
        f'r.yaml:5:5: rule 2 matches nothing: {why} Run "sgq sites" to list 10 sites.'
    ]


def test_a_misspelt_tensor_offers_the_nearest(gat_table: SiteTable) -> None:
    [fault] = faults(gat_table, "bits: 4, match: {component: message, tensor: alpha_scr}")
    assert (
        'has no tensor "alpha_scr" there; it has alpha_src, alpha_dst, alpha. Did you mean "alpha_src"?'
        in fault
    )


def test_an_optional_rule_may_match_nothing(gcn_table: SiteTable) -> None:
    plan = planned(gcn_table, "bits: 8", "bits: 4, match: {component: attention}, optional: true")
    assert len(plan.quantized) == len(gcn_table.sites)


def test_an_optional_rule_that_matches_is_held_to_the_same_checks(gat_table: SiteTable) -> None:
    rule = "bits: 8, granularity: node, optional: true, match: {module: convs.0.lin, component: weight}"
    assert len(faults(gat_table, rule)) == 1


def test_choices_are_not_resolved(gcn_table: SiteTable) -> None:
    found = faults(gcn_table, "bits: 8", "bits: {choices: [2, 4]}, quantizer: {choices: [affine]}")
    assert found == [
        "r.yaml:5:5: rule 2 holds choices (bits and quantizer): a search resolves them, "
        "or write one value in their place"
    ]


def test_all_faults_of_a_resolution_are_reported_at_once(gcn_table: SiteTable) -> None:
    found = faults(
        gcn_table, "bits: 8, match: {module: a}", "bits: {choices: [2]}, match: {module: b}", "bits: 8"
    )
    assert [line.split(" ")[0] for line in found] == ["r.yaml:4:5:", "r.yaml:5:5:", "r.yaml:5:5:"]


def test_float_bits_keep_a_site_out_of_the_quantized_ones(gcn_table: SiteTable) -> None:
    plan = planned(gcn_table, "bits: 8", "bits: float, match: {module: convs.1, component: output}")
    assert plan["convs.1:output"].spec == QuantizerSpec(bits=32)
    assert len(plan.quantized) == len(gcn_table.sites) - 1


def test_notes_are_those_of_quantized_sites_of_overruled_rules_and_of_unused_buckets(
    gcn_table: SiteTable,
) -> None:
    dropout = 'convs.1:input: quantized at "drop", before its dropout'
    assert planned(gcn_table, "bits: 8").notes == (dropout,)
    assert planned(gcn_table, "bits: 8, match: {component: weight}").notes == ()
    plan = planned(gcn_table, "bits: 4", "bits: float", extra="degree_buckets: {quantiles: 4}\n")
    assert plan.notes == (
        "rule 1: later rules take all sites that it matches",
        "degree_buckets: no rule uses them",
    )


def test_calibration_finetuning_and_limits_go_into_the_plan(gcn_table: SiteTable) -> None:
    extra = (
        "calibrate: {batches: 3}\nfinetune: {epochs: 7, lr: 1e-2, observe: 0.25, select_on: last}\n"
        "limits: {packed_bytes: 1kB, accuracy_drop: 0.004}\n"
    )
    plan = planned(gcn_table, "bits: 8", extra=extra)
    assert plan.calibration.batches == 3
    assert (plan.finetuning.epochs, plan.finetuning.lr, plan.finetuning.weight_decay) == (7, 0.01, None)
    assert (plan.finetuning.observe, plan.finetuning.select_on) == (0.25, "last")
    assert (plan.limits.packed_bytes, plan.limits.accuracy_drop) == (1000, 0.004)
