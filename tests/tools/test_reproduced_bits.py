"""The table of searched bits: which recipe by hand is compared with what was found, from which drop."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sgq.bits.selection import Selection
from tests.bits.beliefs import searched

if TYPE_CHECKING:
    from reproductions.sgquant import Run

RESULTS = Path(__file__).resolve().parents[2] / "recipes" / "results"
FLOAT, WIDEST, FOUND = "fp32", "spaces/gcn-lwq-cwq-taq", "searched/gcn-cora"


def run(recipe: str, seed: int, test: float, packed_bytes: int) -> Run:
    from reproductions.sgquant import Run, digest_of

    return Run(
        "gcn", "cora", seed, recipe, digest_of("gcn", "cora", recipe), test, test, 0, packed_bytes,
        4.0, 4.0, 8.0, None, 8.0, "public", 1.0,
    )  # fmt: skip


def write(file: Path, tests: dict[str, tuple[tuple[float, float], int]]) -> Path:
    """Write runs of ten seeds: tests of even ones and of odd ones, and packed bytes, by recipe."""
    runs = [
        run(recipe, seed, both[seed % 2], size)
        for recipe, (both, size) in tests.items()
        for seed in range(10)
    ]
    file.write_text("".join(json.dumps(asdict(one)) + "\n" for one in runs))
    return file


@pytest.fixture
def searches(tmp_path: Path) -> Path:
    from reproductions import abs as bit_selection

    found = bit_selection.Searched(
        "gcn", "cora", 200, 20, 60.0, 50.0, 30.0, 2, 0.8, 0.8, 0.8, 1000, refined=6
    )
    file = tmp_path / "searches.jsonl"
    file.write_text(json.dumps(asdict(found)) + "\n")
    return file


def row(searches: Path, runs: Path, by_hand: Path) -> list[str]:
    from reproductions import abs as bit_selection

    lines = bit_selection.markdown(searches, runs, by_hand).splitlines()
    assert len(lines) == 3
    return [text.strip() for text in lines[2].strip("|").split("|")]


def by_hand(tmp_path: Path, small: tuple[float, float]) -> Path:
    """Recipes by hand of 4,000 bytes that hold any limit, but one of 2,000 bytes."""
    wide = {f"sgquant/gcn-{name}": ((0.82, 0.81), 4000) for name in ("lwq", "cwq", "taq", "lwq-cwq-taq")}
    wide |= {"int8": ((0.82, 0.81), 4000), "int4": ((0.82, 0.81), 4000), FLOAT: ((0.80, 0.79), 16000)}
    return write(tmp_path / "hand.jsonl", wide | {"sgquant/gcn-lwq-cwq": (small, 2000)})


def test_a_recipe_by_hand_is_held_to_the_limit_from_the_widest_assignment(
    tmp_path: Path, searches: Path
) -> None:
    # The widest gains two points; what was found loses 0.2 of them, the small one by hand 1.
    tests = {
        FLOAT: ((0.80, 0.79), 16000),
        WIDEST: ((0.82, 0.81), 9000),
        FOUND: ((0.818, 0.808), 1000),
    }
    texts = row(searches, write(tmp_path / "runs.jsonl", tests), by_hand(tmp_path, (0.81, 0.80)))
    assert texts[7:9] == ["+0.20 ± 0.00", "-1.80 ± 0.00"]
    assert texts[11:13] == ["int8, 4 kB, +0.00 ± 0.00", "4.00x"]
    assert texts[13:15] == ["lwq-cwq, 2 kB, -1.00 ± 0.00", "2.00x"]


def test_what_does_not_hold_the_limit_is_not_called_smaller(tmp_path: Path, searches: Path) -> None:
    tests = {
        FLOAT: ((0.80, 0.79), 16000),
        WIDEST: ((0.82, 0.81), 9000),
        FOUND: ((0.81, 0.80), 1000),
    }
    texts = row(searches, write(tmp_path / "runs.jsonl", tests), by_hand(tmp_path, (0.819, 0.809)))
    assert texts[12] == "does not hold"
    assert texts[14] == "2.00x"


def test_a_search_of_which_nothing_held_in_repeats_says_so(tmp_path: Path, searches: Path) -> None:
    tests = {FLOAT: ((0.8, 0.79), 16000), WIDEST: ((0.82, 0.81), 9000), FOUND: ((0.81, 0.8), 1000)}
    runs, hand = write(tmp_path / "runs.jsonl", tests), by_hand(tmp_path, (0.82, 0.81))
    assert row(searches, runs, hand)[4] == "200 (20) + 6"
    searches.write_text(json.dumps(json.loads(searches.read_text()) | {"confirmed_val": None}))
    assert row(searches, runs, hand)[4] == "200 (20) + 6, none held"


def test_a_search_that_was_interrupted_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from reproductions import abs as bit_selection

    trained: list[int] = []
    broken_off = replace(searched(), interrupted=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bit_selection, "FOUND", tmp_path / "found")
    monkeypatch.setattr(bit_selection, "train_float", lambda model, dataset, seed: trained.append(seed))
    monkeypatch.setattr(bit_selection, "ProcessPoolExecutor", lambda *_, **__: ThreadPoolExecutor(1))
    monkeypatch.setattr(
        "sgq.bits.selection.select_bits",
        lambda *_, **__: Selection(broken_off, broken_off.best, None, (), 0.8),
    )
    files = tmp_path / "searches.jsonl", tmp_path / "runs.jsonl"
    with pytest.raises(KeyboardInterrupt, match="gcn on cora is not finished"):
        bit_selection.reproduce(*files, datasets=["cora"], models=["gcn"], seeds=1, workers=1)
    assert trained == list(range(10))
    assert not any(file.exists() for file in (*files, bit_selection.FOUND))


def test_a_row_of_which_runs_are_missing_is_left_out_and_named(
    tmp_path: Path, searches: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from reproductions import abs as bit_selection

    runs = write(tmp_path / "runs.jsonl", {FLOAT: ((0.80, 0.79), 1), FOUND: ((0.80, 0.79), 1)})
    table = bit_selection.markdown(searches, runs, by_hand(tmp_path, (0.81, 0.80)))
    assert len(table.splitlines()) == 2
    assert f"runs of {WIDEST} or {FOUND} are missing in runs.jsonl" in capsys.readouterr().err


def test_runs_of_an_earlier_version_do_not_count_and_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from reproductions.sgquant import cells

    file = write(tmp_path / "runs.jsonl", {FLOAT: ((0.80, 0.79), 1), WIDEST: ((0.80, 0.79), 1)})
    older = replace(run(FOUND, 0, 0.8, 1), digest="0123456789abcdef")
    file.write_text(file.read_text() + json.dumps(asdict(older)) + "\n")
    assert {key[2] for key in cells(file)} == {FLOAT, WIDEST}
    assert f"1 runs are of earlier versions of {FOUND} and do not count" in capsys.readouterr().err


def test_a_drop_is_that_of_the_same_seeds(tmp_path: Path) -> None:
    runs = [
        run(FLOAT, 0, 0.8, 1), run(FLOAT, 1, 0.7, 1),
        run(WIDEST, 1, 0.71, 1),
        run(FOUND, 0, 0.5, 1), run(FOUND, 1, 0.69, 1),
    ]  # fmt: skip
    from reproductions.sgquant import cells

    file = tmp_path / "runs.jsonl"
    file.write_text("".join(json.dumps(asdict(one)) + "\n" for one in runs))
    found = cells(file)
    below = found["gcn", "cora", FOUND].below(found["gcn", "cora", WIDEST])
    assert [one.seed for one in below.runs] == [1]
    assert below.drops == pytest.approx([0.02])


@pytest.mark.parametrize("study", ["sgquant", "abs"])
def test_results_that_are_kept_are_of_the_recipes_as_they_are(study: str) -> None:
    from reproductions.sgquant import SEEDS, cells, read_runs

    file = RESULTS / f"{study}.jsonl"
    shipped = {run.recipe for run in read_runs(file).values()}
    counted = cells(file)
    assert {run.recipe for cell in counted.values() for run in cell.runs} == shipped
    assert {key: cell.seeds for key, cell in counted.items()} == {
        key: set(range(SEEDS[key[1]])) for key in counted
    }
