"""Suite `quant`: a quantization-aware training step against a float one, on one real graph.

A step is zero_grad, forward, loss, backward and Adam's step. GCN (hidden 64) runs on a CSR adjacency that is
normalised once, the fastest float path of PyG; GAT (8 heads x 8) on `edge_index`. Features are dense and,
as in the pipeline, quantized once. `frozen` steps keep their ranges, `track` steps follow the data.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from sgq.runtime.measuring import Latency

AIMS = {"qat_step_int8": 1.4, "qat_step_taq": 1.6}
HIDDEN = 64
WARM_UP = 2


@dataclass(frozen=True)
class Row:
    """One measured step; `ratio` is the median over rounds of its time over the float step's."""

    model: str
    adjacency: str
    step: str
    phase: str
    median_s: float
    first_quartile_s: float
    third_quartile_s: float
    ratio: float
    rounds: int


@dataclass(frozen=True)
class QuantResult:
    """All rows, and the ratios of the frozen steps by name."""

    data: str
    rows: tuple[Row, ...]
    summary: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"data": self.data, "rows": [asdict(row) for row in self.rows], "summary": self.summary}

    def table(self) -> Table:
        """Return the table for a terminal."""
        from rich.table import Table

        table = Table(title=f"training step, measured on {self.data}")
        for name in ("model", "edges", "step", "phase"):
            table.add_column(name)
        for name in ("ms", "quartiles", "x float", "aim"):
            table.add_column(name, justify="right", no_wrap=True)
        for row in self.rows:
            aim = AIMS.get(_key(row)) if row.phase == "frozen" else None
            table.add_row(
                row.model,
                row.adjacency,
                row.step,
                row.phase,
                f"{row.median_s * 1e3:.1f}",
                f"{row.first_quartile_s * 1e3:.0f}–{row.third_quartile_s * 1e3:.0f}",
                f"{row.ratio:.2f}",
                "" if aim is None else f"<= {aim:.1f}",
            )
        return table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the suite's own options."""
    parser.add_argument("--data", default="computers", help="a node data set (default: computers)")
    parser.add_argument(
        "--rounds", type=int, default=15, help="interleaved rounds, at least 15 (default: 15)"
    )


def run(given: argparse.Namespace) -> QuantResult:
    """Measure GCN and GAT; raise DataError where the data set cannot be had."""
    from sgq.errors import UsageError
    from sgq.runtime.measuring import interleaved_latency

    if given.rounds < 15:
        raise UsageError(f"expected at least 15 rounds (got {given.rounds})")
    rows: list[Row] = []
    for model, adjacency in (("gcn", "csr"), ("gat", "edge_index")):
        with ExitStack() as held:
            steps = _steps(model, adjacency, given.data, held)
            timings = interleaved_latency(steps, repeats=given.rounds, warmup=WARM_UP)
        rows += [_row(model, adjacency, name, timings) for name in timings]
    summary = {_key(row): round(row.ratio, 3) for row in rows if row.phase == "frozen"}
    summary |= {f"{_key(row)}_track": round(row.ratio, 3) for row in rows if row.phase == "track"}
    return QuantResult(given.data, tuple(rows), summary)


def _key(row: Row) -> str:
    return f"qat_step_{row.step}" + ("" if row.model == "gcn" else f"_{row.model}")


def _row(model: str, adjacency: str, name: str, timings: dict[str, Latency]) -> Row:
    step, _, phase = name.partition(" ")
    latency = timings[name]
    return Row(
        model,
        adjacency,
        step,
        phase,
        latency.median_s,
        latency.lower_quartile_s,
        latency.upper_quartile_s,
        latency.ratio_to(timings["float"]),
        latency.repeats,
    )


def _steps(
    model_name: str, adjacency: str, data_name: str, held: ExitStack
) -> dict[str, Callable[[], object]]:
    """Return the steps to compare, float first; each has a model and an optimiser of its own.

    While `held` is open, features are quantized already and their quantizers are out of the models.
    """
    import torch

    from quantizers import Phase
    from sgq.data import load, normalise_adjacency
    from sgq.models import build, default_options
    from sgq.pipeline.planning import plan_for
    from sgq.pipeline.tasks import NodeTask
    from sgq.pipeline.wrapping import apply_plan, prequantized, set_phase

    dataset = load(data_name, adjacency=adjacency, features="dense")  # type: ignore[arg-type]
    options = default_options(model_name)
    if model_name == "gcn":
        dataset = normalise_adjacency(dataset)
        options = replace(options, hidden=HIDDEN, normalise=False)
    torch.manual_seed(0)
    model = build(
        model_name, in_channels=dataset.num_features, out_channels=dataset.num_classes, options=options
    )
    task = NodeTask(dataset.data)
    steps = {"float": _step(copy.deepcopy(model), task)}
    for name, recipe in (("int8", "int8"), ("taq", f"sgquant/{model_name}-taq")):
        plan = plan_for(model, recipe, task)
        wrapped, bucketed = apply_plan(model, plan, task)
        for phase in (Phase.FROZEN, Phase.TRACK):
            trained = copy.deepcopy(wrapped)
            set_phase(trained, phase)
            static = held.enter_context(prequantized(trained, plan, bucketed))
            steps[f"{name} {phase.value}"] = _step(trained, static)
    return steps


def _step(model: Any, task: Any) -> Callable[[], object]:
    import torch

    optimiser = torch.optim.Adam(model.parameters(), lr=0.001)
    model.train()

    def step() -> object:
        optimiser.zero_grad(set_to_none=True)
        loss = task.loss(task.forward(model, task.data), task.data)
        loss.backward()
        optimiser.step()
        return loss.detach()

    return step
