"""Kernels alone, on the large graphs: time, and the share that it is of streaming the same bytes.

Two limits are stated. *Gathered*: every edge loads the row of its source, as if no cache held it; this is
what must move on a large graph whose ids are in no order. *Once each*: every array is read or written once,
as if the cache held all. Above 100 % of the first, the cache spared some loads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

    from sgq.runtime.measuring import Latency

TORCH = "torch csr"
"""The baseline of aggregation: torch's fp32 product with a CSR matrix, int64 indices, as PyG makes it."""


@dataclass(frozen=True)
class KernelCall:
    """One kernel on one graph; both counts are in bytes (see the module)."""

    kernel: str
    runs_as: str
    call: Callable[[], object]
    gathered_bytes: int
    compulsory_bytes: int


@dataclass(frozen=True)
class KernelRow:
    """A kernel's latency and its two shares of the bandwidth limit; `speedup` is torch CSR's time over it."""

    kernel: str
    graph: str
    runs_as: str
    median_s: float
    lower_quartile_s: float
    upper_quartile_s: float
    speedup: float | None
    gathered_bytes: int
    compulsory_bytes: int
    limit_share: float
    compulsory_share: float
    repeats: int
    threads: int
    device: str


@dataclass(frozen=True)
class KernelResult:
    """All rows, and the ratios of aggregation by name."""

    rows: tuple[KernelRow, ...]
    ratios: dict[str, float]


def aggregation_bytes(
    *, nodes: int, edges: int, row_bytes: int, output_bytes: int, index_bytes: int = 4, weight_bytes: int = 4
) -> tuple[int, int]:
    """Return (gathered, compulsory) bytes of an aggregation: rows, columns, weights, pointers, results."""
    rest = edges * (index_bytes + weight_bytes) + (nodes + 1) * index_bytes + nodes * output_bytes
    return edges * row_bytes + rest, nodes * row_bytes + rest


def measure_kernels(given: argparse.Namespace, graphs: dict[str, Any], *, stream: float) -> KernelResult:
    """Measure every kernel on every graph; those of one graph take turns."""
    from benches.own_kernels import own_calls
    from sgq.runtime.measuring import interleaved_latency

    rows: list[KernelRow] = []
    ratios: dict[str, float] = {}
    for name, graph in graphs.items():
        calls = [*torch_calls(graph), *own_calls(graph)]
        latencies = interleaved_latency(
            {f"{call.kernel}|{call.runs_as}": call.call for call in calls},
            repeats=given.repeats,
            warmup=given.warmup,
            device=given.device,
        )
        base = latencies[f"spmm|{TORCH}"]
        rows += [_row(call, name, latencies[f"{call.kernel}|{call.runs_as}"], base, stream) for call in calls]
        ratios |= _ratios(name, latencies)
    return KernelResult(tuple(rows), ratios)


def torch_calls(graph: Any) -> Sequence[KernelCall]:
    """Return torch's fp32 product with the graph's CSR matrix, with int64 and with int32 indices."""
    import torch

    from sgq.runtime.baselines import in_form

    nodes, channels = graph.x.shape
    edges = graph.edge_index.size(1)
    calls = []
    for form, runs_as, index_bytes in (("csr", TORCH, 8), ("csr int32", f"{TORCH} int32", 4)):
        matrix = in_form(graph, form).adj_t  # type: ignore[arg-type]
        moved = aggregation_bytes(
            nodes=nodes,
            edges=edges,
            row_bytes=4 * channels,
            output_bytes=4 * channels,
            index_bytes=index_bytes,
        )
        calls.append(KernelCall("spmm", runs_as, partial(torch.sparse.mm, matrix, graph.x), *moved))
    return calls


def _row(call: KernelCall, graph: str, latency: Latency, base: Latency, stream: float) -> KernelRow:
    return KernelRow(
        kernel=call.kernel,
        graph=graph,
        runs_as=call.runs_as,
        median_s=latency.median_s,
        lower_quartile_s=latency.lower_quartile_s,
        upper_quartile_s=latency.upper_quartile_s,
        speedup=base.ratio_to(latency) if call.kernel == "spmm" else None,
        gathered_bytes=call.gathered_bytes,
        compulsory_bytes=call.compulsory_bytes,
        limit_share=call.gathered_bytes / stream / latency.median_s,
        compulsory_share=call.compulsory_bytes / stream / latency.median_s,
        repeats=latency.repeats,
        threads=latency.threads,
        device=latency.device,
    )


def _ratios(graph: str, latencies: dict[str, Latency]) -> dict[str, float]:
    """Return the ratios of the packed sums: against torch's two products and against our own on fp32 rows."""
    bases = {"csr": TORCH, "csr_int32": f"{TORCH} int32", "own_fp32": "own fp32"}
    return {
        f"spmm_{width}_{graph}_vs_{name}": latencies[f"spmm|{base}"].ratio_to(latencies[f"spmm|{width}"])
        for width in ("int8", "int4")
        for name, base in bases.items()
    }
