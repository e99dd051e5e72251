"""The look-up table: exact where it was measured, interpolated between, labelled beyond."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgq.cost.categories import AXES, category_of
from sgq.cost.lut import Entry, LookUpTable
from sgq.cost.measurements import Measurement, MeasurementStore
from sgq.cost.space_operations import COLUMNS, Sizes, SpaceSource, grid, key_of
from sgq.cost.timing import Timing
from sgq.cost.work import Work
from sgq.errors import ProfileError

GATHER = Work("integer", "gather", "max", 256, 2560, 16, 16, 8)


def measured(work: Work, seconds: float) -> Measurement:
    return Measurement(COLUMNS, tuple(key_of(work).values()), Timing(5, seconds, seconds, seconds))


def table_of(times: dict[Work, float]) -> LookUpTable:
    return LookUpTable.of(measured(work, seconds) for work, seconds in times.items())


def assert_entry(entry: Entry, seconds: float, *, extrapolated: bool = False) -> None:
    assert entry.seconds == pytest.approx(seconds)
    assert entry.extrapolated == extrapolated


def pool(rows: int, inputs: int, *, clouds: int = 1) -> Work:
    return Work("float", "pool", "max", rows, 0, inputs, inputs, clouds=clouds)


SQUARE = {pool(100, 10): 1e-4, pool(100, 40): 2e-4, pool(400, 10): 4e-4, pool(400, 40): 16e-4}
"""Times of two sizes by two widths."""


@pytest.mark.parametrize("work", SQUARE)
def test_a_measured_size_has_the_measured_time(work: Work) -> None:
    entry = table_of(SQUARE).entry(work)
    assert entry.seconds == pytest.approx(SQUARE[work], rel=1e-12)
    assert not entry.extrapolated


@pytest.mark.parametrize(
    ("rows", "inputs", "seconds"),
    [
        # Half-way in logarithms is the geometric mean.
        (200, 10, 2e-4),
        (100, 20, math.sqrt(2) * 1e-4),
        (400, 20, 8e-4),
        (200, 20, math.sqrt(math.sqrt(2) * 1e-4 * 8e-4)),
        # A quarter of the way from 100 to 400: 1e-4 · 4^(1/4).
        (round(100 * math.sqrt(2) * 1e6) / 1e6, 10, math.sqrt(2) * 1e-4),
    ],
)
def test_between_sizes_times_are_linear_in_logarithms(rows: float, inputs: int, seconds: float) -> None:
    entry = table_of(SQUARE).entry(pool(100, inputs)._replace(rows=rows))  # type: ignore[arg-type]
    assert entry.seconds == pytest.approx(seconds, rel=1e-6)
    assert not entry.extrapolated


def test_beyond_the_grid_time_grows_with_the_work_and_is_labelled() -> None:
    table = table_of(SQUARE)
    assert_entry(table.entry(pool(800, 40)), 2 * 16e-4, extrapolated=True)
    assert_entry(table.entry(pool(1600, 80)), 4 * 2 * 16e-4, extrapolated=True)
    # Only where a size is beyond: the other one is interpolated.
    assert_entry(table.entry(pool(800, 20)), 2 * 8e-4, extrapolated=True)


def test_below_the_grid_time_is_that_of_its_least_size_and_labelled() -> None:
    table = table_of(SQUARE)
    assert_entry(table.entry(pool(50, 10)), 1e-4, extrapolated=True)
    assert_entry(table.entry(pool(1, 1)), 1e-4, extrapolated=True)


def test_one_measured_size_is_a_grid() -> None:
    table = table_of({pool(100, 10): 1e-4})
    assert_entry(table.entry(pool(100, 10)), 1e-4)
    assert_entry(table.entry(pool(200, 30)), 6e-4, extrapolated=True)


def test_what_noise_turned_around_is_averaged_out() -> None:
    # More rows measured as faster: between the two, their geometric mean.
    table = table_of({pool(100, 10): 4e-4, pool(200, 10): 1e-4})
    assert table.entry(pool(100, 10)).seconds == pytest.approx(2e-4)
    assert table.entry(pool(200, 10)).seconds == pytest.approx(2e-4)


def test_gaps_grow_in_proportion_from_the_nearest_known_size() -> None:
    times = dict(SQUARE)
    del times[pool(400, 40)]
    # From 100 rows of 40 channels: four times as many rows.
    assert_entry(table_of(times).entry(pool(400, 40)), 4 * 2e-4)
    del times[pool(100, 10)]
    first = table_of(times).entry(pool(100, 10)).seconds
    assert first == pytest.approx(1e-4)  # a quarter of 400 rows of 10 channels


places = st.lists(
    st.tuples(
        st.sampled_from((16, 64, 256)),
        st.sampled_from((1, 5, 20)),
        st.sampled_from((4, 32)),
        st.floats(1e-7, 1e-1),
    ),
    min_size=1,
    max_size=18,
    unique_by=lambda place: place[:3],
)
sizes = st.tuples(st.floats(1, 5000), st.floats(1, 100), st.floats(1, 500))


@settings(max_examples=80, deadline=None)
@given(places=places, size=sizes, factors=st.tuples(*[st.floats(1, 8)] * 3))
def test_more_work_never_takes_less_time_whatever_was_measured(
    places: list[tuple[int, int, int, float]],
    size: tuple[float, float, float],
    factors: tuple[float, float, float],
) -> None:
    table = table_of({gather(rows, k, inputs): seconds for rows, k, inputs, seconds in places})
    (grid,) = table.grids.values()
    assert np.isfinite(grid.log_seconds).all()
    less = grid.at(size)
    more = grid.at(tuple(one * factor for one, factor in zip(size, factors, strict=True)))
    assert more.seconds >= less.seconds * (1 - 1e-9) > 0.0


@settings(max_examples=40, deadline=None)
@given(seconds=st.lists(st.floats(1e-7, 1e-1), min_size=12, max_size=12))
def test_entries_stay_within_what_was_measured(seconds: list[float]) -> None:
    sizes = list(product((16, 64, 256), (1, 5), (4, 32)))
    table = table_of({gather(*size): time for size, time in zip(sizes, seconds, strict=True)})
    for size in sizes:
        entry = table.entry(gather(*size))
        assert min(seconds) * (1 - 1e-9) <= entry.seconds <= max(seconds) * (1 + 1e-9)
        assert not entry.extrapolated


growing = st.lists(st.floats(1, 9), min_size=3, max_size=3)


@settings(max_examples=40, deadline=None)
@given(factors=st.tuples(growing, growing, growing))
def test_times_that_grow_are_kept_as_they_are(factors: tuple[list[float], ...]) -> None:
    sizes = list(product((16, 64, 256), (1, 5, 20), (4, 32, 50)))
    along = [np.cumprod(one) for one in factors]
    seconds = 1e-7 * np.multiply.outer(np.multiply.outer(*along[:2]), along[2]).ravel()
    table = table_of({gather(*size): float(time) for size, time in zip(sizes, seconds, strict=True)})
    assert [table.entry(gather(*size)).seconds for size in sizes] == pytest.approx(seconds.tolist())


def gather(rows: int, k: int, inputs: int) -> Work:
    return Work("integer", "gather", "max", rows, rows * k, inputs, inputs, 8)


def test_works_alike_are_one_entry_of_the_median_time() -> None:
    # Sum and mean read and write alike: two measurements of one size.
    table = table_of(
        {
            GATHER._replace(variant="sum"): 1e-4,
            GATHER._replace(variant="mean"): 3e-4,
            GATHER._replace(variant="max"): 9e-4,
        }
    )
    assert len(table.grids) == 2
    assert table.entry(GATHER._replace(variant="sum")).seconds == pytest.approx(2e-4)
    assert table.entry(GATHER._replace(variant="min")).seconds == pytest.approx(9e-4)


def test_what_is_done_for_each_cloud_takes_as_many_times_that_of_one() -> None:
    knn = Work("float", "knn", "knn", 256, 2560, 3, 0)
    table = table_of(
        {knn: 1e-3, pool(256, 3): 1e-4, GATHER: 1e-2, GATHER._replace(rows=1024, edges=10240): 4e-2}
    )
    batch = knn._replace(rows=1024, edges=10240, clouds=4)
    assert_entry(table.entry(batch), 4e-3)
    assert_entry(table.entry(pool(1024, 3, clouds=4)), 4e-4)
    # Edges are gathered over the whole batch at once.
    assert_entry(table.entry(GATHER._replace(rows=1024, edges=10240, clouds=4)), 4e-2)


def test_random_neighbours_take_no_time_on_integers() -> None:
    table = table_of({GATHER: 1e-4, Work("float", "random", "random", 256, 2560, 3, 0): 1e-5})
    assert table.entry(Work("integer", "random", "random", 999, 9990, 3, 0)) == Entry(0.0)
    assert_entry(table.entry(Work("float", "random", "random", 256, 2560, 99, 0)), 1e-5)


def test_an_entry_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    table = table_of(SQUARE)
    first = table.entry(pool(200, 10))
    monkeypatch.setattr(table, "grids", {})
    assert table.entry(pool(200, 10)) is first
    with pytest.raises(ProfileError):
        table.entry(pool(201, 10))


def test_a_missing_operation_names_the_nearest_ones() -> None:
    table = table_of({GATHER: 1e-4, GATHER._replace(input_bits=4): 1e-4, pool(10, 10): 1e-4})
    with pytest.raises(ProfileError) as caught:
        table.entry(GATHER._replace(input_bits=2))
    text = str(caught.value)
    assert 'the profile has no operation "integer gather max 2->32 bits"' in text
    assert "Nearest entries: integer gather max 4->32 bits, integer gather max 8->32 bits. " in text
    assert "float pool" not in text
    assert "sgq profile" in text


def test_a_missing_kind_says_that_there_is_none() -> None:
    with pytest.raises(ProfileError, match="Nearest entries: none of its kind"):
        table_of(SQUARE).entry(GATHER)
    with pytest.raises(ProfileError, match="none of its kind"):
        LookUpTable.of([]).entry(GATHER)


def test_axes_have_names() -> None:
    assert AXES[category_of(GATHER).kind] == ("rows", "k", "inputs")


def test_a_measured_file_is_a_table(tmp_path: Path) -> None:
    """From the grid's source through a file of made-up timings to entries."""

    def seconds(work: Work) -> float:
        return 1e-6 * work.rows + 1e-9 * (work.edges + work.rows) * work.inputs * max(work.outputs, 1)

    sizes = Sizes(rows=(16, 64), k=(3, 6), channels=(4, 16), edge_channels=(4,), narrow=(8, 4))
    path = tmp_path / "host.operations.csv"
    source = SpaceSource(tuple(grid(sizes)))
    with MeasurementStore(path, source.columns) as store:
        for work, (key, _) in zip(source.works, source, strict=True):
            time = seconds(work)
            store.append(key, Timing(5, time, time, time, noisy=work.rows == 64))
    table = LookUpTable.read(path)
    for work in source.works:
        entry = table.entry(work)
        assert_entry(entry, seconds(work))
    for work in between(source):
        entry = table.entry(work)
        assert not entry.extrapolated
        assert seconds(work._replace(rows=16)) <= entry.seconds <= seconds(work._replace(rows=64)) * 4


def between(source: SpaceSource) -> Iterator[Work]:
    for work in source.works:
        if work.rows == 16:
            yield work._replace(rows=32, edges=2 * work.edges)


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("gather", "gahter", r"host\.operations\.csv:2: expected a kind of knn, random, .* \(got gahter\)"),
        (",16,", ",many,", r"host\.operations\.csv:2: expected rows of at least 1 \(got many\)"),
        (",16,", ",0,", r"host\.operations\.csv:2: expected rows of at least 1 \(got 0\)"),
        ("runtime,", "what,", r"host\.operations\.csv:1: expected the columns runtime, kind"),
        ("1e-06", "0.0", r"host\.operations\.csv:2: expected a time above 0"),
    ],
)
def test_a_damaged_file_is_named_with_its_line(tmp_path: Path, right: str, wrong: str, message: str) -> None:
    path = tmp_path / "host.operations.csv"
    with MeasurementStore(path, COLUMNS) as store:
        store.append(key_of(Work("float", "gather", "max", 16, 48, 4, 4)), Timing(5, 1e-6, 1e-6, 1e-6))
    assert right in path.read_text()
    path.write_text(path.read_text().replace(right, wrong))
    with pytest.raises(ProfileError, match=message):
        LookUpTable.read(path)
