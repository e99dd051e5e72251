"""Every number here is written out by hand for one small GCN; see `gcn_plan` for its sizes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from quantizers import ObserverSpec, QuantizerSpec
from sgq.cost.memory import SiteMemory, memory_of
from sgq.graph.sites import FloatParameter, Place, Site, SiteName, Workload
from sgq.recipe.plan import Plan, PlanEntry

NODES, EDGES, FEATURES, HIDDEN, CLASSES = 10, 30, 64, 4, 2
MESSAGES = EDGES + NODES  # GCN adds a self-loop to every node
NONZEROS = 20

WEIGHT8 = QuantizerSpec(8, granularity="channel", symmetric=True, signed=True)
INT8 = QuantizerSpec(8)


def site(name: SiteName, rows: str, shape: tuple[int, ...], **fields: object) -> Site:
    channels = (shape[0], 1) if rows == "parameter" else (1, *shape[1:])
    return Site(name, Place(name.module, "slot"), rows, shape, channels, **fields)


FEATURE_SITE = site(SiteName("conv1", "input"), "node", (NODES, FEATURES), features=True, nonzeros=NONZEROS)
WEIGHT1 = site(SiteName("conv1.lin", "weight"), "parameter", (HIDDEN, FEATURES))
MESSAGE1 = site(SiteName("conv1", "message"), "node", (NODES, HIDDEN), messages=MESSAGES)
AGGREGATE1 = site(SiteName("conv1", "aggregate"), "node", (NODES, HIDDEN), stored=False)
HIDDEN_SITE = site(SiteName("conv2", "input"), "node", (NODES, HIDDEN))
WEIGHT2 = site(SiteName("conv2.lin", "weight"), "parameter", (CLASSES, HIDDEN))
MESSAGE2 = site(SiteName("conv2", "message"), "node", (NODES, CLASSES), messages=MESSAGES)
OUTPUT2 = site(SiteName("conv2", "output"), "node", (NODES, CLASSES))
SITES = (FEATURE_SITE, WEIGHT1, MESSAGE1, AGGREGATE1, HIDDEN_SITE, WEIGHT2, MESSAGE2, OUTPUT2)


def gcn_plan(**specs: QuantizerSpec | None) -> Plan:
    """The plan of a two-layer GCN, 64 -> 4 -> 2 on 10 nodes and 30 edges; biases are 4 + 2 floats.

    `specs` names sites as `conv1_message`; a site without one stays in float.
    """
    entries = []
    for each in SITES:
        key = str(each.name).replace(".lin", "").replace(":", "_")
        entries.append(PlanEntry(each, specs.pop(key, None)))
    assert not specs
    biases = (FloatParameter("conv1.bias", HIDDEN), FloatParameter("conv2.bias", CLASSES))
    # Buckets 0 and 1 hold 7 and 3 nodes; 12 and 18 edges start in them.
    workload = Workload(NODES, EDGES, bucket_nodes=(7, 3), bucket_messages=(12, 18))
    return Plan("by hand", tuple(entries), biases, workload, bucket_edges=(4,))


def int8_plan() -> Plan:
    return gcn_plan(
        conv1_input=INT8,
        conv1_weight=WEIGHT8,
        conv1_message=INT8,
        conv1_aggregate=INT8,
        conv2_input=INT8,
        conv2_weight=WEIGHT8,
        conv2_message=INT8,
        conv2_output=INT8,
    )


def of(plan: Plan, name: str) -> SiteMemory:
    return next(memory for memory in memory_of(plan).sites if str(memory.site.name) == name)


def test_the_fp32_baselines_count_stored_tensors_once_and_no_aggregate() -> None:
    report = memory_of(gcn_plan())
    # features 640, weight 256, message 40, hidden 40, weight 8, message 20, output 20, biases 6
    assert report.dense_fp32_bytes == 4 * (640 + 256 + 40 + 40 + 8 + 20 + 20 + 6) == 4120
    # features as CSR: 11 row pointers of 4 bytes, 20 indices of 4 and 20 values of 4
    assert report.sparse_fp32_bytes == 4120 - 2560 + 44 + 80 + 80 == 1764


def test_a_float_plan_packs_into_the_sparse_baseline() -> None:
    report = memory_of(gcn_plan())
    assert report.packed_bytes == 1764
    assert report.ratio_sparse == 1.0
    assert report.sgquant_bits == report.mixq_bits == report.a2q_bits == 32.0
    assert of(gcn_plan(), "conv1:input").form == "sparse float"
    assert of(gcn_plan(), "conv1.lin:weight").form == "float"


def test_int8_packs_a_byte_a_value_with_scales_and_zero_points() -> None:
    report = memory_of(int8_plan())
    # Features, sparse: 20 codes, 11 row pointers of 4 bytes, 20 columns of 2, scale 4, zero point 1.
    features = 20 + 44 + 40 + 4 + 1
    # Weights: codes and a scale of 4 bytes an output; symmetric, so no zero points.
    weights = (256 + 4 * 4) + (8 + 4 * 2)
    # Node tensors: codes, scale 4, zero point 1. The aggregate is not stored by a fused run, as in the
    # fp32 baselines: its quantizer keeps a scale and a zero point, and no codes.
    nodes = (40 + 5) + 5 + (40 + 5) + (20 + 5) + (20 + 5)
    assert features == 109
    assert weights == 288
    assert nodes == 145
    assert report.packed_bytes == 109 + 288 + 145 + 24 == 566
    assert report.ratio_dense == 4120 / 566
    assert report.bucket_id_bytes == 0
    # A checkpoint: parameters, and of the six node tensors their scale and zero point.
    assert report.file_bytes == 288 + 6 * 5 + 24 == 342


def test_average_bits_of_int8_are_8_under_every_definition_and_7_without_a_sign() -> None:
    report = memory_of(int8_plan())
    assert report.sgquant_bits == report.mixq_bits == report.a2q_bits == 8.0
    assert report.sgquant_ratio == 4.0
    signed = memory_of(gcn_plan(conv2_input=replace(INT8, signed=True)))
    assert signed.a2q_bits == 7.0


def test_sgquant_counts_a_gathered_message_by_its_edges() -> None:
    report = memory_of(gcn_plan(conv1_message=QuantizerSpec(2)))
    # float: features 640, weights 264, hidden 40, message of layer 2: 40 x 2; at 2 bits 40 x 4. The output
    # is in float and so no part of the sum.
    floats, coded = 640 + 264 + 40 + 40 * 2, 40 * 4
    assert report.sgquant_bits == pytest.approx((32 * floats + 2 * coded) / (floats + coded))
    # MixQ: the mean over the seven stored tensors, each one once.
    assert report.mixq_bits == pytest.approx((6 * 32 + 2) / 7)
    # A2Q: only the hidden features, which are still in float.
    assert report.a2q_bits == 32.0


def test_a_quantized_output_counts_in_sgquants_bits_and_a_float_one_does_not() -> None:
    plan = gcn_plan(conv2_output=QuantizerSpec(2))
    floats = 640 + 264 + 160 + 40 + 80
    assert memory_of(plan).sgquant_bits == pytest.approx((32 * floats + 2 * 20) / (floats + 20))


def test_a_gathered_input_counts_as_itself_and_its_copies() -> None:
    gathered = replace(HIDDEN_SITE, messages=30)
    plan = gcn_plan(conv2_input=QuantizerSpec(4))
    entries = tuple(
        replace(entry, site=gathered) if entry.site is HIDDEN_SITE else entry for entry in plan.entries
    )
    report = memory_of(replace(plan, entries=entries))
    floats, coded = 640 + 264 + 160 + 80, (10 + 30) * 4
    assert report.sgquant_bits == pytest.approx((32 * floats + 4 * coded) / (floats + coded))


def test_buckets_pack_each_width_and_add_their_ids() -> None:
    by_bucket = QuantizerSpec((8, 2), granularity="bucket")
    memory = of(gcn_plan(conv2_input=by_bucket), "conv2:input")
    # 7 nodes x 4 values at 8 bits are 28 bytes, 3 x 4 at 2 bits 24 bits; two scales, two zero points.
    assert memory.code_bytes == (28, 3)
    assert (memory.scale_bytes, memory.zero_point_bytes, memory.index_bytes) == (8, 2, 0)
    assert memory.bits == pytest.approx((7 * 8 + 3 * 2) / 10)
    report = memory_of(gcn_plan(conv2_input=by_bucket))
    assert report.bucket_id_bytes == 2  # 10 nodes at one bit
    assert report.packed_bytes == 1764 - 160 + 28 + 3 + 8 + 2 + 2
    assert report.file_bytes == 24 + 4 * 264 + 8 + 2 + 2
    assert report.a2q_bits == pytest.approx(6.2)


def test_a_bucketed_message_is_spread_over_the_buckets_of_its_sources() -> None:
    report = memory_of(gcn_plan(conv1_message=QuantizerSpec((8, 2), granularity="bucket")))
    # Copies: 12 edges and 7 self-loops at 8 bits, 18 edges and 3 self-loops at 2 bits.
    floats = 640 + 264 + 40 + 80
    bits = 32 * floats + 4 * (19 * 8 + 21 * 2)
    assert report.sgquant_bits == pytest.approx(bits / (floats + 4 * 40))


def test_32_bits_in_one_bucket_keep_floats_there() -> None:
    memory = of(gcn_plan(conv2_input=QuantizerSpec((32, 4), granularity="bucket")), "conv2:input")
    assert memory.code_bytes == (7 * 4 * 4, 3 * 4 * 4 // 8)


def test_more_than_8_bits_are_stored_as_16_with_zero_points_of_two_bytes() -> None:
    memory = of(gcn_plan(conv2_input=QuantizerSpec(12)), "conv2:input")
    assert memory.code_bytes == (80,)
    assert memory.zero_point_bytes == 2
    assert memory.bits == 12.0


def test_one_bit_features_are_a_pattern_of_indices_alone() -> None:
    wide = replace(FEATURE_SITE, shape=(10, 4096))
    plan = gcn_plan(conv1_input=QuantizerSpec(1))
    entries = (replace(plan.entries[0], site=wide), *plan.entries[1:])
    memory = of(replace(plan, entries=entries), "conv1:input")
    assert memory.form == "pattern"
    assert memory.code_bytes == (0,)
    assert memory.index_bytes == 44 + 40
    assert memory.total_bytes == 84 + 4 + 1


def test_sparse_features_take_the_dense_form_where_that_is_smaller() -> None:
    # 640 values at 1 bit are 80 bytes, the pattern's indices 84.
    memory = of(gcn_plan(conv1_input=QuantizerSpec(1)), "conv1:input")
    assert memory.form == "dense"
    assert memory.code_bytes == (80,)
    assert of(gcn_plan(conv1_input=INT8), "conv1:input").form == "sparse"


def test_columns_beyond_two_bytes_take_four() -> None:
    wide = replace(FEATURE_SITE, shape=(10, 2**16 + 1))
    plan = gcn_plan(conv1_input=INT8)
    entries = (replace(plan.entries[0], site=wide), *plan.entries[1:])
    assert of(replace(plan, entries=entries), "conv1:input").index_bytes == 44 + 80


def test_signed_symmetric_one_bit_features_are_dense_since_they_have_no_zero() -> None:
    binary = QuantizerSpec(1, symmetric=True, signed=True, observer=ObserverSpec("mse"))
    assert of(gcn_plan(conv1_input=binary), "conv1:input").form == "dense"


def test_signed_symmetric_features_of_more_bits_have_a_zero_and_are_sparse() -> None:
    memory = of(gcn_plan(conv1_input=QuantizerSpec(4, symmetric=True, signed=True)), "conv1:input")
    assert memory.form == "sparse"
    # 20 codes of 4 bits, 11 row pointers of 4 bytes and 20 columns of 2, a scale and no zero point.
    assert memory.total_bytes == 10 + 44 + 40 + 4


def test_a_scale_a_node_is_stored_with_the_nodes_but_not_in_a_checkpoint() -> None:
    plan = gcn_plan(conv2_input=QuantizerSpec(4, granularity="node"))
    memory = of(plan, "conv2:input")
    assert memory.code_bytes == (20,)
    assert (memory.scale_bytes, memory.zero_point_bytes) == (40, 10)
    assert memory_of(plan).file_bytes == 24 + 4 * 264


def test_an_unstored_tensor_in_float_costs_nothing() -> None:
    assert "conv1:aggregate" not in {str(memory.site.name) for memory in memory_of(gcn_plan()).sites}


@pytest.mark.parametrize(
    ("spec", "kept"),
    [
        (QuantizerSpec(2), 4 + 1),
        (QuantizerSpec(12), 4 + 2),
        (QuantizerSpec((8, 2), granularity="bucket"), 2 * 4 + 2 * 1 + 2),  # and the bucket ids
        (QuantizerSpec(4, granularity="channel", symmetric=True, signed=True), 4 * 4),
        (QuantizerSpec(4, granularity="node"), 0),
    ],
    ids=str,
)
def test_quantizing_an_unstored_tensor_adds_what_its_quantizer_keeps_and_saves_nothing(
    spec: QuantizerSpec, kept: int
) -> None:
    plan = gcn_plan(conv1_aggregate=spec)
    assert memory_of(plan).packed_bytes == 1764 + kept
    assert memory_of(plan).file_bytes == memory_of(gcn_plan()).file_bytes + kept
    assert of(plan, "conv1:aggregate").form == "not stored"
    # SGQuant and MixQ count the quantized tensor all the same.
    assert memory_of(plan).sgquant_bits < 32
    assert memory_of(plan).mixq_bits < 32


def test_an_output_of_32_bits_is_as_little_part_of_sgquants_sum_as_one_without_a_spec() -> None:
    plan = gcn_plan(conv1_message=QuantizerSpec(2), conv2_output=QuantizerSpec(32))
    assert memory_of(plan).sgquant_bits == memory_of(gcn_plan(conv1_message=QuantizerSpec(2))).sgquant_bits


def test_sparse_features_with_bits_by_bucket_hold_codes_at_each_bucket_s_non_zeros() -> None:
    plan = gcn_plan(conv1_input=QuantizerSpec((8, 2), granularity="node"))
    workload = replace(plan.workload, bucket_nodes=(6, 4), bucket_messages=(10, 10), bucket_nonzeros=(12, 8))
    memory = of(replace(plan, workload=workload, bucket_edges=(4,)), "conv1:input")
    assert memory.form == "sparse"
    assert memory.code_bytes == (12, 2)
    assert memory.index_bytes == 44 + 40
    assert memory.scale_bytes + memory.zero_point_bytes == 10 * (4 + 1)
