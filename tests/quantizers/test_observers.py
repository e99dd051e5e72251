from __future__ import annotations

import pytest
import torch
from torch import Tensor

from quantizers import (
    ObserverSpec,
    QuantizerError,
    QuantizerSpec,
    affine_parameters,
    create_observer,
    fake_quantize,
)
from quantizers.groups import GroupedValues, as_one_group, by_bucket, by_channel
from quantizers.observers import RangeObserver


def observer_of(kind: str, *, groups: int = 1, **fields: object) -> RangeObserver:
    names = {"momentum", "q", "lower", "upper"}
    observer = ObserverSpec(kind, **{key: fields.pop(key) for key in names & set(fields)})  # type: ignore[arg-type]
    return create_observer(QuantizerSpec(observer=observer, **fields), groups=groups)  # type: ignore[arg-type]


def ranges(observer: RangeObserver) -> list[list[float]]:
    return [end.tolist() for end in observer.ranges()]


def test_minmax_keeps_the_widest_range_and_includes_zero() -> None:
    observer = observer_of("minmax")
    observer.observe(as_one_group(torch.tensor([1.0, 2.0])))
    assert ranges(observer) == [[0.0], [2.0]]
    observer.observe(as_one_group(torch.tensor([-1.0, 1.0])))
    assert ranges(observer) == [[-1.0], [2.0]]


def test_moving_average_starts_at_the_first_batch() -> None:
    observer = observer_of("moving_average", momentum=0.25)
    observer.observe(as_one_group(torch.tensor([-4.0, 8.0])))
    observer.observe(as_one_group(torch.tensor([0.0, 4.0])))
    assert ranges(observer) == [[-3.0], [7.0]]


def test_percentile_takes_outer_order_statistics() -> None:
    observer = observer_of("percentile", q=0.9)
    observer.observe(as_one_group(torch.arange(-10.0, 11.0)))
    assert ranges(observer) == [[-8.0], [8.0]]
    observer.observe(as_one_group(torch.full((21,), 18.0)))
    assert ranges(observer)[1] == pytest.approx([9.0])


def test_fixed_ignores_the_data() -> None:
    observer = observer_of("fixed", lower=-1.0, upper=3.0, groups=2)
    observer.observe(GroupedValues(torch.randn(2, 9) * 100, 2))
    assert ranges(observer) == [[-1.0, -1.0], [3.0, 3.0]]


def test_mse_clips_an_outlier_and_beats_minmax() -> None:
    x = torch.cat([torch.randn(4000, generator=torch.Generator().manual_seed(0)), torch.tensor([40.0])])
    observer = observer_of("mse", bits=4)
    observer.observe(as_one_group(x))
    lower, upper = observer.ranges()

    def error(low: Tensor, high: Tensor) -> Tensor:
        parameters = affine_parameters(low, high, bits=4, symmetric=False, signed=False)
        return (fake_quantize(x, parameters) - x).square().sum()

    assert upper < 40.0
    assert error(lower, upper) < error(x.amin(), x.amax())


def test_mse_at_one_bit_symmetric_is_the_mean_magnitude() -> None:
    observer = observer_of("mse", bits=1, symmetric=True, signed=True, groups=2)
    observer.observe(GroupedValues(torch.tensor([[1.0, -3.0], [4.0, 6.0]]), 2))
    assert ranges(observer) == [[-2.0, -5.0], [2.0, 5.0]]


@pytest.mark.parametrize("kind", ["minmax", "moving_average", "percentile", "mse"])
@pytest.mark.parametrize(("symmetric", "signed"), [(False, False), (True, True)])
def test_ragged_groups_equal_a_loop_over_buckets(kind: str, symmetric: bool, signed: bool) -> None:
    widths = (4, 1, 2)
    together = observer_of(
        kind, bits=widths, granularity="bucket", groups=3, q=0.9, symmetric=symmetric, signed=signed
    )
    alone = [observer_of(kind, bits=width, q=0.9, symmetric=symmetric, signed=signed) for width in widths]
    generator = torch.Generator().manual_seed(1)
    for _ in range(2):
        x = torch.randn(30, 4, generator=generator)
        bucket = torch.randint(0, 3, (30,), generator=generator, dtype=torch.uint8)
        together.observe(by_bucket(x, bucket, 3))
        for index, observer in enumerate(alone):
            observer.observe(as_one_group(x[bucket == index]))
    for end, wanted in zip(
        together.ranges(), zip(*(one.ranges() for one in alone), strict=True), strict=True
    ):
        torch.testing.assert_close(end, torch.cat(wanted))


@pytest.mark.parametrize("kind", ["minmax", "moving_average", "percentile", "mse"])
def test_channels_equal_a_loop_over_channels(kind: str) -> None:
    x = torch.randn(50, 2, 3, generator=torch.Generator().manual_seed(2))
    together = observer_of(kind, bits=3, granularity="channel", groups=6, q=0.9)
    together.observe(by_channel(x, (1, 2, 3)))
    lower, upper = together.ranges()
    for index in range(6):
        alone = observer_of(kind, bits=3, q=0.9)
        alone.observe(as_one_group(x[:, index // 3, index % 3]))
        torch.testing.assert_close(torch.stack([lower[index], upper[index]]), torch.cat(alone.ranges()))


def test_a_bucket_without_rows_keeps_its_range_and_a_bucket_never_seen_borrows() -> None:
    observer = observer_of("minmax", bits=(8, 8, 8), granularity="bucket", groups=3)
    observer.observe(by_bucket(torch.tensor([[-1.0], [2.0]]), torch.tensor([0, 1]), 3))
    observer.observe(by_bucket(torch.tensor([[5.0]]), torch.tensor([1]), 3))
    assert ranges(observer) == [[-1.0, 0.0, -1.0], [0.0, 5.0, 5.0]]
    assert observer.seen.tolist() == [True, True, False]


@pytest.mark.parametrize("kind", ["percentile", "mse"])
def test_large_batches_are_sampled_and_rare_buckets_are_not_lost(kind: str) -> None:
    x = torch.rand(3000, 64)
    bucket = torch.zeros(3000, dtype=torch.uint8)
    bucket[-1] = 1
    x[-1] *= 0.1
    observer = observer_of(kind, bits=(8, 8), granularity="bucket", groups=2)
    observer.observe(by_bucket(x, bucket, 2))
    assert observer.seen.all()
    upper = observer.ranges()[1].tolist()
    assert 0.9 < upper[0] <= 1.0
    assert 0.05 < upper[1] <= 0.1


def test_a_sample_sees_every_column() -> None:
    x = torch.arange(64.0).expand(512, 64)
    assert as_one_group(x).sample(2000).values.unique().numel() == 64


def test_zeros_that_a_sparse_matrix_does_not_store_count_for_percentiles() -> None:
    x = torch.zeros(40, 10)
    x[0, :3] = torch.tensor([1.0, 2.0, 3.0])
    dense, sparse = observer_of("percentile", q=0.995), observer_of("percentile", q=0.995)
    dense.observe(as_one_group(x))
    sparse.observe(as_one_group(x.to_sparse_csr()))
    assert ranges(dense) == ranges(sparse) == [[0.0], [2.0]]


@pytest.mark.parametrize(
    ("lower", "upper"), [(-1e300, 1.0), (-3e38, 3e38), (0.0, 1e-300), (-1.0, float("inf"))]
)
def test_a_fixed_range_whose_width_fp32_does_not_hold_is_refused(lower: float, upper: float) -> None:
    with pytest.raises(QuantizerError, match="a range whose width fp32 holds"):
        ObserverSpec("fixed", lower=lower, upper=upper)


def test_a_fixed_range_as_wide_as_fp32_goes_is_taken() -> None:
    assert ObserverSpec("fixed", lower=0.0, upper=torch.finfo(torch.float32).max).upper
