"""The models that the runtime suite runs, and the data that it runs them on.

The float models are untrained and the quantized ones calibrated only: neither latency nor memory depends on
how well a model was trained.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from sgq.pipeline.tasks import Task
    from sgq.runtime.baselines import Form

HIDDEN = (16, 64, 256)
REAL = ("cora", "computers", "cs")
LARGE = ("chung-lu", "regular")
"""The synthetic graphs of 500,000 nodes and 10 M edges."""
CLASSES, FEATURES = 10, 64
"""Of the synthetic graphs."""
ALL_FORMS: tuple[Form, ...] = ("edge_index", "csr", "csr int32")
CSR_ONLY: tuple[Form, ...] = ("csr",)
"""For the large graphs: messages of 10 M edges x 256 channels alone would take 10 GB."""


@dataclass(frozen=True)
class ModelCase:
    """One float model on one data set; `prepare` adds a row with the preparation of the data in it."""

    model: str
    data: str
    hidden: int
    forms: tuple[Form, ...] = ALL_FORMS
    prepare: bool = False

    @property
    def title(self) -> str:
        """The case in words."""
        return f"{self.model} {self.hidden} on {self.data}"

    def key(self, recipe: str) -> str:
        """Return the stem of the names of the case's ratios."""
        return f"{self.model}_{recipe}_h{self.hidden}_{self.data}"


CASES = (
    *(ModelCase("gcn", data, hidden) for data in REAL for hidden in HIDDEN),
    ModelCase("gat", "computers", 8),
    ModelCase("gin", "reddit-binary", 64, prepare=True),
    *(ModelCase("gcn", data, hidden, CSR_ONLY) for data in LARGE for hidden in HIDDEN),
)


def large_graph(edge_index: Any, *, nodes: int, device: str) -> Any:
    """Return a graph with random dense features."""
    import torch
    from torch_geometric.data import Data

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(nodes, FEATURES, generator=generator)
    y = torch.randint(CLASSES, (nodes,), generator=generator)
    return Data(x=x, edge_index=edge_index, y=y).to(device)


def subject(
    case: ModelCase, graphs: dict[str, Any], *, device: str, quick: bool = False
) -> tuple[nn.Module, Task]:
    """Return a case's float model and its task; `graphs` are the large ones, as CSR.

    `quick` takes embedded data in place of real ones.
    """
    import torch

    from sgq.data import load
    from sgq.models import build, default_options
    from sgq.pipeline.tasks import NodeTask, task_of

    torch.manual_seed(0)
    if case.data in graphs:
        task: Task = NodeTask(graphs[case.data])
        channels, classes, kind = FEATURES, CLASSES, "node"
    else:
        embedded = "synthetic-graphs" if case.model == "gin" else "synthetic"
        dataset = load(embedded if quick else case.data)
        dataset = replace(
            dataset,
            data=None if dataset.data is None else dataset.data.to(device),
            graphs=[graph.to(device) for graph in dataset.graphs],
        )
        task = task_of(dataset)
        channels, classes, kind = dataset.num_features, dataset.num_classes, dataset.task
    options = replace(default_options(case.model, task=kind), hidden=case.hidden)
    model = build(case.model, in_channels=channels, out_channels=classes, options=options)
    return model.to(device).eval(), task


def calibrated(model: nn.Module, task: Task, recipe: str) -> tuple[nn.Module, Task]:
    """Return the model quantized by a shipped recipe, not finetuned, and its task with the plan's buckets."""
    from sgq.pipeline.planning import plan_for
    from sgq.pipeline.wrapping import apply_plan

    wrapped, bucketed = apply_plan(model, plan_for(model, recipe, task), task)
    return wrapped.eval(), bucketed
