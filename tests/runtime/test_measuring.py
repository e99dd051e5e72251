from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sgq.errors import UsageError
from sgq.runtime.measuring import (
    Latency,
    interleaved_latency,
    measure_peak,
    stored_bytes,
    tensors_in,
)

ROOT = Path(__file__).resolve().parents[2]
CLEAR_REFS = Path("/proc/self/clear_refs")


def test_a_latency_has_its_median_its_quartiles_and_its_ratio_by_round() -> None:
    fast = Latency((1.0, 2.0, 3.0, 4.0, 5.0), threads=2, device="cpu")
    slow = Latency((3.0, 4.0, 9.0, 8.0, 15.0), threads=2, device="cpu")
    assert (fast.median_s, fast.lower_quartile_s, fast.upper_quartile_s, fast.repeats) == (3.0, 2.0, 4.0, 5)
    # 3, 2, 3, 2 and 3 times: the ratio is taken in each round, not of the medians 8 and 3.
    assert slow.ratio_to(fast) == 3.0


def test_calls_take_turns_and_warm_up_does_not_count() -> None:
    order: list[str] = []
    calls = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    latencies = interleaved_latency(calls, repeats=3, warmup=2)
    assert order == ["a", "b"] * 5
    assert {name: latency.repeats for name, latency in latencies.items()} == {"a": 3, "b": 3}
    assert latencies["a"].threads == torch.get_num_threads()
    assert latencies["a"].device == "cpu"
    assert all(seconds > 0 for seconds in latencies["a"].rounds_s)


def test_too_few_repeats_for_quartiles_are_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"at least 2 repeats \(got 1\)"):
        interleaved_latency({"a": lambda: None}, repeats=1, warmup=0)


def test_the_peak_is_the_highest_sum_of_allocations_less_frees() -> None:
    def call() -> Tensor:
        first = torch.zeros(1000, dtype=torch.float32)  # 4000 alive
        second = torch.zeros(500, dtype=torch.float32)  # 6000
        del first  # 2000
        third = torch.zeros(750, dtype=torch.float32)  # 5000
        return torch.cat([second, third])  # 10000

    peak = measure_peak(call, resident_bytes=300, feature_bytes=100)
    assert (peak.peak_bytes, peak.resident_bytes, peak.feature_bytes) == (10_300, 300, 100)
    assert peak.without_features_bytes == 10_200


def test_a_call_that_allocates_nothing_needs_what_is_resident() -> None:
    held = torch.zeros(64)
    assert measure_peak(held.zero_, resident_bytes=256).peak_bytes == 256


def test_the_profiler_writes_nothing_and_leaves_its_setting(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KINETO_LOG_LEVEL", raising=False)
    measure_peak(lambda: torch.zeros(8), resident_bytes=0)
    assert capfd.readouterr() == ("", "")
    assert "KINETO_LOG_LEVEL" not in os.environ


def test_stored_bytes_count_a_storage_once_and_every_part_of_a_sparse_tensor() -> None:
    dense = torch.zeros(10, 4)
    assert stored_bytes([dense, dense.t(), dense[2:]]) == 160
    pointers, indices, values = torch.arange(4), torch.arange(3), torch.ones(3)
    csr = torch.sparse_csr_tensor(pointers, indices, values, size=(3, 3))
    assert stored_bytes([csr, csr.values()]) == 8 * 4 + 8 * 3 + 4 * 3
    csc = torch.sparse_csc_tensor(pointers.int(), indices.int(), values, size=(3, 3))
    assert stored_bytes([csc]) == 4 * 4 + 4 * 3 + 4 * 3
    coo = torch.sparse_coo_tensor(torch.stack([indices, indices]), values, size=(3, 3))
    assert stored_bytes([coo]) == 2 * 8 * 3 + 4 * 3
    assert stored_bytes([torch.empty(0)]) == 0


def test_the_tensors_of_a_nest_are_found() -> None:
    a, b, c = torch.zeros(1), torch.zeros(2), torch.zeros(3)
    found = list(tensors_in({"x": a, "more": [b, None, (c, "text")]}))
    assert [tensor.numel() for tensor in found] == [1, 2, 3]


FRESH_PROCESS = """
import ctypes, gc, json, sys
import torch
from torch_geometric.data import Data
from sgq.data import normalise_adjacency
from sgq.data.dataset import GraphDataset
from sgq.models import ModelOptions, build
from sgq.runtime.measuring import measure_peak, stored_bytes

torch.set_num_threads(1)

def released(key):
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return memory(key)

def memory(key):
    with open("/proc/self/status") as lines:
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith(key))

def graph(nodes):
    return Data(x=torch.rand(nodes, 64), edge_index=torch.randint(0, nodes, (2, 10 * nodes)))

{subject}

run(prepare(graph(50)))
measure_peak(lambda: run(prepare(graph(50))), resident_bytes=0)
before = released("VmRSS")
held = prepare(graph({nodes}))
released("VmRSS")
with open("/proc/self/clear_refs", "w") as reset:
    reset.write("5")  # the high-water mark falls to what is held now
for _ in range(2):  # the integer model makes its arena in the second run
    run(held)
grown = memory("VmHWM") - before
found = measure_peak(lambda: run(held), resident_bytes=size(held))
print(json.dumps(dict(grown=grown, peak=found.peak_bytes)))
"""

FLOAT = """
model = build("gcn", in_channels=64, out_channels=8, options=ModelOptions(hidden=64, normalise=False)).eval()

def prepare(data):
    return normalise_adjacency(GraphDataset("random", "node", 64, 8, "none", data=data)).data

def run(data):
    with torch.inference_mode():
        return model(data.x, data.edge_index, data.edge_weight)

def size(data):
    return stored_bytes([data.x, data.edge_index, data.edge_weight])
"""

INTEGER = """
import sgq
from sgq.pipeline.tasks import NodeTask

model = build("gcn", in_channels=64, out_channels=8, options=ModelOptions(hidden=64)).eval()
task = NodeTask(graph(50))
plan = sgq.plan(model, "int8", task)
wrapped = sgq.wrap(model, plan)
sgq.calibrate(wrapped, plan, task)
lowered = sgq.lower(wrapped, task.data)
prepare, run = lowered.prepare, lowered

def size(inputs):
    return inputs.nbytes
"""


@pytest.mark.skipif(not CLEAR_REFS.exists(), reason="the high-water mark can be reset on Linux only")
@pytest.mark.parametrize(
    ("subject", "nodes"), [(FLOAT, 40_000), (INTEGER, 400_000)], ids=["float", "integer"]
)
def test_the_peak_is_that_of_the_process_within_ten_percent(subject: str, nodes: int) -> None:
    # Blocks go back to the system when they are freed, so that the process shows what is alive.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    program = FRESH_PROCESS.replace("{subject}", subject).replace("{nodes}", str(nodes))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["peak"] > 100e6
    assert found["peak"] == pytest.approx(found["grown"], rel=0.10)
