from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console


@pytest.fixture
def tiny_tables(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    from benches import bit_results, bits
    from benches.bit_tables import synthetic_table

    tables = {
        "synthetic": lambda: synthetic_table(axes=4),
        "trained": lambda: synthetic_table(1, axes=4, bits=(1, 2, 4)),
    }
    monkeypatch.setattr(bits, "TABLES", tables)
    for module in (bits, bit_results):
        monkeypatch.setattr(module, "COUNTS", (10, 20, 30))
    monkeypatch.setattr(bit_results, "LEAD_AFTER", 20)
    bits._table.cache_clear()
    yield
    bits._table.cache_clear()


@pytest.mark.usefixtures("tiny_tables")
def test_the_suite_compares_all_samplers_and_cost_models(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import bench
    from benches import bits

    file = tmp_path / "bits.json"
    words = ["bits", "--seeds", "2", "--evaluations", "30", "--workers", "1", "--overhead-trials", "30"]
    assert bench.main([*words, "--json", str(file)]) == 0
    document = json.loads(file.read_text())
    searches = document["searches"]
    assert len(searches) == 2 * len(bits.COMPARED) * 3
    assert {row["seeds"] for row in searches} == {2}
    for row in searches:
        assert 0.0 <= row["hypervolume_lower_quartile"] <= row["hypervolume_median"] <= 1.0
        assert 0.0 <= row["saving_lower_quartile"] <= row["saving_median"] <= 1.0
    ranks = {
        (row["table"], row["model"], row["measurements"]): row["correlation_median"]
        for row in document["ranks"]
    }
    assert set(ranks) == {
        (table, model, 50) for table in ("synthetic", "trained") for model in bits.COST_MODELS
    }
    assert all(0.3 < correlation <= 1.0 for correlation in ranks.values())
    summary = document["summary"]
    assert {"abs_vs_random_evals", "abs_lead_100", "abs_overhead_ms", "abs_hv_20_trained"} <= set(summary)
    assert 0.0 < summary["abs_overhead_ms"] < summary["abs_overhead_search_ms"]
    assert "abs_hv_150" not in summary
    assert set(document["aims"]) == {"abs_vs_random_evals", "abs_lead_100", "abs_overhead_ms"}
    assert "gaussian process" in capsys.readouterr().out


@pytest.mark.usefixtures("tiny_tables")
def test_a_search_is_judged_without_its_noise() -> None:
    from benches.bits import _table, search_table

    whole = search_table("synthetic", "random", 0, 81)
    assert len(whole.hypervolume) == len(whole.saving) == 81
    assert whole.hypervolume[-1] == pytest.approx(1.0)
    assert whole.saving[-1] == pytest.approx(1.0)
    assert list(whole.hypervolume) == sorted(whole.hypervolume)
    assert search_table("synthetic", "random", 0, 81).hypervolume == whole.hypervolume
    assert _table("synthetic").best_saving_bytes > 0


def result_of(**changes: object):
    from benches.bit_results import BitsResult, Overhead, SearchRow

    def row(table: str, sampler: str, count: int, volume: float) -> SearchRow:
        return SearchRow(table, sampler, count, 1, 0, volume, volume, volume, 1.0, 1.0, 1.0)

    fields = {
        "searches": (
            row("synthetic", "abs", 100, 0.97),
            row("synthetic", "abs", 150, 0.99),
            row("synthetic", "tpe", 100, 0.95),
            row("synthetic", "nsga2", 100, 0.9),
            row("trained", "abs", 100, 0.96),
            row("trained", "tpe", 100, 0.9),
            row("trained", "nsga2", 100, 0.98),
        ),
        "ranks": (),
        "overhead": Overhead(500, 15.0, 25.0),
        "evaluations_to_random": {"synthetic": 25.0, "trained": 61.0},
        "sampler_seconds": {"abs": 3.0},
        "seconds": 1.0,
    }
    return BitsResult(**{**fields, **changes})


def test_the_summary_takes_the_worse_table_and_the_better_rival() -> None:
    result = result_of()
    summary = result.summary
    assert summary["abs_hv_150"] == 0.99
    assert summary["abs_vs_random_evals"] == 61.0
    assert summary["abs_lead_100"] == pytest.approx(-0.02)
    assert summary["abs_lead_100_synthetic"] == pytest.approx(0.02)
    assert result.met == {
        "abs_hv_150": True,
        "abs_vs_random_evals": False,
        "abs_lead_100": False,
        "abs_overhead_ms": True,
    }
    assert result.to_json()["aims"]["abs_hv_150"] == {"aim": ">= 0.99", "met": True}


def test_what_was_never_reached_is_none_and_misses_its_aim() -> None:
    result = result_of(evaluations_to_random={"synthetic": None, "trained": 20.0})
    assert result.summary["abs_vs_random_evals"] is None
    assert not result.met["abs_vs_random_evals"]
    json.dumps(result.to_json(), allow_nan=False)
    stream = io.StringIO()
    Console(file=stream, width=140).print(result.table())
    (line,) = (line for line in stream.getvalue().splitlines() if "abs_vs_random_evals " in line)
    assert "never" in line
    assert "MISSED" in line


def test_evaluations_to_random_count_to_the_first_that_reaches_it() -> None:
    from benches.bits import SearchRun, _evaluations_to_random

    def searched(sampler: str, *volumes: float) -> SearchRun:
        return SearchRun("t", sampler, 0, volumes, volumes, 1.0)

    runs = [
        searched("random", 0.1, 0.5),
        searched("random", 0.1, 0.7),
        searched("abs", 0.2, 0.6),
        searched("abs", 0.2, 0.5, 0.5, 0.8),
        searched("abs", 0.61, 0.7),
    ]
    assert _evaluations_to_random(runs, "t") == 2.0
    assert _evaluations_to_random([*runs[:2], searched("abs", 0.2)], "t") is None


def test_spawned_processes_give_what_this_one_does() -> None:
    from benches.bits import _results, rank_correlations

    tasks = [(rank_correlations, ("trained", seed)) for seed in range(2)]
    here = list(_results(tasks, workers=1))
    there = list(_results(tasks, workers=2))
    assert sorted(map(str, here)) == sorted(map(str, there))


@pytest.mark.parametrize("words", [["--seeds", "0"], ["--evaluations", "none"], ["--workers", "0"]])
def test_a_bad_option_is_told(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    import bench

    with pytest.raises(SystemExit):
        bench.main(["bits", *words])
    assert "expected an integer" in capsys.readouterr().err
