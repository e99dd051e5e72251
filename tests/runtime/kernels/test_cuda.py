"""Runs the cases of the Triton kernels in processes of their own.

Whether Triton interprets is settled where it is first imported, and torch_geometric imports it.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[3]
CASES = [Path(__file__).with_name(name) for name in ("cuda_cases.py", "cuda_cloud_cases.py")]

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")

COMPILING = """
import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

class Ampere:
    get_current_device = get_current_stream = lambda self, *ignored: 0
    get_current_target = lambda self: GPUTarget("cuda", 80, 32)

made = []
compiled = JITFunction.run

def run(self, *arguments, grid, warmup, **options):
    kernel = compiled(self, *arguments, grid=grid, warmup=True, **options)
    made.append((self.__name__, "mma.sync" in kernel.asm["ptx"]))

driver.set_active(Ampere())
JITFunction.run = run

from quantizers import QuantizerSpec
from sgq.runtime.csr import csr_of
from sgq.runtime.finish import Finish
from sgq.runtime.kernels import reference
from sgq.runtime.kernels.contract import Scores, Term
from sgq.runtime.kernels.cuda import calls
from sgq.runtime.quantization import Quantization
from sgq.runtime.weights import tiled

rows = (8, 4, 4)
pairs = torch.tensor([[0.1, 9.0], [1.0, 0.0], [1.0, 0.0]])
by_bucket = Quantization(QuantizerSpec((8, 32, 32), granularity="bucket"), pairs)
by_row = Quantization(QuantizerSpec(4, granularity="node"), None)
four = Quantization(QuantizerSpec(4), torch.tensor([[0.1, 7.0]]))
finish = Finish(torch.rand(24), torch.rand(24), "elu", 1.0, by_row, heads=3)
node = torch.arange(16)
graph = csr_of(node, node.flip(0), rows=16, segments=rows)
values = torch.randn(16, 24)
calls.quantize(values, by_row, (16,), 3)
mixed, packed = reference.quantize(values, by_bucket, rows, 3), reference.quantize(values, four, (16,), 3)
how = dict(kind="dynamic", heads=3, slope=0.2, vector=torch.rand(24))
coefficients = calls.attention(graph, mixed, packed, quantization=four, **how)
calls.aggregate(graph, mixed, finish, coefficients=coefficients)
weight = tiled(torch.ones(24, 24), torch.ones(24))
scores = Scores(torch.rand(2, 24), torch.empty(2, 16, 3), 3)
calls.linear(packed, weight, finish, scores=scores, addend=values)
mixed, packed = reference.quantize(values, by_bucket, rows, 1), reference.quantize(values, four, (16,), 1)
finish = Finish(quantization=by_row)
calls.neighbours(packed, clouds=2, k=3)
calls.neighbours(reference.quantize(values, by_row, (16,), 1), clouds=1, k=16)
calls.edge_distances(graph, mixed, finish, reduction="mean")
calls.edge_distances(graph, packed, finish, reduction="min")
calls.assemble(((Term(packed),), (Term(mixed), Term(values, -1.0))), finish)
print(made)
"""


def run(command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("PYTEST_", "TRITON_"))}
    variables = kept | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)} | environment
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=variables, capture_output=True, text=True, check=False
    )


def run_cases(chosen: str, **environment: str) -> None:
    done = run(
        ["-m", "pytest", "-q", "-p", "no:cacheprovider", *map(str, CASES), "-k", chosen], **environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


@pytest.mark.parametrize(
    "chosen",
    [
        "quantize or aggregate",
        pytest.param("linear or attention", marks=pytest.mark.soak),
        pytest.param("neighbours or distances or assemble", marks=pytest.mark.soak),
    ],
)
def test_the_kernels_agree_with_the_reference_when_interpreted(chosen: str) -> None:
    run_cases(chosen, TRITON_INTERPRET="1")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_the_kernels_agree_with_the_reference_on_a_gpu() -> None:
    run_cases("test")


def test_the_kernels_compile_for_a_gpu_that_need_not_be_there(tmp_path: Path) -> None:
    done = run(["-c", COMPILING], TRITON_CACHE_DIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    names = [
        ("finish_rows", False),
        ("edge_attention", False),
        ("aggregate_rows", False),
        ("multiply_rows", True),
        ("nearest_rows", False),
        ("nearest_rows", False),
        ("reduce_lengths", False),
        ("reduce_lengths", False),
        ("assemble_rows", False),
    ]
    assert done.stdout.strip() == str(names)
