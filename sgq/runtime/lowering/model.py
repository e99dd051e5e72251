"""The module that a lowered model is, and how it takes data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn

from quantizers import Quantizer
from sgq.errors import DataError, ModelError
from sgq.graph.adjacency import adjacency_of, is_sparse
from sgq.graph.inputs import ADJACENCY_ARGUMENTS
from sgq.graph.swap import ROOT_BUCKETS
from sgq.runtime.lowering.cloud_steps import SAMPLING, members_of
from sgq.runtime.lowering.graphs import EdgeForm, PreparedInputs, Rows, build_csr, edges_of
from sgq.runtime.lowering.preparing import FeatureForm, form_of, pack_features
from sgq.runtime.lowering.report import LoweringReport
from sgq.runtime.lowering.steps import Step, Values, in_float, in_float_rows
from sgq.runtime.measuring import stored_bytes, tensors_in
from sgq.runtime.workspace import AT_ONCE, Workspace

FEATURES = "x"
WEIGHTS = "edge_weight"


@dataclass(frozen=True)
class PackedInput:
    """How input features are packed beforehand: by which quantizer (None: not at all), in which form.

    `gathered` features are aggregated before any product, and so are dense.
    """

    quantizer: Quantizer | None
    form: FeatureForm | None
    gathered: bool


class LoweredModel(nn.Module):
    """A model of integer kernels: packed weights in, packed rows between layers, fp32 logits out.

    It is for inference. `inputs` are those of the data that it was lowered on; `prepare` makes them of other
    data.
    """

    def __init__(
        self,
        steps: tuple[Step, ...],
        *,
        output: int,
        output_rows: str,
        arguments: dict[str, int],
        forms: frozenset[EdgeForm],
        features: PackedInput,
        channels: int,
        buckets: int,
        clouds: bool,
        original: nn.Module,
        keeps_original: bool,
        report: LoweringReport,
    ) -> None:
        """Take the program; see `lower`."""
        super().__init__()
        self.steps = steps
        self.report = report
        self.inputs: PreparedInputs | None = None
        self._weighted: bool | None = None
        self._output, self._output_rows = output, output_rows
        self.arguments, self._forms = arguments, forms
        self._features = features
        self._channels = channels
        self._clouds = clouds
        self._buckets, self._keeps_original = buckets, keeps_original
        self._own_bucket = original._buffers.get(ROOT_BUCKETS)
        self._dead = _last_uses(steps, output)

    @torch.no_grad()
    def forward(self, inputs: PreparedInputs | None = None) -> Tensor:
        """Return logits, fp32, of prepared inputs (default: those that it was lowered on)."""
        inputs = self.inputs if inputs is None else inputs
        assert inputs is not None
        compute = partial(self.compute, inputs)
        on_cpu = inputs.device.type == "cpu"
        result = inputs.schedule.run(self, compute) if on_cpu else compute(Workspace(inputs.device))
        if not self.reorders(inputs, result):
            return result
        natural = torch.empty_like(result)
        natural[inputs.order] = result
        return natural

    def reorders(self, inputs: PreparedInputs, result: Tensor) -> bool:
        """Whether the rows of a result are brought from the order of buckets into that of the data."""
        return inputs.order is not None and self._output_rows == "node" and result.size(0) == inputs.nodes

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Refuse what would move or cast it (`to`, `cuda`, `half`): weights are laid out for kernels."""
        probe = next(iter(self.tensors()), torch.empty(0)).new_empty(0, dtype=torch.float32)
        changed = fn(probe)
        if (changed.device, changed.dtype) != (probe.device, probe.dtype):
            raise ModelError(
                f"a lowered model stays on {probe.device}, in its own types: move the quantized model and "
                "its data first, then call sgq.lower"
            )
        return self

    def compute(
        self,
        inputs: PreparedInputs,
        workspace: Workspace,
        *,
        watch: Callable[[Step, Values], None] = lambda step, values: None,
    ) -> Tensor:
        """Return logits in the order of the prepared nodes; `watch` sees the values behind each step."""
        values: dict[int, Any] = {
            number: inputs.features if name == FEATURES else inputs.original.get(name)
            for name, number in self.arguments.items()
        }
        for step, dead in zip(self.steps, self._dead, strict=True):
            step.run(values, inputs, workspace)
            watch(step, values)
            for number in dead:
                values.pop(number, None)
            workspace.end_step(tensors_in(list(values.values())))
        result: Tensor = in_float(values[self._output], workspace)
        return result

    def prepare(self, data: Any) -> PreparedInputs:
        """Return a graph (or a batch of graphs) as this model takes it: quantized, sorted, packed once.

        Raises DataError where the data lacks degree buckets, or its features cannot have the form that the
        weights were laid out for.
        """
        nodes = int(data.num_nodes)
        bucket = self._bucket_of(data, nodes)
        order = None if bucket is None else torch.argsort(bucket.long(), stable=True)
        rows: tuple[int, ...] = (nodes,)
        if bucket is not None and order is not None:
            rows = tuple(torch.bincount(bucket.long(), minlength=self._buckets).tolist())
            bucket = bucket[order].to(torch.uint8)
        if self._clouds:
            return self._prepared_clouds(data, nodes)
        source, target, weights = edges_of(data)
        if WEIGHTS in self.arguments or is_sparse(adjacency_of(data)):
            self._check_weights(weights)
        if order is not None:
            place = torch.empty_like(order)
            place[order] = torch.arange(nodes, device=order.device)
            source, target = place[source], place[target]
        segments = None if bucket is None else rows
        graphs = {
            form: build_csr(source, target, weights, form, nodes=nodes, rows=segments) for form in self._forms
        }
        original = self._original(data, nodes, order, (source, target, weights))
        x = _reordered(data.x, order)
        return PreparedInputs(
            self._packed(x, rows, bucket),
            graphs,
            nodes,
            rows,
            order=order,
            bucket=bucket,
            original=original,
            data=data if self.report.simulated and not self.arguments else None,
        )

    def _prepared_clouds(self, data: Any, nodes: int) -> PreparedInputs:
        """Return point clouds, or graphs of a searched model: their own edges are read where it has a use."""
        graphs = {}
        if self._forms:
            source, target, weights = edges_of(data)
            graphs = {
                form: build_csr(source, target, weights, form, nodes=nodes, rows=None) for form in self._forms
            }
        count = int(getattr(data, "num_graphs", 1))
        pointers = data.ptr if count > 1 else torch.tensor([0, nodes], device=data.x.device)
        if any(isinstance(step, SAMPLING) for step in self.steps) and pointers.diff().unique().numel() > 1:
            raise DataError(
                f"expected graphs of one size, whose neighbours are sampled (got sizes of "
                f"{int(pointers.diff().min())} to {int(pointers.diff().max())})"
            )
        features = in_float_rows(self._packed(data.x, (nodes,), None), AT_ONCE)
        members = members_of(pointers)
        return PreparedInputs(features, graphs, nodes, (nodes,), count=count, members=members)

    def _check_weights(self, weights: Tensor | None) -> None:
        """Raise DataError where edges have weights and those of the lowered graph had none, or vice versa."""
        weighted = weights is not None
        if self._weighted is None:
            self._weighted = weighted
        if weighted != self._weighted:
            here, there = ("with", "without") if weighted else ("without", "with")
            raise DataError(
                f"a graph {here} edge weights where the model was lowered on one {there}: lower it anew"
            )

    @property
    def nbytes(self) -> int:
        """Bytes of its own tensors: packed weights, scales, biases; of simulated layers their state."""
        return stored_bytes(self.tensors())

    def tensors(self) -> Iterator[Tensor]:
        """Yield its own tensors."""
        for step in self.steps:
            yield from step.tensors()

    def _packed(self, x: Tensor, rows: tuple[int, ...], bucket: Tensor | None) -> Rows:
        known = self._features
        if x.size(1) != self._channels:
            raise DataError(f"expected {self._channels} features a node (got {x.size(1)})")
        if known.quantizer is None:
            return x
        return pack_features(
            x, known.quantizer, rows=rows, bucket=bucket, form=known.form, gathered=known.gathered
        )

    def _bucket_of(self, data: Any, nodes: int) -> Tensor | None:
        if not self._buckets:
            return None
        bucket = getattr(data, "bucket", None)
        bucket = self._own_bucket if bucket is None else bucket
        if bucket is None or bucket.numel() != nodes:
            raise DataError(
                f"expected degree bucket ids for {nodes} nodes (got "
                f"{'none' if bucket is None else bucket.numel()}): apply sgq.DegreeBuckets to the data first"
            )
        return bucket

    def _original(
        self, data: Any, nodes: int, order: Tensor | None, edges: tuple[Tensor, Tensor, Tensor | None]
    ) -> dict[str, Any]:
        """Return the arguments besides features: for readouts, and for layers that stay simulated."""
        kept: dict[str, Any] = {}
        for name in self.arguments:
            if name == FEATURES:
                continue
            if name in ADJACENCY_ARGUMENTS:
                if self._keeps_original:
                    kept[name] = _adjacency(data, nodes, order, edges)
                continue
            value = getattr(data, "num_graphs" if name == "batch_size" else name, None)
            by_node = isinstance(value, Tensor) and data.is_node_attr(name)
            kept[name] = value[order] if by_node and order is not None and value is not None else value
        return kept


def has_sparse_weights(data: Any) -> bool:
    """Whether a graph's adjacency is a sparse matrix of other values than ones."""
    return is_sparse(adjacency_of(data)) and edges_of(data)[2] is not None


def first_features(data: Any, quantizer: Quantizer, bucket: Tensor | None, *, gathered: bool) -> FeatureForm:
    """Return the form that the features of the data take; it does not depend on the order of the nodes."""
    rows = (int(data.num_nodes),)
    if quantizer.spec.bucketed and bucket is not None:
        counts = torch.bincount(bucket.long(), minlength=len(quantizer.spec.widths))
        order = torch.argsort(bucket.long(), stable=True)
        x = _reordered(data.x, order)
        return form_of(
            pack_features(x, quantizer, rows=tuple(counts.tolist()), bucket=bucket[order], gathered=gathered)
        )
    return form_of(pack_features(data.x, quantizer, rows=rows, bucket=bucket, gathered=gathered))


def _last_uses(steps: tuple[Step, ...], output: int) -> list[list[int]]:
    """Return, for each step, the values that nothing reads after it."""
    last: dict[int, int] = {}
    for at, step in enumerate(steps):
        for number in step.inputs:
            last[number] = at
    last.pop(output, None)
    dead: list[list[int]] = [[] for _ in steps]
    for number, at in last.items():
        dead[at].append(number)
    return dead


def _reordered(x: Tensor, order: Tensor | None) -> Tensor:
    """Return the rows of dense or sparse CSR features in another order."""
    if order is None:
        return x
    if x.layout != torch.sparse_csr:
        return x[order]
    counts = x.crow_indices().diff()[order]
    pointers = torch.zeros_like(x.crow_indices())
    torch.cumsum(counts, 0, out=pointers[1:])
    starts = x.crow_indices()[:-1][order] - pointers[:-1]
    picks = torch.arange(x.col_indices().numel(), device=x.device) + starts.repeat_interleave(counts)
    return torch.sparse_csr_tensor(
        pointers, x.col_indices()[picks], x.values()[picks], size=x.shape, check_invariants=False
    )


def _adjacency(
    data: Any, nodes: int, order: Tensor | None, edges: tuple[Tensor, Tensor, Tensor | None]
) -> Any:
    adjacency = adjacency_of(data)
    if order is None:
        return adjacency
    source, target, weights = edges
    if not is_sparse(adjacency):
        return torch.stack([source, target])
    by_target = torch.argsort(target * nodes + source, stable=True)
    pointers = torch.zeros(nodes + 1, dtype=torch.int64, device=source.device)
    torch.cumsum(torch.bincount(target, minlength=nodes), 0, out=pointers[1:])
    values = torch.ones(source.numel(), device=source.device) if weights is None else weights
    return torch.sparse_csr_tensor(
        pointers, source[by_target], values[by_target], size=(nodes, nodes), check_invariants=False
    )
