"""Suite `runtime`: the integer runtime against PyG in fp32, kernel by kernel and model by model.

Every ratio is the median over rounds in which all sides took turns. Graphs: Cora, Amazon Computers, Coauthor
CS, batches of REDDIT-BINARY, and two synthetic ones of 500,000 nodes and 10 M edges (Chung-Lu with exponent
2.1 and shuffled ids; in-degree 20). Models are untrained and calibrated only: accuracy is tested elsewhere.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from benches.runtime_tables import kernel_table, model_table, summary_table

if TYPE_CHECKING:
    from rich.console import Group

    from benches.kernels import KernelRow
    from benches.models import ModelRow

NODES, DEGREE = 500_000, 20
QUICK_NODES = 2_000
LEAST_REPEATS = 9
UNTRAINED = "models are untrained and calibrated only; accuracy is no part of this suite"
QUICK_REMARK = "a quick run: its graphs are tiny, so its figures mean nothing and no aim is held against them"
NARROW = "_int32"


def _csr(stem: str) -> tuple[str, str]:
    """Return the names of a figure's ratios to fp32 CSR, whose faster form of indices counts."""
    return f"{stem}_vs_csr", f"{stem}_vs_csr{NARROW}"


AIMS: dict[str, tuple[float, tuple[str, ...]]] = {
    "spmm_int8_vs_csr_500k": (8.0, (*_csr("spmm_int8_chung-lu"), *_csr("spmm_int8_regular"))),
    "spmm_int4_vs_csr_500k": (10.0, (*_csr("spmm_int4_chung-lu"), *_csr("spmm_int4_regular"))),
    "spmm_int8_vs_own_fp32_500k": (2.5, ("spmm_int8_chung-lu_vs_own_fp32", "spmm_int8_regular_vs_own_fp32")),
    "spmm_int4_vs_own_fp32_500k": (4.0, ("spmm_int4_chung-lu_vs_own_fp32", "spmm_int4_regular_vs_own_fp32")),
    "gcn_int8_h64_vs_csr": (4.0, _csr("gcn_int8_h64_computers")),
    "gcn_int8_h256_vs_csr": (6.0, _csr("gcn_int8_h256_computers")),
    "gcn_int8_h64_vs_edge_index": (25.0, ("gcn_int8_h64_computers_vs_edge_index",)),
    "gat_int8_h64_vs_edge_index": (15.0, ("gat_int8_h8_computers_vs_edge_index",)),
    "gin_int8_batch_vs_edge_index": (4.7, ("gin_int8_h64_reddit-binary_vs_edge_index",)),
    "peak_memory_int8": (3.8, _csr("gcn_int8_h256_cs_peak")),
    "peak_memory_int4": (7.0, _csr("gcn_int4_h256_cs_peak")),
    "gcn_int8_h16_vs_csr": (1.5, _csr("gcn_int8_h16_cora")),
}
"""Key of the summary -> its aim, and the ratios of which the worst for the integer runtime counts.

fp32 CSR is the better one of int64 and int32 indices, in time and in memory.
"""

BESIDE = {"gin_int8_batch_vs_edge_index": "gin_int8_h64_reddit-binary_with_prepare_vs_edge_index"}
"""Key of the summary -> the same ratio with `prepare` timed, on batches that come only once."""


@dataclass(frozen=True)
class RuntimeResult:
    """All rows and ratios, and how the summary stands against its aims.

    `skipped` says why nothing was measured; empty otherwise. A `quick` run has no aims: its graphs are tiny.
    """

    kernels: tuple[KernelRow, ...] = ()
    models: tuple[ModelRow, ...] = ()
    ratios: tuple[tuple[str, float], ...] = ()
    stream_bytes_per_s: float = 0.0
    notes: tuple[str, ...] = ()
    skipped: str = ""
    quick: bool = False
    seconds: float = 0.0

    @property
    def beside(self) -> dict[str, float]:
        """Of keys of the summary, the ratio with the preparation of the data timed too."""
        known = dict(self.ratios)
        return {key: round(known[source], 3) for key, source in BESIDE.items() if source in known}

    @property
    def summary(self) -> dict[str, float]:
        """The figures that have an aim; one whose case did not run is left out.

        A model need not run on int32 indices.
        """
        known = dict(self.ratios)
        return {
            key: round(min(known[source] for source in sources if source in known), 3)
            for key, (_, sources) in AIMS.items()
            if all(source in known for source in sources if not source.endswith(NARROW))
        }

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        if self.skipped:
            return {"skipped": self.skipped}
        met = {
            key: {"aim": AIMS[key][0], "met": figure >= AIMS[key][0]} for key, figure in self.summary.items()
        }
        return {
            "quick": self.quick,
            "summary": self.summary,
            "summary_with_prepare": self.beside,
            "aims": {} if self.quick else met,
            "ratios": {key: round(ratio, 3) for key, ratio in self.ratios},
            "stream_bytes_per_s": self.stream_bytes_per_s,
            "kernels": [asdict(row) for row in self.kernels],
            "models": [asdict(row) for row in self.models],
            "notes": list(self.notes),
            "seconds": round(self.seconds, 1),
        }

    def table(self) -> Group | str:
        """Return the tables for a terminal."""
        from rich.console import Group

        if self.skipped:
            return f"skipped: {self.skipped}"
        return Group(
            kernel_table(self.kernels, self.stream_bytes_per_s),
            model_table(self.models),
            QUICK_REMARK
            if self.quick
            else summary_table(self.summary, {key: aim for key, (aim, _) in AIMS.items()}, self.beside),
            *(f"note: {text}" for text in self.notes),
            f"{self.seconds:.0f} s in all",
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the suite's own options."""
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--repeats", type=int, default=9, help="rounds, at least 9 (default: 9)")
    parser.add_argument("--warmup", type=int, default=2, help="rounds before that (default: 2)")
    parser.add_argument(
        "--quick", action="store_true", help="tiny embedded graphs: does everything run? Figures mean nothing"
    )


def run(given: argparse.Namespace) -> RuntimeResult:
    """Measure kernels and models; where the device is absent, say so and measure nothing."""
    import torch

    from benches.graphs import chung_lu, regular
    from benches.kernels import measure_kernels
    from benches.model_cases import large_graph
    from benches.models import measure_models
    from benches.stream import ARRAY_BYTES, QUICK_BYTES, stream_bytes_per_s
    from sgq.data.adjacency import with_adjacency
    from sgq.errors import UsageError

    if given.repeats < LEAST_REPEATS:
        raise UsageError(f"expected at least {LEAST_REPEATS} repeats (got {given.repeats})")
    if torch.device(given.device).type == "cuda" and not torch.cuda.is_available():
        return RuntimeResult(skipped=f"--device {given.device}: no such accelerator here")
    start = time.perf_counter()
    nodes = QUICK_NODES if given.quick else NODES
    edges = {
        "chung-lu": chung_lu(nodes, DEGREE * nodes),
        "regular": regular(nodes, DEGREE),
    }
    graphs = {
        name: large_graph(edge_index, nodes=nodes, device=given.device) for name, edge_index in edges.items()
    }
    stream = stream_bytes_per_s(device=given.device, array_bytes=QUICK_BYTES if given.quick else ARRAY_BYTES)
    kernels = measure_kernels(given, graphs, stream=stream)
    rows: list[ModelRow] = []
    ratios = dict(kernels.ratios)
    notes = [UNTRAINED]
    # On edge lists the float model would hold messages of 10 M edges, while it is planned and calibrated too.
    sparse = {name: with_adjacency(graph, adjacency="csr") for name, graph in graphs.items()}
    for result in measure_models(given, sparse):
        rows += result.rows
        ratios |= result.ratios
        notes += result.notes
        last = result.rows[-1]
        print(f"{time.perf_counter() - start:6.0f} s: {last.model} on {last.data}", file=sys.stderr)
    return RuntimeResult(
        kernels=kernels.rows,
        models=tuple(rows),
        ratios=tuple(ratios.items()),
        stream_bytes_per_s=stream,
        notes=tuple(notes),
        quick=given.quick,
        seconds=time.perf_counter() - start,
    )
