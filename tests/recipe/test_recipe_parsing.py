from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from sgq.errors import RecipeError
from sgq.recipe import parse_recipe
from sgq.recipe.schema import ObserverRule, WidthChoices

DESIGN_EXAMPLE = """\
version: 1
name: gat-lwq-cwq-taq
about: layer-, component- and topology-aware bits for a two-layer GAT
degree_buckets: {edges: [4, 16, 64]}            # or {quantiles: 4}
rules:                                          # in order; a later rule wins
  - match: {module: "convs.*", component: weight}
    bits: 4
    granularity: channel
  - match: {module: "convs.*", component: [input, message]}
    bits: {by_bucket: [8, 4, 4, 2]}
    observer: {kind: percentile, q: 0.999}
  - match: {component: attention}
    bits: 4
    range: [0.0, 1.0]
    optional: true                              # the only way a rule may match nothing
  - match: {module: "convs.0", component: input}
    bits: 8
calibrate: {batches: 16}
finetune: {epochs: 100, lr: 0.001, select_on: val}
limits: {packed_bytes: 2MiB, accuracy_drop: 0.004}     # 0.004 = 0.4 points
"""


def with_rules(rules: str, extra: str = "") -> str:
    """Return a recipe whose rules start on line 4."""
    return f"version: 1\nname: x\nrules:\n{rules}\n{extra}"


def faults(text: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text, file="r.yaml")
    return str(caught.value).splitlines()


def test_the_example_of_the_design_parses() -> None:
    loaded = parse_recipe(DESIGN_EXAMPLE)
    recipe = loaded.recipe
    assert recipe.degree_buckets is not None
    assert recipe.degree_buckets.count == 4
    assert [rule.optional for rule in recipe.rules] == [False, False, True, False]
    assert recipe.rules[1].by_bucket == (8, 4, 4, 2)
    assert recipe.rules[1].match.component == ("input", "message")
    assert recipe.rules[1].observer == ObserverRule(kind="percentile", q=0.999)
    assert recipe.rules[2].range == (0.0, 1.0)
    assert recipe.limits.packed_bytes == 2 * 1024 * 1024
    assert recipe.finetune.lr == 0.001
    assert not recipe.is_space
    assert loaded.file == "<string>"


def test_a_recipe_is_frozen_and_hashable() -> None:
    recipe = parse_recipe(DESIGN_EXAMPLE).recipe
    assert hash(recipe) == hash(parse_recipe(DESIGN_EXAMPLE).recipe)
    with pytest.raises(ValidationError, match="frozen"):
        recipe.name = "other"


@pytest.mark.parametrize(
    ("rule", "fault"),
    [
        ("  - bits: §17", "rule 1, bits: expected bits in 1 to 16, or 32 for float (got 17)"),
        ("  - bits: §0", "rule 1, bits: expected bits in 1 to 16, or 32 for float (got 0)"),
        ("  - bits: §true", "rule 1, bits: expected bits in 1 to 16, or 32 for float (got True)"),
        ("  - bits: §8.0", "rule 1, bits: expected bits in 1 to 16, or 32 for float (got 8.0)"),
        (
            "  - bits: §[8, 4]",
            "rule 1, bits: expected bits in 1 to 16, or 32 for float (got [8, 4]); write {by_bucket: [8, "
            "4]} for one width a bucket",
        ),
        (
            "  - bits: {choices: [8, §20]}",
            "rule 1, bits.choices: expected bits in 1 to 16, or 32 for float (got 20)",
        ),
        ("  - bits: {choices: §[]}", "rule 1, bits.choices: expected at least one in the list (got none)"),
        ("  - bits: §{choices: [4, 4]}", "rule 1, bits: expected choices that differ (got [4, 4])"),
        ("  - bits: §{}", "rule 1, bits: expected either by_bucket or choices"),
        ("  - bits: §{choices: [4], by_bucket: [4]}", "rule 1, bits: expected either by_bucket or choices"),
        (
            "  - bits: {§by_bukcet: [8]}",
            'unknown key "by_bukcet". Did you mean "by_bucket"? Known: by_bucket, choices, axis',
        ),
        ("  - §match: {module: a}", 'rule 1: missing key "bits"'),
        (
            "  - §bist: 8",
            'unknown key "bist". Did you mean "bits"? Known: match, bits, quantizer, granularity, '
            "symmetric, signed, observer, range, optional",
        ),
        ("  - §5", "rule 1: expected a mapping (got 5)"),
        (
            "  - {bits: 8, match: {§modul: a}}",
            'unknown key "modul". Did you mean "module"? Known: module, component, tensor, rows',
        ),
        (
            "  - {bits: 8, match: {component: §wieght}}",
            "rule 1, match.component: expected one of weight, input, message, attention, aggregate, output, "
            "combination, aggregation, * (got 'wieght'). Did you mean \"weight\"?",
        ),
        (
            "  - {bits: 8, match: {component: [input, §mesage]}}",
            "rule 1, match.component: expected one of weight, input, message, attention, aggregate, output, "
            "combination, aggregation, * (got 'mesage'). Did you mean \"message\"?",
        ),
        (
            "  - {bits: 8, match: {rows: §nodes}}",
            "rule 1, match.rows: expected one of parameter, node, edge, graph, other (got 'nodes'). Did you "
            'mean "node"?',
        ),
        ("  - {bits: 8, match: {module: §3}}", "rule 1, match.module: expected text (got 3)"),
        ("  - {bits: 8, match:§ }", "rule 1, match: expected a mapping (got nothing)"),
        (
            "  - {bits: 8, granularity: §chanel}",
            "rule 1, granularity: expected one of tensor, channel, node, bucket (got 'chanel'). Did you "
            'mean "channel"?',
        ),
        ("  - {bits: 8, symmetric: §no}", "rule 1, symmetric: expected true or false (got 'no')"),
        ("  - {bits: 8, optional: §1}", "rule 1, optional: expected true or false (got 1)"),
        (
            "  - {bits: 8, observer: §percentil}",
            "rule 1, observer: expected one of minmax, moving_average, percentile, mse (got 'percentil'). "
            'Did you mean "percentile"?',
        ),
        (
            "  - {bits: 8, observer: {kind: §fixed}}",
            'rule 1, observer.kind: a fixed range is written as "range: [lower, upper]", without observer',
        ),
        ("  - {bits: 8, observer: {q: §2}}", "rule 1, observer.q: expected a number of at most 1 (got 2)"),
        (
            "  - {bits: 8, observer: {momentum: §0}}",
            "rule 1, observer.momentum: expected a number above 0 (got 0)",
        ),
        ("  - {bits: 8, range: §[1, 2]}", "rule 1, range: expected a range that includes 0 (got [1.0, 2.0])"),
        ("  - {bits: 8, range: §[0, 0]}", "rule 1, range: expected a range wider than 0 (got [0, 0])"),
        ("  - {bits: 8, range: [0, §.nan]}", "rule 1, range: expected a finite number (got nan)"),
        (
            "  - §{bits: 8, observer: mse, range: [0, 1]}",
            "rule 1: expected range or observer, not both: a range is fixed",
        ),
        (
            "  - §bits: {by_bucket: [8, 4]}",
            "rule 1: by_bucket needs degree_buckets, which the recipe does not have",
        ),
        (
            "  - §{bits: 8, granularity: bucket}",
            'rule 1: granularity "bucket" needs degree_buckets, which the recipe does not have',
        ),
    ],
)
def test_a_fault_of_a_rule_is_one_line_at_its_position(rule: str, fault: str) -> None:
    before, _, after = rule.partition("§")
    assert faults(with_rules(before + after)) == [f"r.yaml:4:{len(before) + 1}: {fault}"]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (
            "degree_buckets: {edges: §[4, 4]}",
            "degree_buckets.edges: expected in-degrees from 1 that strictly increase (got [4, 4])",
        ),
        (
            "degree_buckets: {edges: §[0, 4]}",
            "degree_buckets.edges: expected in-degrees from 1 that strictly increase (got [0, 4])",
        ),
        ("degree_buckets: {edges: [§2.5]}", "degree_buckets.edges: expected a whole number (got 2.5)"),
        (
            "degree_buckets: {quantiles: §17}",
            "degree_buckets.quantiles: expected a number of at most 16 (got 17)",
        ),
        (
            "degree_buckets: {quantiles: §1}",
            "degree_buckets.quantiles: expected a number of at least 2 (got 1)",
        ),
        ("degree_buckets: §{edges: [4], quantiles: 2}", "degree_buckets: expected either edges or quantiles"),
        (
            "degree_buckets: {§edgse: [4]}",
            'unknown key "edgse". Did you mean "edges"? Known: edges, quantiles',
        ),
        ("calibrate: {batches: §0}", "calibrate.batches: expected a number of at least 1 (got 0)"),
        ("calibrate: {batches: §true}", "calibrate.batches: expected a whole number (got true)"),
        ("finetune: {epochs: §1.5}", "finetune.epochs: expected a whole number (got 1.5)"),
        ("finetune: {lr: §0}", "finetune.lr: expected a number above 0 (got 0)"),
        ("finetune: {lr: §1e-}", "finetune.lr: expected a number (got '1e-')"),
        ("finetune: {weight_decay: §-1}", "finetune.weight_decay: expected a number of at least 0 (got -1)"),
        ("finetune: {observe: §2}", "finetune.observe: expected a number of at most 1 (got 2)"),
        ("finetune: {select_on: §test}", "finetune.select_on: expected 'val' or 'last' (got 'test')"),
        (
            "limits: {packed_bytes: §2Mb}",
            "limits.packed_bytes: expected bytes such as 2048, 300kB or 2MiB (got '2Mb')",
        ),
        ("limits: {packed_bytes: §0B}", "limits.packed_bytes: expected a number of at least 1 (got '0B')"),
        ("limits: {accuracy_drop: §.inf}", "limits.accuracy_drop: expected a finite number (got inf)"),
        (
            "§calibration: {batches: 4}",
            'unknown key "calibration". Did you mean "calibrate"? Known: version, name, about, '
            "degree_buckets, rules, calibrate, finetune, limits",
        ),
        ("§name: y", 'duplicate key "name", first on line 2'),
    ],
)
def test_a_fault_outside_the_rules_is_one_line_at_its_position(line: str, fault: str) -> None:
    before, _, after = line.partition("§")
    text = f"version: 1\nname: x\n{before}{after}\nrules:\n  - bits: 8\n"
    assert faults(text) == [f"r.yaml:3:{len(before) + 1}: {fault}"]


@pytest.mark.parametrize("version", ["2", "true", "1.0", "'1'"])
def test_any_version_but_one_is_an_error(version: str) -> None:
    [fault] = faults(f"version: {version}\nname: x\nrules: [{{bits: 8}}]\n")
    assert fault.startswith("r.yaml:1:10: version: expected 1, the only version of this format (got ")


def test_missing_keys_and_empty_rules_are_faults() -> None:
    assert faults("about: nothing\nrules: []\n") == [
        'r.yaml:1:1: missing key "name"',
        'r.yaml:1:1: missing key "version"',
        "r.yaml:2:8: rules: expected at least one in the list (got none)",
    ]


@pytest.mark.parametrize(
    ("buckets", "count"), [("{edges: [4]}", 2), ("{edges: [4, 16, 64]}", 4), ("{quantiles: 4}", 4)]
)
def test_a_bucket_count_that_differs_from_the_bit_list_is_a_fault_of_the_rule(
    buckets: str, count: int
) -> None:
    text = with_rules("  - bits: 8\n  - bits: {by_bucket: [8, 4, 2]}", f"degree_buckets: {buckets}")
    message = f"rule 2: expected {count} widths in by_bucket, one a degree bucket (got 3)"
    assert faults(text) == [f"r.yaml:5:5: {message}"]


@pytest.mark.parametrize("granularity", ["tensor", "channel"])
def test_bits_by_bucket_need_a_granularity_that_tells_rows_apart(granularity: str) -> None:
    text = with_rules(
        f"  - {{bits: {{by_bucket: [8, 4]}}, granularity: {granularity}}}", "degree_buckets: {edges: [4]}"
    )
    message = f'rule 1: by_bucket needs granularity "bucket" or "node" (got "{granularity}")'
    assert faults(text) == [f"r.yaml:4:5: {message}"]


def test_faults_of_every_kind_are_reported_at_once_and_sorted() -> None:
    rules = "  - bist: 8\n  - bits: {by_bucket: [8, 4]}\n    symetric: true\n"
    text = f"version: 1\nversion: 1\nname: 5\nrules:\n{rules}"
    assert [line.split(" ")[0] for line in faults(text)] == [
        "r.yaml:2:1:",  # duplicate key: YAML
        "r.yaml:3:7:",  # wrong type: schema
        "r.yaml:5:5:",  # unknown key
        "r.yaml:6:5:",  # no degree_buckets: between parts
        "r.yaml:7:5:",  # unknown key in the same rule
    ]


def test_what_yaml_could_not_read_is_not_reported_again_by_the_schema() -> None:
    assert faults(with_rules("  - bits: *eight")) == ['r.yaml:4:11: aliases are not supported (got "*eight")']


def test_an_unknown_quantizer_offers_the_nearest_name() -> None:
    [fault] = faults(with_rules("  - {bits: 8, quantizer: afine}"))
    assert fault.startswith(
        "r.yaml:4:26: rule 1, quantizer: unknown quantizer 'afine'. Did you mean \"affine\"? Known: "
    )


@pytest.mark.parametrize("bits", ["32", "float"])
def test_float_is_thirty_two_bits(bits: str) -> None:
    assert parse_recipe(with_rules(f"  - bits: {bits}")).recipe.rules[0].bits == 32


@pytest.mark.parametrize(
    ("text", "count"),
    [("2048", 2048), ("2MiB", 2097152), ("300kB", 300000), ("1.5KiB", 1536), ("7 B", 7), ("1GB", 10**9)],
)
def test_bytes_may_have_a_unit(text: str, count: int) -> None:
    recipe = parse_recipe(with_rules("  - bits: 8", f"limits: {{packed_bytes: {text}}}")).recipe
    assert recipe.limits.packed_bytes == count


@pytest.mark.parametrize(
    ("group", "components"),
    [
        ("combination", {"weight", "input", "output"}),
        ("aggregation", {"message", "attention", "aggregate"}),
        ("[aggregation, weight]", {"message", "attention", "aggregate", "weight"}),
        ('"*"', {"weight", "input", "message", "attention", "aggregate", "output"}),
    ],
)
def test_groups_stand_for_their_components(group: str, components: set[str]) -> None:
    recipe = parse_recipe(with_rules(f"  - {{bits: 8, match: {{component: {group}}}}}")).recipe
    assert recipe.rules[0].match.components == components


def test_choices_make_a_recipe_a_space() -> None:
    rules = (
        "  - bits: {choices: [2, 4, float]}\n"
        "  - bits: {by_bucket: [8, {choices: [4, 2]}]}\n"
        "  - {bits: 8, quantizer: {choices: [affine]}}\n"
        "  - bits: 8"
    )
    recipe = parse_recipe(with_rules(rules, "degree_buckets: {edges: [4]}")).recipe
    assert recipe.is_space
    assert [rule.choice_keys for rule in recipe.rules] == [("bits",), ("bits",), ("quantizer",), ()]
    assert recipe.rules[1].by_bucket == (8, WidthChoices(choices=(4, 2)))


def test_checking_a_recipe_imports_no_graph_library() -> None:
    code = (
        "import sys; from sgq.recipe import load_recipe; load_recipe('int8'); "
        "print([name for name in ('torch_geometric', 'optuna', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
