from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sgq.cost import operation_sources
from sgq.cost.measurements import Key, MeasurementStore, read_measurements
from sgq.cost.operation_sources import (
    Deferred,
    Extent,
    make_source,
    measure_operations,
    operation_source,
    source_names,
)
from sgq.cost.timing import Call, TimingSettings
from sgq.errors import ProfileError

ONCE = TimingSettings(rounds=2, warmup=0, attempts=1, least_sample_s=0.0, retries=0)
"""Nothing is taken again, however busy the machine is."""
COLUMNS = ("number",)


class Counted:
    """Operations 0 to `count` - 1; it is noted which were built, and which run; `fails` is interrupted."""

    columns = COLUMNS

    def __init__(self, count: int, *, fails: int | None = None) -> None:
        self.count = count
        self.fails = fails
        self.built: list[int] = []
        self.ran: list[int] = []

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[tuple[Key, Call]]:
        for number in range(self.count):
            yield {"number": number}, Deferred(self._build(number))

    def _build(self, number: int) -> Callable[[], Call]:
        def build() -> Call:
            self.built.append(number)
            return lambda: self._run(number)

        return build

    def _run(self, number: int) -> None:
        if number == self.fails:
            raise KeyboardInterrupt
        self.ran.append(number)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.csv"


def test_every_operation_is_measured_and_progress_is_told(path: Path) -> None:
    source, told = Counted(5), list[int]()
    with MeasurementStore(path, COLUMNS) as store:
        measure_operations(source, store, ONCE, together=2, on_progress=told.append)
    assert [row.key["number"] for row in read_measurements(path)] == [0, 1, 2, 3, 4]
    assert told == [2, 4, 5, 5]
    assert source.built == [0, 1, 2, 3, 4]
    # Two at a time: first runs and looks at how long they take, then two rounds in turn.
    assert source.ran[:10] == [0, 0, 0, 1, 1, 1, 0, 1, 0, 1]


def test_an_interrupt_keeps_what_was_measured_and_the_rest_is_measured_next_time(path: Path) -> None:
    with MeasurementStore(path, COLUMNS) as store, pytest.raises(KeyboardInterrupt):
        measure_operations(Counted(6, fails=3), store, ONCE, together=2)
    assert [row.key["number"] for row in read_measurements(path)] == [0, 1]
    source = Counted(6)
    with MeasurementStore(path, COLUMNS) as store:
        measure_operations(source, store, ONCE, together=2)
    assert source.built == [2, 3, 4, 5]
    assert [row.key["number"] for row in read_measurements(path)] == [0, 1, 2, 3, 4, 5]


def test_nothing_is_built_where_all_is_measured(path: Path) -> None:
    for built in ([0, 1], []):
        source, told = Counted(2), list[int]()
        with MeasurementStore(path, COLUMNS) as store:
            measure_operations(source, store, ONCE, on_progress=told.append)
        assert source.built == built
        assert told[-1] == 2


def test_a_deferred_call_is_built_once() -> None:
    source = Counted(1)
    ((_, call),) = source
    call()
    call()
    assert (source.built, source.ran) == ([0], [0, 0])


def test_sources_are_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert source_names()[0] == "rates"
    monkeypatch.setattr(operation_sources, "_MAKERS", dict(operation_sources._MAKERS))
    operation_source("counted")(lambda extent: Counted(3 if extent.quick else 30))
    assert source_names()[-1] == "counted"
    assert len(make_source("counted", Extent(2**30, quick=True))) == 3
    assert len(make_source("counted", Extent(2**30))) == 30
    with pytest.raises(ProfileError, match=r'no source of operations "count"\. Did you mean "counted"\?'):
        make_source("count", Extent(0))


@pytest.mark.parametrize("name", ["rates", "no file", ""])
def test_a_name_that_is_taken_or_no_identifier_is_refused(name: str) -> None:
    source_names()
    with pytest.raises(ProfileError, match="expected a new identifier"):
        operation_source(name)(lambda extent: Counted(1))
