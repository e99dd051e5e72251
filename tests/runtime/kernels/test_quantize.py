from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from quantizers import ObserverSpec, QuantizerSpec, code_bounds
from sgq.errors import ModelError
from sgq.runtime.finish import Finish
from sgq.runtime.kernels import finish_values, quantize
from sgq.runtime.quantization import Quantization
from tests.runtime.graphs import BUCKETS, assert_same_codes, channel_counts, normal, rule_of, seeds, specs
from tests.runtime.kernels.test_aggregate import torch_threads

REPOSITORY = Path(__file__).parents[3]

ONE_KERNEL = """
import json
import torch
from sgq.runtime.kernels.cpu import rounding
from sgq.runtime.kernels import quantize
from quantizers import QuantizerSpec
from sgq.runtime.quantization import Quantization

packed = quantize(torch.tensor([[0.0, 1.0, 3.0]]), Quantization(QuantizerSpec(2, granularity="node"), None))
stats = rounding.finish_rows.stats
hits, misses = (sum(counts.values()) for counts in (stats.cache_hits, stats.cache_misses))
print(json.dumps([hits, misses, packed.values().tolist()]))
"""


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    spec=specs(),
    segments=st.tuples(*[st.integers(0, 40)] * BUCKETS),
    channels=channel_counts,
    heads=st.integers(1, 3),
    seed=seeds,
)
def test_codes_are_those_of_the_reference(
    spec: QuantizerSpec, segments: tuple[int, ...], channels: int, heads: int, seed: int
) -> None:
    channels = channels if heads == 1 else -(-channels // 8) * 8
    x = normal(seed, sum(segments), channels * heads)
    bucket = torch.arange(BUCKETS).repeat_interleave(torch.tensor(segments))
    shaped = x if heads == 1 else x.unflatten(1, (heads, -1))
    rule = rule_of(spec, shaped, bucket if spec.bucketed else None)
    got, want = (
        quantize(x, rule, rows=segments, heads=heads, implementation=name) for name in ("numba", "torch")
    )
    assert got.shape == shaped.shape
    assert_same_codes(got, want, spec.widths)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 12])
@pytest.mark.parametrize("granularity", ["tensor", "channel", "node"])
def test_few_codes_of_many_are_off_by_one(bits: int, granularity: str) -> None:
    x = normal(bits, 500, 33)
    rule = rule_of(QuantizerSpec(bits, granularity=granularity), x)
    assert_same_codes(quantize(x, rule), quantize(x, rule, implementation="torch"), (bits,))


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("signed", [False, True])
def test_ties_go_the_way_the_quantizer_rounds_them(bits: int, symmetric: bool, signed: bool) -> None:
    least, most = code_bounds(bits, symmetric=symmetric, signed=signed)
    observer = ObserverSpec("fixed", lower=min(least, 0.0), upper=max(most, 1.0))
    spec = QuantizerSpec(bits, symmetric=symmetric, signed=signed, observer=observer)
    x = (torch.arange(-20, 21) + 0.5).view(-1, 1).expand(-1, 3).contiguous()
    rule = rule_of(spec, x)
    assert rule.parameters is not None
    assert rule.parameters[0, 0].frexp().mantissa == 0.5
    got, want = quantize(x, rule), quantize(x, rule, implementation="torch")
    assert torch.equal(got.code_values(), want.code_values())


@pytest.mark.parametrize("kind", ["minmax", "mse"])
def test_rows_of_several_heads_keep_their_shape(kind: str) -> None:
    observer = ObserverSpec(kind)  # type: ignore[arg-type]
    rule = rule_of(QuantizerSpec(8, granularity="node", observer=observer), normal(0, 6, 16))
    assert rule.clips_rows == (kind == "mse")
    got = quantize(normal(0, 6, 16), rule, heads=2)
    assert got.shape == (6, 2, 8)
    assert torch.allclose(got.values().flatten(1), normal(0, 6, 16), atol=0.02)


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_rows_of_zeros_and_of_one_sign_keep_zero(bits: int) -> None:
    x = torch.tensor([[0.0, 0.0, 0.0], [0.0, 2.0, 1.0], [-3.0, 0.0, -1.0], [1e-42, 0.0, 0.0]])
    rule = rule_of(QuantizerSpec(bits, granularity="node"), x)
    got, want = quantize(x, rule), quantize(x, rule, implementation="torch")
    assert torch.equal(got.code_values(), want.code_values())
    assert got.values()[x == 0].eq(0).all()


def test_no_rows() -> None:
    for granularity in ("tensor", "channel", "node"):
        rule = rule_of(QuantizerSpec(4, granularity=granularity), normal(0, 3, 5))
        for implementation in ("numba", "torch"):
            got = quantize(torch.empty(0, 5), rule, implementation=implementation)
            assert got.values().shape == (0, 5)


def test_threads_change_no_bit() -> None:
    x = normal(0, 700, 30)
    rule = rule_of(QuantizerSpec(4, granularity="node"), x)
    results = []
    for threads in (1, 2):
        with torch_threads(threads):
            results.append(quantize(x, rule).code_values())
    assert torch.equal(*results)


def test_a_second_process_finds_compiled_code_and_says_nothing(tmp_path: Path) -> None:
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(REPOSITORY)}

    def run() -> tuple[list[object], str]:
        done = subprocess.run(
            [sys.executable, "-c", ONE_KERNEL], env=environment, capture_output=True, text=True, check=True
        )
        return json.loads(done.stdout), done.stderr

    found, said = run()
    assert found == [0, 1, [[0.0, 1.0, 3.0]]]
    assert said.count("compiling kernels") == 1
    found, said = run()
    assert found == [1, 0, [[0.0, 1.0, 3.0]]]
    assert "compiling" not in said


@pytest.mark.parametrize(("activation", "slope"), [("none", 0.0), ("relu", 0.0), ("leaky_relu", 0.3)])
def test_infinities_stay_what_they_are(activation: Any, slope: float) -> None:
    values = torch.tensor([[torch.inf, -torch.inf, 2.0, -2.0, 0.0]])
    finish = Finish(activation=activation, slope=slope)
    want = finish_values(values, finish, implementation="torch")
    assert isinstance(want, Tensor)
    assert torch.equal(finish_values(values, finish), want)


def test_no_rows_have_codes_too_where_ranges_are_searched_for() -> None:
    spec = QuantizerSpec(4, granularity="node", observer=ObserverSpec("mse"))
    packed = quantize(torch.empty(0, 5), Quantization(spec, None))
    assert packed.shape == (0, 5)


def test_a_finish_of_other_rows_or_channels_is_refused() -> None:
    values = torch.rand(3, 4)
    rule = rule_of(QuantizerSpec((8, 2), granularity="bucket"), values, torch.tensor([0, 0, 1]))
    for finish in (
        Finish(multiply=torch.ones(3)),
        Finish(add=torch.ones(5)),
        Finish(heads=3),
        Finish(quantization=rule, rows=(3, 1)),
    ):
        with pytest.raises(ModelError, match="expected"):
            finish_values(values, finish)
