from __future__ import annotations

import pytest
import torch

from tests.tools.test_bench_runtime import arguments


def test_every_kernel_of_the_bench_runs_and_moves_what_it_says() -> None:
    from benches.graphs import regular
    from benches.kernels import TORCH, measure_kernels
    from benches.model_cases import large_graph
    from benches.own_kernels import own_calls

    graph = large_graph(regular(200, 20), nodes=200, device="cpu")
    calls = {(call.kernel, call.runs_as): call for call in own_calls(graph)}
    float_sum = calls["spmm", "own fp32"].call()
    for name, tolerance in (("int8", 0.02), ("int4", 0.4)):
        packed = calls["spmm", name]
        torch.testing.assert_close(packed.call(), float_sum, rtol=0.0, atol=20 * tolerance)
        assert packed.compulsory_bytes < packed.gathered_bytes < calls["spmm", "own fp32"].gathered_bytes
    wanted = torch.zeros(200, 64).index_add(0, graph.edge_index[1], graph.x[graph.edge_index[0]])
    torch.testing.assert_close(float_sum, wanted, rtol=1e-4, atol=1e-4)
    result = measure_kernels(arguments(), {"regular": graph}, stream=1e9)
    assert {row.runs_as for row in result.rows if row.kernel == "spmm"} == {
        *(TORCH, f"{TORCH} int32", "own fp32", "int8", "int4")
    }
    assert result.ratios.keys() == {
        f"spmm_{width}_regular_vs_{base}"
        for width in ("int8", "int4")
        for base in ("csr", "csr_int32", "own_fp32")
    }
    for row in result.rows:
        assert row.limit_share == pytest.approx(row.gathered_bytes / 1e9 / row.median_s)
        assert 0 < row.compulsory_share <= row.limit_share
        assert row.lower_quartile_s <= row.median_s <= row.upper_quartile_s
