from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from sgq.cost import rates
from sgq.cost.measurements import Measurement, MeasurementStore
from sgq.cost.operation_sources import Deferred, Extent, make_source, measure_operations
from sgq.cost.profile import PeakRate, ProductRate, Rates, StreamRate
from sgq.cost.rates import COLUMNS, PRODUCTS, WIDTHS, RateSource, rates_of
from sgq.cost.timing import Timing, TimingSettings

SMALL = RateSource(stream_bytes=(2**10, 2**12), products=((4, 8, 8), (3, 16, 5)), touched_bytes=2**12)
ONCE = TimingSettings(rounds=2, warmup=0, attempts=1, retries=0)


def row(what: str, median_s: float, *, noisy: bool = False, **sizes: int) -> Measurement:
    values = tuple(what if column == "what" else sizes.get(column, 0) for column in COLUMNS)
    return Measurement(COLUMNS, values, Timing(5, median_s, median_s, median_s, noisy))


def test_seconds_become_rates() -> None:
    shape = {"rows": 10, "inputs": 5, "outputs": 2}
    found = rates_of(
        [
            row("launch", 2e-6),
            row("kernel launch", 3e-4, bits=8),
            row("allocate", 1e-6, array_bytes=1024),
            row("first touch", 0.5, array_bytes=1000),
            row("read", 0.25, array_bytes=4000),
            row("read", 0.125, array_bytes=1000, noisy=True),
            row("copy", 1.0, array_bytes=4000),
            row("copy", 0.125, array_bytes=1000),
            row("product", 0.1, bits=32, **shape),
            row("product", 0.05, bits=8, **shape, noisy=True),
            row("product", 0.02, bits=8, rows=1, inputs=1, outputs=1),
        ]
    )
    assert found == Rates(
        # 2 · 10 · 5 · 2 operations in 0.1 and 0.05 seconds; the other product at 8 bits is slower.
        peaks=(PeakRate(32, 2000.0), PeakRate(8, 4000.0)),
        # Of the largest arrays, reading (4000 / 0.25) is faster than copying (2 · 4000 / 1).
        bandwidth_bytes_per_s=16000.0,
        launch_s=2e-6,
        kernel_launch_s=3e-4,
        allocation_s=1e-6,
        first_touch_bytes_per_s=2000.0,
        streams=(StreamRate(1000, 8000.0, 16000.0, noisy=True), StreamRate(4000, 16000.0, 8000.0)),
        products=(
            ProductRate(32, 10, 5, 2, 2000.0),
            ProductRate(8, 10, 5, 2, 4000.0, noisy=True),
            ProductRate(8, 1, 1, 1, 100.0),
        ),
    )


def test_nothing_measured_is_nothing_known() -> None:
    assert rates_of([]) == Rates()


def test_a_width_without_a_rate_runs_as_the_next_wider_one() -> None:
    known = Rates(peaks=(PeakRate(32, 1.0), PeakRate(8, 4.0), PeakRate(2, 9.0)))
    assert [known.peak_operations_per_s(bits) for bits in (64, 32, 16, 8, 4, 3, 2, 1)] == [
        1.0,
        1.0,
        1.0,
        4.0,
        4.0,
        4.0,
        9.0,
        9.0,
    ]
    assert Rates(peaks=(PeakRate(8, 4.0),)).peak_operations_per_s(32) is None


def test_every_rate_is_measured_on_this_machine(tmp_path: Path) -> None:
    with MeasurementStore(tmp_path / "rates.csv", SMALL.columns) as store:
        measure_operations(SMALL, store, ONCE)
        assert len(store) == len(SMALL)
        found = rates_of(store.rows)
    assert [peak.bits for peak in found.peaks] == list(WIDTHS)
    assert [stream.array_bytes for stream in found.streams] == [2**10, 2**12]
    assert [(one.rows, one.inputs, one.outputs) for one in found.products[::5]] == list(SMALL.products)
    assert all(peak.operations_per_s > 0 for peak in found.peaks)
    singles = (found.launch_s, found.kernel_launch_s, found.allocation_s, found.first_touch_bytes_per_s)
    assert all(single is not None and single > 0 for single in singles)
    assert found.bandwidth_bytes_per_s == max(
        found.streams[-1].read_bytes_per_s, found.streams[-1].copy_bytes_per_s
    )


def test_keys_differ_and_have_all_columns() -> None:
    for source in (SMALL, RateSource(), make_source("rates", Extent(2**34, quick=True))):
        pairs = list(source)
        assert len(source) == len(pairs) == len({tuple(key.values()) for key, _ in pairs})
        assert all(tuple(key) == COLUMNS for key, _ in pairs)
        assert all(isinstance(call, Deferred) for _, call in pairs)


@pytest.mark.parametrize(
    ("memory_bytes", "largest"), [(2**40, 2**28), (2**30, 2**26), (0, 2**24), (1, 2**18)]
)
def test_arrays_leave_most_of_the_memory_free(memory_bytes: int, largest: int) -> None:
    source = make_source("rates", Extent(memory_bytes))
    assert isinstance(source, RateSource)
    assert source.stream_bytes[-1] == largest
    assert source.touched_bytes <= 2**26
    assert source.products == PRODUCTS


def test_a_quick_look_is_at_some_of_the_same_sizes() -> None:
    quick, whole = (
        {tuple(key.values()) for key, _ in make_source("rates", Extent(2**36, quick=quick))}
        for quick in (True, False)
    )
    assert quick < whole


@pytest.mark.parametrize("bits", [8, 4, 2, 1])
def test_what_is_timed_is_the_product(bits: int) -> None:
    run = rates._integer_product(bits, 5, 16, 12)
    result = run()
    assert isinstance(result, Tensor)
    want = result.clone()
    assert want.abs().sum() > 0
    result.zero_()
    assert run() is result
    assert torch.equal(result, want)
