"""A kernel call that can be run and timed: what a look-up table is measured with.

Calls run as they do inside a model: integer kernels bound to their places, torch modules in evaluation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from quantizers.spec import FLOAT_BITS, QuantizerSpec
from sgq.cost.footprint import kept_in_float
from sgq.cost.work import Work
from sgq.errors import ModelError
from sgq.models.graph_aggregate import EdgeNetwork, GraphAggregate
from sgq.models.neighbours import Clouds, Neighbours, Sampling
from sgq.models.searched import CloudPooling, Combination
from sgq.runtime import kernels
from sgq.runtime.finish import Activation, Finish
from sgq.runtime.kernels.contract import Term
from sgq.runtime.lowering.cloud_steps import fixed_degree, members_of
from sgq.runtime.packed import PackedTensor, layout_of, pack_rows
from sgq.runtime.quantization import Quantization
from sgq.runtime.weights import IntegerWeight, in_float, tiled
from sgq.runtime.workspace import Workspace

Runnable = Callable[[], object]
SEED = 0


class BoundCalls(Workspace):
    """Fresh room, and calls that are kept to be made again."""

    def __init__(self) -> None:
        super().__init__()
        self.launches: list[Callable[[], object]] = []

    def launch(self, call: Callable[[], object]) -> None:
        """Compute, and keep the call."""
        call()
        self.launches.append(call)

    def computed(self, function: Callable[[], Any]) -> Any:
        """Compute, and keep the call."""
        self.launches.append(function)
        return function()


def runnable(work: Work) -> Runnable:
    """Return a call that does a work on random numbers: it computes what a model would, every time.

    The numbers are always the same; torch's generator is left as it was.
    """
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(SEED)
        if work.runtime == "float":
            return _in_torch(work)
        workspace = BoundCalls()
        held = _on_integers(work, workspace)
    launches = workspace.launches

    def run() -> object:
        for launch in launches:
            launch()
        return held

    return run


def _on_integers(work: Work, workspace: Workspace) -> object:
    """Bind an integer kernel; return what it must keep."""
    if work.kind == "random":
        return None
    if work.kind == "edge_network":
        raise ModelError(
            f"an edge network with {work.variant} has no integer kernel that could be timed alone"
        )
    rows = work.rows
    finish = _finish(work)
    if work.kind == "assemble":
        blocks = _blocks(work)
        return kernels.assemble(blocks, finish, workspace=workspace)
    x = packed_rows(rows, work.inputs, work.input_bits)
    if work.kind == "knn":
        return kernels.neighbours(x, clouds=work.clouds, k=work.edges // rows, workspace=workspace)
    if work.kind == "linear":
        return kernels.linear(x, _weight(work), finish, workspace=workspace)
    if work.kind == "pool":
        members = members_of(torch.arange(work.clouds + 1) * (rows // work.clouds))
        return kernels.aggregate(members, x, finish, reduction=_reducer(work), workspace=workspace)
    graph = fixed_degree(_sources(work))
    if work.kind == "distance":
        return kernels.edge_distances(graph, x, finish, reduction=_reducer(work), workspace=workspace)
    return kernels.aggregate(graph, x, finish, reduction=_reducer(work), workspace=workspace)


def _reducer(work: Work) -> Any:
    return work.variant


def _sources(work: Work) -> Tensor:
    """Return random neighbours [rows, k], each in the cloud of its row."""
    size = work.rows // work.clouds
    picked = torch.randint(size, (work.clouds, size, max(1, work.edges // work.rows)))
    return (picked + (torch.arange(work.clouds) * size).view(-1, 1, 1)).flatten(0, 1)


def packed_rows(rows: int, channels: int, bits: int) -> PackedTensor:
    """Return random rows: codes of one scale at up to 8 bits, fp32 values else."""
    if kept_in_float(bits):
        layout = layout_of((rows,), channels, (FLOAT_BITS,))
        return PackedTensor(
            pack_rows(torch.randn(rows, channels), layout), torch.tensor([[1.0, 0.0]]), "segment", layout
        )
    layout = layout_of((rows,), channels, (bits,))
    codes = torch.randint(2**bits, (rows, channels)).float()
    return PackedTensor(
        pack_rows(codes, layout), torch.tensor([[0.1, float(2 ** (bits - 1))]]), "segment", layout
    )


def _weight(work: Work) -> IntegerWeight:
    narrow = not (kept_in_float(work.input_bits) or kept_in_float(work.weight_bits))
    if not narrow:
        return in_float(torch.randn(work.inputs, work.outputs))
    most = max(1, 2 ** (work.weight_bits - 1) - 1)
    integers = torch.randint(-most, most + 1, (work.inputs, work.outputs)).float()
    return tiled(integers, torch.full((work.outputs,), 0.01))


def _finish(work: Work) -> Finish:
    activation: Activation = "none"
    add = None
    if work.kind == "linear" and work.variant != "none":
        activation = "relu" if work.variant == "relu" else "leaky_relu"
        add = torch.randn(work.outputs)
    quantization = None
    if not kept_in_float(work.output_bits):
        spec = QuantizerSpec(work.output_bits)
        quantization = Quantization(spec, torch.tensor([[0.05, float(2 ** (work.output_bits - 1))]]))
    slope = 0.2 if activation == "leaky_relu" else 0.0
    return Finish(add=add, activation=activation, slope=slope, quantization=quantization)


def _blocks(work: Work) -> tuple[tuple[Term, ...], ...]:
    """Return the terms of an assembly: its first value in codes, what was gathered in fp32."""
    blocks, _ = map(int, work.variant.split("x"))
    rows, outputs = work.rows, work.outputs
    if work.variant in ASSEMBLED:
        channels = assembled_channels(work.variant, outputs)
        own = Term(packed_rows(rows, channels, work.input_bits))
        brought = Term(torch.randn(rows, channels))
        relative = (brought, Term(own.rows, -1.0))
        return {
            "1x1": ((own,),),
            "1x2": (relative,),
            "2x2": ((own,), relative),
            "4x2": ((own,), (brought,), relative, (Term(torch.randn(rows, 1)),)),
        }[work.variant]
    widths = [outputs // blocks] * (blocks - 1)
    widths.append(outputs - sum(widths))
    return tuple((Term(packed_rows(rows, width, work.input_bits)),) for width in widths)


ASSEMBLED = ("1x1", "1x2", "2x2", "4x2")
"""Shapes of messages; any other one is a concatenation."""


def assembled_channels(variant: str, outputs: int) -> int:
    """Return how many channels the features have of which a message with so many was made."""
    return max(1, {"1x1": outputs, "1x2": outputs, "2x2": outputs // 2, "4x2": (outputs - 1) // 3}[variant])


def _in_torch(work: Work) -> Runnable:
    rows, edges = work.rows, work.edges
    x = torch.randn(rows, work.inputs)
    if work.kind == "assemble":
        call = _assembly(work)
    elif work.kind == "linear":
        call = _bound(_layer(work), x)
    elif work.kind in ("knn", "random"):
        clouds = Clouds(None, work.clouds, rows // work.clouds)
        call = _bound(Sampling(_reducer(work), edges // rows).eval(), x, clouds)
    elif work.kind == "pool":
        clouds = Clouds(None, work.clouds, rows // work.clouds)
        call = _bound(CloudPooling((_reducer(work),)), x, clouds)
    else:
        sources = _sources(work)
        k = sources.size(1)
        targets = torch.arange(rows).repeat_interleave(k)
        neighbours = Neighbours(torch.stack([sources.flatten(), targets]), k)
        module: nn.Module
        if work.kind == "edge_network":
            module = EdgeNetwork(Combination(2 * work.inputs, work.outputs, "leaky_relu"), _reducer(work))
        else:
            module = GraphAggregate(_reducer(work), "source" if work.kind == "gather" else "distance", k=k)
        call = _bound(module.eval(), x, neighbours)

    def run() -> object:
        with torch.inference_mode():
            return call()

    return run


def _bound(module: nn.Module, *arguments: Any) -> Runnable:
    return lambda: module(*arguments)


def _layer(work: Work) -> nn.Module:
    if work.variant == "none":
        return nn.Linear(work.inputs, work.outputs).eval()
    return Combination(work.inputs, work.outputs, "relu" if work.variant == "relu" else "leaky_relu").eval()


def _assembly(work: Work) -> Runnable:
    blocks, _ = map(int, work.variant.split("x"))
    rows = work.rows
    if work.variant in ASSEMBLED:
        channels = assembled_channels(work.variant, work.outputs)
        own, brought, one = (torch.randn(rows, width) for width in (channels, channels, 1))
        return {
            "1x1": lambda: own * 2.0,  # the sum of so many times itself
            "1x2": lambda: brought - own,
            "2x2": lambda: torch.cat([own, brought - own], dim=1),
            "4x2": lambda: torch.cat([own, brought, brought - own, one], dim=1),
        }[work.variant]
    widths = [work.outputs // blocks] * (blocks - 1)
    widths.append(work.outputs - sum(widths))
    parts = [torch.randn(rows, width) for width in widths]
    return lambda: torch.cat(parts, dim=1)
