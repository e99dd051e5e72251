from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from quantizers import (
    BucketedFakeQuantize,
    FakeQuantize,
    ObserverSpec,
    Phase,
    Quantizer,
    QuantizerError,
    QuantizerSpec,
    RowFakeQuantize,
    create,
    fake_quantize,
)

WIDTHS = (8, 32, 2)
SPECS = [
    QuantizerSpec(bits=8),
    QuantizerSpec(bits=1, symmetric=True, signed=True),
    QuantizerSpec(bits=4, granularity="channel", symmetric=True, signed=True),
    QuantizerSpec(bits=4, granularity="node"),
    QuantizerSpec(
        bits=(1, 32, 2), granularity="node", observer=ObserverSpec("mse"), symmetric=True, signed=True
    ),
    QuantizerSpec(bits=WIDTHS, granularity="bucket"),
    QuantizerSpec(bits=WIDTHS, granularity="bucket", observer=ObserverSpec("percentile"), symmetric=True),
]
ids = str


@pytest.fixture
def x() -> Tensor:
    return torch.randn(9, 4, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def bucket() -> Tensor:
    return torch.tensor([0, 1, 2, 0, 1, 2, 2, 2, 0], dtype=torch.uint8)


def calibrated(spec: QuantizerSpec, x: Tensor, bucket: Tensor | None = None) -> Quantizer:
    quantizer = create(spec, channel_shape=(1, 4))
    quantizer(x, bucket)
    quantizer.freeze()
    return quantizer


def test_observe_returns_its_input_and_follows_the_data(x: Tensor) -> None:
    quantizer = FakeQuantize(QuantizerSpec(bits=8))
    assert quantizer.phase is Phase.OBSERVE
    assert quantizer(x) is x
    assert quantizer.scale == (x.amax() - x.amin()) / 255


def test_track_follows_the_data_in_training_only(x: Tensor) -> None:
    quantizer = FakeQuantize(QuantizerSpec(bits=8))
    quantizer.phase = Phase.TRACK
    quantizer(x)
    before = quantizer.scale.clone()
    quantizer.eval()
    quantizer(x * 2)
    assert torch.equal(quantizer.scale, before)
    quantizer.train()
    quantizer(x * 2)
    assert torch.equal(quantizer.scale, before * 2)
    quantizer.freeze()
    quantizer(x * 4)
    assert torch.equal(quantizer.scale, before * 2)


def test_channels_of_a_weight_equal_rows_quantized_alone() -> None:
    weight = torch.randn(5, 3)
    spec = QuantizerSpec(bits=4, granularity="channel", symmetric=True, signed=True)
    quantizer = FakeQuantize(spec, channel_shape=(5, 1))
    quantizer(weight)
    quantizer.freeze()
    assert quantizer.scale.shape == (5, 1)
    alone = QuantizerSpec(bits=4, symmetric=True, signed=True)
    wanted = torch.stack([calibrated(alone, row)(row) for row in weight])
    assert torch.equal(quantizer(weight), wanted)


@pytest.mark.parametrize("kind", ["minmax", "mse"])
@pytest.mark.parametrize(("symmetric", "signed"), [(False, False), (True, True), (True, False)])
def test_rows_equal_a_loop_over_rows(
    x: Tensor, bucket: Tensor, kind: str, symmetric: bool, signed: bool
) -> None:
    observer = ObserverSpec(kind)  # type: ignore[arg-type]
    spec = QuantizerSpec((8, 1, 2), granularity="node", symmetric=symmetric, signed=signed, observer=observer)
    got = calibrated(spec, x, bucket)(x, bucket)
    for index, row in enumerate(x):
        bits = spec.widths[int(bucket[index])]
        alone = QuantizerSpec(bits, granularity="node", symmetric=symmetric, signed=signed, observer=observer)
        torch.testing.assert_close(got[index], calibrated(alone, row[None])(row[None])[0], rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["minmax", "moving_average", "percentile"])
@pytest.mark.parametrize(("symmetric", "signed"), [(False, True), (True, True), (True, False)])
def test_buckets_equal_a_loop_over_buckets(
    x: Tensor, bucket: Tensor, kind: str, symmetric: bool, signed: bool
) -> None:
    observer = ObserverSpec(kind)  # type: ignore[arg-type]
    spec = QuantizerSpec(
        (8, 32, 1), granularity="bucket", symmetric=symmetric, signed=signed, observer=observer
    )
    got = calibrated(spec, x, bucket)(x, bucket)
    for index, bits in enumerate(spec.widths):
        rows = x[bucket == index]
        alone = QuantizerSpec(bits, symmetric=symmetric, signed=signed, observer=observer)
        assert torch.equal(got[bucket == index], calibrated(alone, rows)(rows))


@pytest.mark.parametrize("spec", SPECS, ids=ids)
def test_quantizing_commutes_with_the_gather(spec: QuantizerSpec, x: Tensor, bucket: Tensor) -> None:
    quantizer = calibrated(spec, x, bucket)
    source = torch.tensor([4, 4, 0, 8, 2, 1, 7, 2, 2, 5, 3, 0])
    assert torch.equal(quantizer(x, bucket)[source], quantizer(x[source], bucket[source]))


@pytest.mark.parametrize("spec", SPECS, ids=ids)
def test_a_state_dict_restores_scales_exactly_and_needs_no_data(
    spec: QuantizerSpec, x: Tensor, bucket: Tensor
) -> None:
    quantizer = calibrated(spec, x, bucket)
    fresh = create(spec, channel_shape=(1, 4))
    fresh.load_state_dict(quantizer.state_dict())
    fresh.freeze()
    assert torch.equal(fresh(x, bucket), quantizer(x, bucket))
    assert all(torch.equal(fresh.state_dict()[key], value) for key, value in quantizer.state_dict().items())


@pytest.mark.parametrize("spec", SPECS, ids=ids)
def test_deepcopies_and_float64_give_the_same_numbers(spec: QuantizerSpec, x: Tensor, bucket: Tensor) -> None:
    quantizer = calibrated(spec, x, bucket)
    wanted = quantizer(x, bucket)
    assert torch.equal(copy.deepcopy(quantizer)(x, bucket), wanted)
    for wide in (quantizer, copy.deepcopy(quantizer).double()):
        got = wide(x.double(), bucket)
        assert got.dtype is torch.float64
        torch.testing.assert_close(got.float(), wanted)


@pytest.mark.parametrize("spec", SPECS, ids=ids)
def test_compiled_and_exported_equal_eager(spec: QuantizerSpec, x: Tensor, bucket: Tensor) -> None:
    quantizer = calibrated(spec, x, bucket)
    wanted = quantizer(x, bucket)
    torch.compiler.reset()
    compiled = torch.compile(quantizer, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(x, bucket), wanted)
    rows = torch.export.Dim("rows", min=2, max=1000)
    program = torch.export.export(quantizer, (x, bucket), dynamic_shapes=({0: rows}, {0: rows})).module()
    assert torch.equal(program(x, bucket), wanted)
    assert torch.equal(program(x[:5], bucket[:5]), quantizer(x[:5], bucket[:5]))


@pytest.mark.parametrize("spec", [SPECS[0], SPECS[3], SPECS[5]], ids=ids)
def test_compiled_training_has_the_gradient_of_eager(spec: QuantizerSpec, x: Tensor, bucket: Tensor) -> None:
    quantizer = calibrated(spec, x * 0.5, bucket)
    torch.compiler.reset()
    compiled = torch.compile(quantizer, backend="aot_eager", fullgraph=True)
    gradients = []
    for call in (quantizer, compiled):
        tracked = x.clone().requires_grad_()
        call(tracked, bucket).backward(x)
        gradients.append(tracked.grad)
    assert torch.equal(gradients[0], gradients[1])


def test_compiled_tracking_follows_the_data(x: Tensor) -> None:
    quantizer = FakeQuantize(QuantizerSpec(bits=8))
    quantizer(x)
    quantizer.phase = Phase.TRACK
    twin = copy.deepcopy(quantizer)
    torch.compiler.reset()
    compiled = torch.compile(quantizer, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(x * 3), twin(x * 3))
    assert torch.equal(quantizer.scale, twin.scale)


@pytest.mark.parametrize("granularity", ["tensor", "channel", "node", "bucket"])
@pytest.mark.parametrize("kind", ["minmax", "percentile", "mse"])
def test_sparse_csr_equals_dense(granularity: str, kind: str, bucket: Tensor) -> None:
    if granularity == "node" and kind == "percentile":
        return
    x = torch.randn(9, 4, generator=torch.Generator().manual_seed(5)).relu()
    bits = WIDTHS if granularity == "bucket" else 4
    spec = QuantizerSpec(bits, granularity=granularity, observer=ObserverSpec(kind, q=0.9))  # type: ignore[arg-type]
    wanted = calibrated(spec, x, bucket)(x, bucket)
    sparse = x.to_sparse_csr()
    got = calibrated(spec, sparse, bucket)(sparse, bucket)
    assert got.layout is torch.sparse_csr
    assert torch.equal(got.col_indices(), sparse.col_indices())
    torch.testing.assert_close(got.to_dense(), wanted)


def test_a_sparse_matrix_without_values_gets_a_range(bucket: Tensor) -> None:
    empty = torch.zeros(9, 4).to_sparse_csr()
    for granularity in ("tensor", "channel", "node", "bucket"):
        bits = WIDTHS if granularity == "bucket" else 4
        for kind in ("minmax", "mse") if granularity == "node" else ("minmax", "mse", "percentile"):
            spec = QuantizerSpec(bits, granularity=granularity, observer=ObserverSpec(kind))  # type: ignore[arg-type]
            assert calibrated(spec, empty, bucket)(empty, bucket).values().numel() == 0


def test_one_bit_symmetric_sparse_is_an_error() -> None:
    quantizer = FakeQuantize(QuantizerSpec(bits=1, symmetric=True, signed=True))
    with pytest.raises(QuantizerError, match="sparse matrix: one-bit symmetric codes have no 0"):
        quantizer(torch.eye(3).to_sparse_csr())


@pytest.mark.parametrize("spec", SPECS, ids=ids)
def test_an_empty_batch_is_let_through(spec: QuantizerSpec, x: Tensor, bucket: Tensor) -> None:
    quantizer = calibrated(spec, x, bucket)
    quantizer.phase = Phase.TRACK
    before = quantizer(x, bucket)
    assert quantizer(x[:0], bucket[:0]).shape == (0, 4)
    quantizer.freeze()
    assert torch.equal(quantizer(x, bucket), before)


def test_rows_of_one_value_and_of_many_dimensions_work(bucket: Tensor) -> None:
    for shape in ((9,), (9, 2, 3)):
        x = torch.randn(shape)
        for bits, granularity in ((8, "node"), (WIDTHS, "node"), (WIDTHS, "bucket"), (8, "tensor")):
            spec = QuantizerSpec(bits, granularity=granularity)  # type: ignore[arg-type]
            got = calibrated(spec, x, bucket)(x, bucket)
            assert got.shape == x.shape
            assert torch.equal(got[1], x[1]) or bits == 8


def test_32_bits_return_the_input_itself(x: Tensor) -> None:
    for granularity in ("tensor", "channel", "node"):
        quantizer = create(QuantizerSpec(32, granularity=granularity), channel_shape=(1, 4))  # type: ignore[arg-type]
        quantizer.freeze()
        assert quantizer(x) is x


def test_a_fixed_range_needs_no_data() -> None:
    quantizer = FakeQuantize(QuantizerSpec(bits=2, observer=ObserverSpec("fixed", lower=0.0, upper=3.0)))
    quantizer.freeze()
    assert quantizer(torch.tensor([0.6, 5.0])).tolist() == [1.0, 3.0]


@pytest.mark.parametrize("phase", [Phase.TRACK, Phase.FROZEN])
def test_a_quantizer_without_a_range_is_an_error(phase: Phase, x: Tensor, bucket: Tensor) -> None:
    for spec in (SPECS[0], SPECS[5]):
        quantizer = create(spec).eval()
        quantizer.phase = phase
        with pytest.raises(QuantizerError, match=f"has no range.*{phase.name}"):
            quantizer(x, bucket)
        quantizer.load_state_dict(create(spec).state_dict())
        with pytest.raises(QuantizerError, match="has no range"):
            quantizer(x, bucket)


@pytest.mark.parametrize("spec", [SPECS[4], SPECS[5]], ids=ids)
def test_bucket_ids_that_do_not_fit_are_an_error(spec: QuantizerSpec, x: Tensor, bucket: Tensor) -> None:
    quantizer = calibrated(spec, x, bucket)
    with pytest.raises(QuantizerError, match=r"bucket ids of 9 rows .got 7"):
        quantizer(x, bucket[:7])
    with pytest.raises(QuantizerError, match=r"bucket ids of 9 rows .got 0: no bucket"):
        quantizer(x)


def test_channels_that_do_not_fit_are_an_error(x: Tensor) -> None:
    with pytest.raises(QuantizerError, match="needs a channel_shape"):
        FakeQuantize(QuantizerSpec(granularity="channel"))
    quantizer = FakeQuantize(QuantizerSpec(granularity="channel"), channel_shape=(1, 3))
    with pytest.raises(QuantizerError, match=r"channels of shape \(1, 3\) \(got shape \(9, 4\)\)"):
        quantizer(x)
    rows = FakeQuantize(QuantizerSpec(granularity="channel"), channel_shape=(9, 1))
    with pytest.raises(QuantizerError, match="columns of a sparse matrix"):
        rows(x.to_sparse_csr())


def test_a_class_refuses_granularities_and_observers_that_are_not_its_own() -> None:
    for wrong, spec in (
        (FakeQuantize, SPECS[3]),
        (RowFakeQuantize, SPECS[0]),
        (BucketedFakeQuantize, SPECS[0]),
    ):
        with pytest.raises(QuantizerError, match="expected granularity"):
            wrong(spec)
    with pytest.raises(QuantizerError, match=r'expected observer "minmax" or "mse" .got "percentile"'):
        create(QuantizerSpec(granularity="node", observer=ObserverSpec("percentile")))


def test_integers_and_other_layouts_are_an_error(x: Tensor) -> None:
    quantizer = FakeQuantize(QuantizerSpec())
    with pytest.raises(QuantizerError, match=r"floating-point tensor .got torch.int64"):
        quantizer(torch.arange(3))
    with pytest.raises(QuantizerError, match=r"sparse CSR matrix .got layout torch.sparse_coo"):
        quantizer(x.to_sparse_coo())


def test_parameters_of_are_what_forward_uses(x: Tensor, bucket: Tensor) -> None:
    for spec in SPECS:
        quantizer = calibrated(spec, x, bucket)
        assert torch.equal(fake_quantize(x, quantizer.parameters_of(x, bucket)), quantizer(x, bucket))


@pytest.mark.parametrize("spec", SPECS, ids=ids)
def test_half_precision_keeps_float32_scales(spec: QuantizerSpec, x: Tensor, bucket: Tensor) -> None:
    half = x.half()
    got = calibrated(spec, half, bucket)(half, bucket)
    assert got.dtype is torch.float16
    assert torch.equal(got, calibrated(spec, half.float(), bucket)(half.float(), bucket).half())


def test_the_repr_names_spec_and_observer() -> None:
    spec = QuantizerSpec(4, granularity="channel", symmetric=True, observer=ObserverSpec("mse"))
    assert repr(FakeQuantize(spec, channel_shape=(3, 1))) == "FakeQuantize(4 channel symmetric, mse)"
    assert repr(create(SPECS[5])) == "BucketedFakeQuantize(8/32/2 bucket, minmax)"
