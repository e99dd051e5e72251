"""The Triton kernels against the reference: what `test_cuda` runs in a process of its own.

On a GPU where `TRITON_INTERPRET` is not set, else on the CPU through Triton's interpreter.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from quantizers import QuantizerSpec
from sgq.errors import ModelError
from sgq.runtime.features import BitFeatures, SparseFeatures, sparse_features
from sgq.runtime.finish import Finish
from sgq.runtime.kernels import reference
from sgq.runtime.kernels.contract import EdgeAttention, Scores
from sgq.runtime.kernels.cuda import calls
from sgq.runtime.quantization import Quantization
from sgq.runtime.weights import as_rows, tabled, tiled
from tests.runtime.kernels.cuda_problems import (
    EXAMPLES,
    WIDTHS,
    Setting,
    assert_same,
    close,
    drawn,
    few,
    finishes,
    graph_of,
    moved,
    packed,
    rule,
)

EVERY = [(bits, "tensor") for bits in WIDTHS]
EVERY += [(1, "channel"), (8, "channel"), (4, "node"), (12, "node"), ((8, 32, 2), "node")]
"""Every width with parameters a segment, and other granularities where they differ."""


@pytest.mark.parametrize(("bits", "granularity"), EVERY)
def test_quantize_at_every_width(bits: Any, granularity: str) -> None:
    check_quantize(Setting(3, bits, granularity, channels=9))
    check_quantize(Setting(5, bits, granularity, symmetric=True, signed=True, heads=2, channels=3))


@EXAMPLES
@given(drawn())
def test_quantize_anything(setting: Setting) -> None:
    check_quantize(setting)


def check_quantize(setting: Setting) -> None:
    width = setting.heads * setting.channels
    values = torch.randn(setting.nodes, width, generator=torch.Generator().manual_seed(setting.seed))
    # Ties, to be rounded half to even, and a row of nothing but zeros.
    values[0] = 0.0
    values[-1, -1] = 0.5
    quantization = rule(setting, setting.channels if setting.heads == 1 else None)
    expected = reference.quantize(values, quantization, setting.rows, setting.heads)
    assert_same(calls.quantize(moved(values), moved(quantization), setting.rows, setting.heads), expected)


def test_quantize_rounds_half_to_even() -> None:
    values = torch.arange(-3.0, 12.5, 0.5).view(1, -1)
    rule_of_ones = Quantization(QuantizerSpec(bits=3), torch.tensor([[1.0, 0.0]]))
    found = calls.quantize(moved(values), moved(rule_of_ones), (1,), 1)
    expected = torch.round(values).clamp(0, 7)
    assert torch.equal(found.code_values().cpu(), expected)


@pytest.mark.parametrize(("bits", "granularity"), EVERY)
def test_aggregate_at_every_width(bits: Any, granularity: str) -> None:
    check_aggregate(
        Setting(4, bits, granularity, channels=10, nodes=4, edges=9), "sum", weighted=True, by_head=False
    )
    for reduction in ("max", "min"):
        check_aggregate(
            Setting(7, bits, granularity, channels=17, nodes=4, edges=9),
            reduction,
            weighted=False,
            by_head=False,
        )


@pytest.mark.parametrize("bits", [1, 4, 8, 32, (4, 1, 8), (8, 32, 2)])
def test_aggregate_by_attention(bits: Any) -> None:
    check_aggregate(Setting(6, bits, heads=2, channels=8, edges=20), "sum", weighted=True, by_head=True)


@EXAMPLES
@given(drawn(), st.sampled_from(("sum", "mean", "max", "min")), st.booleans(), st.booleans())
def test_aggregate_anything(setting: Setting, reduction: Any, weighted: bool, by_head: bool) -> None:
    check_aggregate(setting, reduction, weighted=weighted, by_head=by_head)


def test_aggregate_needs_edges_by_segment() -> None:
    setting = Setting(1, (8, 4, 2))
    graph = graph_of(replace(setting, bits=8))
    with pytest.raises(ModelError, match=r"in 1 \(got 3\): build the graph with the rows' segments"):
        calls.aggregate(moved(graph), moved(packed(setting)), Finish())


def check_aggregate(setting: Setting, reduction: Any, *, weighted: bool, by_head: bool) -> None:
    x, graph = packed(setting), graph_of(setting)
    if not weighted:
        graph = replace(graph, weights=None)
    coefficients = None
    if by_head:
        shape = (graph.edges, setting.heads)
        codes = torch.randint(0, 255, shape, generator=torch.Generator().manual_seed(setting.seed))
        coefficients = EdgeAttention(codes.to(torch.uint8), 0.01, 3.0)
        if setting.seed % 2:
            coefficients = EdgeAttention(coefficients.values(), 1.0, 0.0)
        reduction = "sum"
    for finish in finishes(setting, x.layout.width):
        expected = reference.aggregate(graph, x, finish, reduction=reduction, coefficients=coefficients)
        found = calls.aggregate(
            moved(graph), moved(x), moved(finish), reduction=reduction, coefficients=moved(coefficients)
        )
        assert_same(found, expected)


@pytest.mark.parametrize(("bits", "granularity"), [one for one in EVERY if one[1] != "channel"])
def test_linear_at_every_width(bits: Any, granularity: str) -> None:
    check_linear(Setting(2, bits, granularity, channels=19), outputs=17, largest=127)


@pytest.mark.parametrize("largest", [127, 5000, 32767])
def test_linear_with_wide_weights(largest: int) -> None:
    check_linear(Setting(9, 4, channels=11), outputs=8, largest=largest)


def test_linear_of_rows_too_wide_for_one_tile() -> None:
    setting = Setting(4, 8, "node", channels=3, nodes=3)
    check_linear(setting, outputs=520, largest=3)


@EXAMPLES
@given(drawn(), st.integers(1, 40), st.sampled_from((7, 127, 3000)))
def test_linear_of_anything_packed(setting: Setting, outputs: int, largest: int) -> None:
    if setting.granularity == "channel":
        setting = replace(setting, granularity="tensor")
    check_linear(setting, outputs=outputs, largest=largest)


def test_linear_refuses_codes_scaled_by_channel() -> None:
    x = packed(Setting(1, 8, "channel", channels=4))
    with pytest.raises(ModelError, match="use a weight in fp32"):
        calls.linear(moved(x), moved(tiled(torch.ones(4, 2), torch.ones(2))), Finish())


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("by_channel", [False, True])
def test_linear_of_sparse_features(bits: int, by_channel: bool) -> None:
    setting = Setting(11 + bits, bits, channels=30, nodes=6)
    generator = torch.Generator().manual_seed(setting.seed)
    dense = torch.randint(1, 2**bits, (6, 30), generator=generator)
    dense *= torch.rand(6, 30, generator=generator) < 0.3
    dense[2] = 0
    matrix = dense.to_sparse_csr()
    parameters = torch.stack([torch.rand(6, generator=generator) + 0.1, torch.zeros(6)], dim=1)
    codes = matrix.values().to(torch.uint8)
    x = sparse_features(matrix.crow_indices(), matrix.col_indices(), codes, parameters, 30)
    assert isinstance(x, SparseFeatures)
    integers = torch.randint(-100, 100, (30, 16), generator=generator).float()
    if by_channel:
        # A range of 200 in columns that lie apart: no one zero point holds them all.
        integers[:, 0] = integers[:, 0] + 100.0
        integers[0, 1] = -100.0
    weight = as_rows(integers, torch.rand(16, generator=generator))
    assert weight.packed is not None
    assert (weight.packed.per == "channel") == by_channel
    check_product(x, weight, setting)


def test_linear_of_a_pattern_with_wide_indices() -> None:
    setting = Setting(3, 8, nodes=4)
    pointers, columns = torch.tensor([0, 2, 2, 3, 5]), torch.tensor([0, 70000, 69999, 1, 40000])
    x = sparse_features(
        pointers, columns, torch.full((5,), 7, dtype=torch.uint8), torch.tensor([[0.5, 0.0]]), 70001
    )
    assert isinstance(x, SparseFeatures)
    assert (x.form, x.columns.dtype) == ("pattern", torch.int32)
    integers = torch.randint(0, 9, (70001, 8), generator=torch.Generator().manual_seed(0)).float()
    check_product(x, as_rows(integers, torch.ones(8)), setting)


def test_linear_of_indices_beyond_fifteen_bits() -> None:
    setting = Setting(3, 8, nodes=3)
    pointers, columns = torch.tensor([0, 2, 2, 3]), torch.tensor([0, 40000, 65535])
    codes = torch.tensor([3, 4, 200], dtype=torch.uint8)
    x = sparse_features(pointers, columns, codes, torch.tensor([[0.5, 0.0]]), 65536)
    assert isinstance(x, SparseFeatures)
    assert x.columns.dtype == torch.int16
    integers = torch.randint(0, 9, (65536, 8), generator=torch.Generator().manual_seed(0)).float()
    check_product(x, as_rows(integers, torch.ones(8)), setting)


@pytest.mark.parametrize(("channels", "largest"), [(67, 100), (5, 1000)])
def test_linear_of_bits(channels: int, largest: int) -> None:
    setting = Setting(8, 4, channels=channels)
    generator = torch.Generator().manual_seed(setting.seed)
    used = -(-channels // 8)
    bits = torch.randint(0, 256, (setting.nodes, used), generator=generator).to(torch.uint8)
    if channels % 8:
        bits[:, -1] &= (1 << channels % 8) - 1
    bits = torch.nn.functional.pad(bits, (0, -used % 4))
    x = BitFeatures(bits, torch.rand(setting.nodes, generator=generator), setting.nodes, channels)
    integers = torch.randint(-largest, largest + 1, (channels, 66), generator=generator).float()
    check_product(x, tabled(integers, torch.rand(66, generator=generator)), setting)


def check_linear(setting: Setting, *, outputs: int, largest: int) -> None:
    x = packed(setting)
    generator = torch.Generator().manual_seed(setting.seed + 5)
    integers = torch.randint(-largest, largest + 1, (x.layout.width, outputs), generator=generator).float()
    check_product(x, tiled(integers, torch.rand(outputs, generator=generator) / largest), setting)


def check_product(x: Any, weight: Any, setting: Setting) -> None:
    rows, outputs = setting.nodes, weight.outputs
    generator = torch.Generator().manual_seed(setting.seed + 6)
    addend = torch.randn(rows, outputs, generator=generator)
    heads = 2 if outputs % 2 == 0 else 1
    vectors = torch.randn(2, outputs, generator=generator)
    plain, finish = finishes(setting, outputs)
    for how, added, scored in ((plain, False, False), (finish, False, True), (finish, True, False)):
        wanted = Scores(vectors, torch.zeros(2, rows, heads), heads) if scored else None
        here = Scores(moved(vectors), moved(torch.zeros(2, rows, heads)), heads) if scored else None
        expected = reference.linear(x, weight, how, addend=addend if added else None, scores=wanted)
        found = calls.linear(
            moved(x), moved(weight), moved(how), addend=moved(addend) if added else None, scores=here
        )
        assert_same(found, expected)
        if wanted is not None and here is not None:
            assert bool(close(here.values, wanted.values).all())


@pytest.mark.parametrize("kind", ["additive", "dynamic", "cosine"])
@pytest.mark.parametrize("bits", [1, 4, 8, 32, (4, 1, 8), (8, 32, 2)])
def test_attention_of_every_kind(kind: str, bits: Any) -> None:
    check_attention(Setting(12, bits, heads=3, channels=6, edges=20), kind, coded=True)


@EXAMPLES
@given(drawn(), st.sampled_from(("additive", "dynamic", "cosine")), st.booleans())
def test_attention_anything(setting: Setting, kind: str, coded: bool) -> None:
    check_attention(setting, kind, coded=coded)


def test_attention_over_more_edges_than_fit_at_a_time() -> None:
    check_attention(Setting(12, 8, heads=2, channels=4, edges=90), "dynamic", coded=False)


def check_attention(setting: Setting, kind: Any, *, coded: bool) -> None:
    graph, heads = graph_of(setting), setting.heads
    if kind == "additive":
        source, target = packed(setting, channels=heads, heads=1), packed(setting, channels=heads, heads=1)
    else:
        heads = 1 if kind == "cosine" else heads
        source, target = (
            packed(setting, heads=heads),
            packed(replace(setting, granularity="node"), heads=heads),
        )
    width = 1 if kind == "cosine" else source.layout.width
    vector = torch.randn(width, generator=torch.Generator().manual_seed(setting.seed))
    quantization = Quantization(QuantizerSpec(bits=8), torch.tensor([[1 / 255, 0.0]])) if coded else None
    how: dict[str, Any] = {"kind": kind, "heads": heads, "slope": 0.2}
    expected = reference.attention(graph, source, target, vector=vector, quantization=quantization, **how)
    found = calls.attention(
        moved(graph),
        moved(source),
        moved(target),
        vector=moved(vector),
        quantization=moved(quantization),
        **how,
    )
    assert (found.scale, found.zero_point) == (expected.scale, expected.zero_point)
    assert found.codes.dtype == expected.codes.dtype
    if not coded:
        assert bool(close(found.codes, expected.codes).all())
        return
    difference = (found.codes.cpu().int() - expected.codes.int()).abs()
    assert few(difference > 0)
    assert bool((difference <= 1).all())
