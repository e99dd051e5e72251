from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import asdict, astuple, replace
from itertools import chain, repeat
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sgq.cost import timing
from sgq.cost.pace import Pace, usual_pace
from sgq.cost.timing import (
    Sample,
    Timing,
    TimingSettings,
    WaitingClock,
    on_threads,
    time_calls,
    timing_of,
    without_outliers,
)
from sgq.errors import UsageError

LONG = TimingSettings(rounds=4, warmup=0, attempts=1, least_sample_s=0.0)
"""Every call is long enough for a sample of its own."""
FIRST = (9.0, 9.0, 9.0)
"""The runs that do not count: one that makes what a call reads, and two that tell how long it takes."""


class Machine:
    """A machine whose calls take what a test says, and on which other programs run as it says."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.waited_s = 0.0
        self.order: list[str] = []

    def clock(self) -> float:
        return self.now_s

    def waiting(self) -> float:
        return self.waited_s

    def call(self, name: str, *runs: float | tuple[float, float]) -> Callable[[], None]:
        """Return a call that takes so many seconds in its runs, the last one for ever; (seconds, waited)."""
        durations: Iterator[float | tuple[float, float]] = chain(runs, repeat(runs[-1]))

        def run() -> None:
            one = next(durations)
            seconds, waited = one if isinstance(one, tuple) else (one, 0.0)
            self.now_s += seconds
            self.waited_s += waited
            self.order.append(name)

        return run

    def time(
        self, settings: TimingSettings = LONG, **runs: tuple[float | tuple[float, float], ...]
    ) -> dict[str, Timing]:
        calls = {name: self.call(name, *durations) for name, durations in runs.items()}
        return time_calls(calls, settings, clock=self.clock, waiting=self.waiting)


def test_samples_past_the_whiskers_are_dropped() -> None:
    # Quartiles 11.25 and 13.75, so that the whiskers end at 7.5 and 17.5.
    samples = [10.0, 100.0, 11.0, 12.0, 13.0, 14.0]
    assert without_outliers(samples) == [10.0, 11.0, 12.0, 13.0, 14.0]
    found = timing_of([Sample(seconds) for seconds in samples], TimingSettings(wide_error=0.2))
    assert found == Timing(5, 12.0, 11.0, 13.0)
    assert found.spread == pytest.approx(2 / 12)


def test_three_samples_have_no_outliers() -> None:
    assert without_outliers([1.0, 1.0, 50.0]) == [1.0, 1.0, 50.0]


@given(st.lists(st.floats(1e-9, 1e3), min_size=1, max_size=60))
def test_what_is_kept_is_a_majority_around_the_median(samples: list[float]) -> None:
    kept = without_outliers(samples)
    assert len(kept) >= (len(samples) + 1) // 2
    rest = iter(samples)
    assert all(sample in rest for sample in kept)
    found = timing_of([Sample(seconds) for seconds in samples])
    assert min(samples) <= found.lower_quartile_s <= found.median_s <= found.upper_quartile_s <= max(samples)
    assert found.spread >= 0.0


def test_calls_are_measured_in_turn_after_a_first_run_of_each() -> None:
    machine = Machine()
    found = machine.time(a=(*FIRST, 1.0), b=(2.0,))
    # Once to make what they read, twice to see how long they take.
    assert machine.order == ["a"] * 3 + ["b"] * 3 + ["a", "b"] * 4
    assert found == {"a": Timing(4, 1.0, 1.0, 1.0), "b": Timing(4, 2.0, 2.0, 2.0)}


def test_a_short_call_is_looped_until_a_sample_is_long_enough() -> None:
    machine = Machine()
    settings = TimingSettings(rounds=3, warmup=0, attempts=1, least_sample_s=2**-12)
    found = machine.time(settings, tiny=(2**-20,), short=(2**-14,), long=(2**-11,))
    assert [found[name].median_s for name in ("tiny", "short", "long")] == [2**-20, 2**-14, 2**-11]
    assert {one.count for one in found.values()} == {3}
    # Two looks each: at 1 run, at 1.2 times what was missing (4 and 2.56 times), at most tenfold at once.
    assert machine.order.count("short") == 1 + 2 * (1 + 5) + 3 * 5
    assert machine.order.count("tiny") == 1 + 2 * (1 + 10 + 100 + 308) + 3 * 308
    assert machine.order.count("long") == 1 + 2 * 1 + 3


def test_a_clock_that_stands_still_ends_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "MOST_LOOPS", 100)
    found = Machine().time(TimingSettings(rounds=2, attempts=1), still=(0.0,))
    assert found["still"].median_s == 0.0
    assert found["still"].spread == 0.0


def test_a_wide_spread_is_measured_again_in_twice_the_rounds() -> None:
    machine = Machine()
    settings = TimingSettings(rounds=4, warmup=0, attempts=3, least_sample_s=0.0, most_s=100.0)
    first, later = (1.0, 2.0, 1.0, 2.0), (1.0,)
    found = machine.time(settings, wide=(*FIRST, *first, *later), calm=(3.0,))
    assert machine.order.count("calm") == 3 + 4
    assert machine.order.count("wide") == 3 + 4 + 8
    # Twelve samples, of which the two of 2 s are outliers now.
    assert found["wide"] == Timing(10, 1.0, 1.0, 1.0)


def test_what_stays_wide_is_noisy_and_no_error() -> None:
    machine = Machine()
    settings = TimingSettings(rounds=4, warmup=0, attempts=2, least_sample_s=0.0, most_s=100.0)
    found = machine.time(settings, wild=(*FIRST, *[1.0, 2.0, 4.0, 8.0] * 3))
    assert machine.order.count("wild") == 3 + 4 + 8
    assert found["wild"].noisy
    # The upper quartile of each value three times, between 4 s and 8 s.
    assert (found["wild"].median_s, found["wild"].upper_quartile_s) == (3.0, 5.0)


def test_a_run_that_had_to_wait_for_a_processor_is_taken_again_at_once() -> None:
    machine = Machine()
    settings = TimingSettings(rounds=2, warmup=0, attempts=1, least_sample_s=0.0, retries=2)
    stalled = (8.0, 7.0)
    found = machine.time(settings, a=(*FIRST, stalled, stalled, 1.0, 1.0), b=(5.0,))
    assert machine.order[6:] == ["a", "a", "a", "b", "a", "b"]
    assert found["a"] == Timing(2, 1.0, 1.0, 1.0)


def test_disturbed_samples_do_not_count_where_there_are_others() -> None:
    undisturbed, disturbed = Sample(1.0, 0.05), Sample(8.0, 0.9)
    settings = TimingSettings(rounds=5)
    found = timing_of([disturbed] * 5 + [undisturbed] * 3, settings)
    assert found == Timing(3, 1.0, 1.0, 1.0)


def test_where_nearly_all_were_disturbed_the_least_disturbed_count_and_are_noisy() -> None:
    settings = TimingSettings(rounds=5)
    samples = [Sample(8.0, 0.9)] * 4 + [Sample(1.0, 0.0), Sample(2.0, 0.5), Sample(3.0, 0.6)]
    assert timing_of(samples, settings) == Timing(3, 2.0, 1.5, 2.5, noisy=True)


def test_a_single_sample_has_its_quartiles() -> None:
    assert timing_of([Sample(2.0)]) == Timing(1, 2.0, 2.0, 2.0)


@pytest.mark.parametrize("wrong", [{"rounds": 1}, {"attempts": 0}])
def test_settings_that_measure_nothing_are_a_usage_error(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="expected at least 2 rounds and 1 attempt"):
        TimingSettings(**wrong)  # type: ignore[arg-type]


def test_waiting_is_added_up_over_threads(tmp_path: Path) -> None:
    for task, text in (("7", "100 2000000000 5\n"), ("8", "100 500000000 5\n"), ("9", "ended")):
        (tmp_path / task).mkdir()
        (tmp_path / task / "schedstat").write_text(text)
    (tmp_path / "10").mkdir()
    assert WaitingClock(tmp_path)() == 2.5
    assert WaitingClock(tmp_path / "absent")() == 0.0


def test_threads_are_set_and_come_back() -> None:
    before = torch.get_num_threads()
    with on_threads(2):
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == before


def test_real_calls_take_time() -> None:
    found = time_calls({"sum": torch.ones(1000).sum}, TimingSettings(rounds=3, attempts=1))
    assert found["sum"].median_s > 0.0
    assert 1 <= found["sum"].count <= 3


@pytest.mark.parametrize(
    ("slower", "expected"),
    [
        ({"all_threads_s": 3.0, "one_thread_s": 3.0}, 12.0 / 3.0),
        ({"all_threads_s": 1.0, "one_thread_s": 9.0}, 12.0 / 9.0**0.25),
        ({"all_threads_s": 9.0, "one_thread_s": 1.0}, 12.0 / 9.0**0.75),
    ],
)
def test_samples_are_those_at_the_usual_pace(slower: dict[str, float], expected: float) -> None:
    """A call of 12 s, three times what goes half by the pace of one thread: a quarter of it does."""
    machine = Machine()
    pace = Pace(all_threads_s=2.0, one_thread_s=0.5)

    def reference(name: str, usual_s: float) -> Callable[[], None]:
        def run() -> None:
            machine.now_s += usual_s * slower[name]

        return run

    calls = {name: reference(name, seconds) for name, seconds in asdict(pace).items()}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(timing, "reference_calls", lambda: calls)
        found = time_calls(
            {"call": machine.call("call", *FIRST, 12.0)},
            replace(LONG, rounds=6),
            clock=machine.clock,
            waiting=machine.waiting,
            pace=pace,
            halfway_s=4.0,
        )
    assert astuple(found["call"]) == pytest.approx((6, *[expected] * 3, False))


def test_each_sample_is_at_the_pace_around_it() -> None:
    """A machine that is three times slower from the fourth round on, which its reference calls show."""
    machine = Machine()
    looks = itertools.count()

    def reference(seconds: float) -> Callable[[], None]:
        def run() -> None:
            machine.now_s += seconds * (3.0 if next(looks) >= 8 else 1.0)

        return run

    pace = Pace(all_threads_s=2.0, one_thread_s=0.5)
    calls = {name: reference(seconds) for name, seconds in asdict(pace).items()}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(timing, "reference_calls", lambda: calls)
        found = time_calls(
            {"call": machine.call("call", *FIRST, 4.0, 4.0, 12.0)},
            replace(LONG, rounds=6),
            clock=machine.clock,
            waiting=machine.waiting,
            pace=pace,
        )
    # Four looks at two references before the machine slows down: two rounds of them, before and after.
    assert astuple(found["call"]) == pytest.approx((6, 4.0, 4.0, 4.0, False))


@pytest.mark.parametrize(("alone", "expected"), [(0.0, 4.0), (0.5, 1.0), (1.0, 0.25)])
def test_slowness_is_of_one_thread_or_of_all(alone: float, expected: float) -> None:
    usual, now = Pace(1.0, 4.0), Pace(4.0, 1.0)
    assert usual.slowness(now, alone=alone) == pytest.approx(expected)
    assert usual.slowness(usual, alone=alone) == 1.0


def test_the_usual_pace_is_measured_here() -> None:
    pace = usual_pace(seconds=0.01)
    assert all(0.0 < seconds < 1.0 for seconds in asdict(pace).values())
