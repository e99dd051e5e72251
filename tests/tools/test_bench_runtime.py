from __future__ import annotations

import argparse
import io
from pathlib import Path

import pytest
import torch
from rich.console import Console

from tests.runtime.lowered_fakes import FakeLowered


def arguments(**changes: object) -> argparse.Namespace:
    given = {"device": "cpu", "repeats": 9, "warmup": 0, "quick": True, "threads": 1}
    return argparse.Namespace(**{**given, **changes})


def test_a_key_of_the_summary_is_the_worst_over_graphs_and_forms_of_the_baseline() -> None:
    from benches.runtime import AIMS, RuntimeResult

    ratios = (
        ("spmm_int8_chung-lu_vs_csr", 9.0),
        ("spmm_int8_chung-lu_vs_csr_int32", 8.5),
        ("spmm_int8_regular_vs_csr", 8.2),
        ("spmm_int8_regular_vs_csr_int32", 7.5),
        ("gcn_int8_h16_cora_vs_csr", 1.5),
        ("gcn_int8_h16_cora_vs_csr_int32", 1.6),
    )
    result = RuntimeResult(ratios=ratios)
    assert result.summary == {"spmm_int8_vs_csr_500k": 7.5, "gcn_int8_h16_vs_csr": 1.5}
    document = result.to_json()
    assert document["aims"] == {
        "spmm_int8_vs_csr_500k": {"aim": 8.0, "met": False},
        "gcn_int8_h16_vs_csr": {"aim": 1.5, "met": True},
    }
    stream = io.StringIO()
    Console(file=stream, width=140).print(result.table())
    lines = {line.split("│")[1].strip(): line for line in stream.getvalue().splitlines() if "│" in line}
    assert "MISSED" in lines["spmm_int8_vs_csr_500k"]
    assert "not run" in lines["peak_memory_int4"]
    assert set(AIMS) <= set(lines)


def test_int32_indices_need_not_be_and_a_ratio_with_prepare_stands_beside_its_key() -> None:
    from benches.runtime import RuntimeResult

    stem = "gin_int8_h64_reddit-binary"
    ratios = (
        ("gcn_int8_h256_cs_peak_vs_csr", 4.0),
        (f"{stem}_vs_edge_index", 6.0),
        (f"{stem}_with_prepare_vs_edge_index", 3.25),
        ("gcn_int4_h256_cs_peak_vs_csr_int32", 9.0),
    )
    result = RuntimeResult(ratios=ratios)
    assert result.summary == {"peak_memory_int8": 4.0, "gin_int8_batch_vs_edge_index": 6.0}
    assert result.to_json()["summary_with_prepare"] == {"gin_int8_batch_vs_edge_index": 3.25}
    stream = io.StringIO()
    Console(file=stream, width=140).print(result.table())
    (line,) = (line for line in stream.getvalue().splitlines() if "gin_int8_batch" in line)
    assert [cell.strip() for cell in line.split("│")[2:6:3]] == ["6.00", "3.25"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--device", "foo"], "expected --device cpu or cuda (got foo)"),
        (["--device", "meta"], "expected --device cpu or cuda (got meta)"),
        (["--threads", "0"], "expected an integer of at least 1"),
        (["--json", "file/below/bench.json"], "expected an output folder that can be written"),
        (["--json", "."], "expected --json with a file"),
    ],
)
def test_a_bad_option_of_the_bench_is_told_before_anything_is_measured(
    words: list[str],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import bench

    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    try:
        code = bench.main(["runtime", "--repeats", "1", *words])
    except SystemExit as error:
        code = error.code
    assert code == 2
    assert told in capsys.readouterr().err


def test_an_absent_accelerator_is_said_and_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    from benches.runtime import run

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = run(arguments(device="cuda"))
    assert result.to_json() == {"skipped": "--device cuda: no such accelerator here"}
    assert result.table() == "skipped: --device cuda: no such accelerator here"


def test_too_few_repeats_are_a_usage_error() -> None:
    from benches.runtime import run

    from sgq.errors import UsageError

    with pytest.raises(UsageError, match="at least 9 repeats"):
        run(arguments(repeats=8))


def test_gathered_bytes_take_a_row_an_edge_and_compulsory_ones_a_row_a_node() -> None:
    from benches.kernels import aggregation_bytes

    gathered, compulsory = aggregation_bytes(nodes=3, edges=10, row_bytes=8, output_bytes=32)
    rest = 10 * (4 + 4) + 4 * 4 + 3 * 32
    assert (gathered, compulsory) == (10 * 8 + rest, 3 * 8 + rest)


def test_streaming_gives_a_bandwidth() -> None:
    from benches.stream import stream_bytes_per_s

    assert stream_bytes_per_s(array_bytes=2**16, repeats=3) > 0


@pytest.mark.parametrize("name", ["gcn", pytest.param("gin", marks=pytest.mark.soak)])
def test_a_model_case_has_rows_and_ratios_for_every_way_to_run_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benches import models

    class Preparing(FakeLowered):
        def prepare(self, data: object) -> object:
            return data

        def __call__(self, inputs: object = None) -> torch.Tensor:
            return super().__call__()

    monkeypatch.setattr("sgq.lower", Preparing, raising=False)
    case = next(case for case in models.CASES if case.model == name)
    monkeypatch.setattr(models, "CASES", (case,))
    (result,) = models.measure_models(arguments(), {})
    floats = ["fp32 edge_index", "fp32 csr", "fp32 csr int32"]
    integers = (
        ["int8", "int4"] if name == "gcn" else ["int8", "int8 with prepare", "int4", "int4 with prepare"]
    )
    assert [row.runs_as for row in result.rows] == floats + integers
    assert {row.repeats for row in result.rows} == {9}
    stem = case.key("int8")
    assert {f"{stem}_vs_edge_index", f"{stem}_vs_csr", f"{stem}_vs_csr_int32", f"{stem}_peak_vs_csr"} <= set(
        result.ratios
    )
    assert (f"{stem}_with_prepare_vs_edge_index" in result.ratios) == (name == "gin")
    assert {row.agreement for row in result.rows if row.runs_as in ("int8", "int4")} == {1.0}
    assert any("stays simulated" in note for note in result.notes)
