"""What a step of a lowered program does: operations at which width, and bytes moved at their true widths."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from quantizers.spec import FLOAT_BITS
from sgq.cost.footprint import NARROW_BITS
from sgq.cost.roofline import ATTENTION_OPERATIONS, Demand
from sgq.errors import ModelError
from sgq.runtime.features import BitFeatures, SparseFeatures
from sgq.runtime.lowering.graphs import PreparedInputs
from sgq.runtime.lowering.steps import (
    AggregateStep,
    AttentionStep,
    LinearStep,
    PointwiseStep,
    Step,
    TorchStep,
    Values,
    rows_of,
)
from sgq.runtime.measuring import stored_bytes, tensors_in
from sgq.runtime.packed import PackedTensor
from sgq.runtime.weights import IntegerWeight

KERNEL_STEPS = (LinearStep, AggregateStep, AttentionStep, PointwiseStep)
"""The steps of layers, a kernel each; those of sampled architectures are priced by their genotype."""


def check_priced(step: Step) -> None:
    """Raise ModelError for a step that has no price here."""
    if not isinstance(step, (*KERNEL_STEPS, TorchStep)):
        raise ModelError(
            f"{type(step).__name__} has no price by step: price an architecture by its genotype "
            "(sgq.cost.price(genotype, workload, target)), or measure the model (sgq.runtime.measuring)"
        )


def demand_of(step: Step, values: Values, inputs: PreparedInputs) -> Demand | None:
    """Return what a step's kernel does, its values given; None for a step that torch computes."""
    if not isinstance(step, KERNEL_STEPS):
        return None
    held: float = stored_bytes(step.tensors()) + stored_bytes(tensors_in(values[step.output]))
    if isinstance(step, LinearStep):
        read = stored_bytes(tensors_in([values[number] for number in step.inputs]))
        read += stored_bytes(tensors_in([values[number] for number in step.score_outputs]))
        products, bits = _products(values[step.source], step.weight)
        vectors = 0 if step.score_vectors is None else 2 * step.score_vectors.numel()
        operations = products + vectors * rows_of(values[step.source])
        return Demand("integer", operations, held + read, bits)
    if isinstance(step, AggregateStep):
        graph = inputs.edges(step.edges, values)
        weighed = graph.weights is not None or step.coefficients is not None
        held += graph.edges * _row_bytes(values[step.source]) + stored_bytes(graph.tensors())
        if step.coefficients is not None:
            held += stored_bytes(tensors_in(values[step.coefficients]))
        operations = (2 if weighed else 1) * graph.edges * _width(values[step.source])
        return Demand("integer", operations, held)
    if isinstance(step, AttentionStep):
        graph = inputs.graphs[step.form]
        ends = _row_bytes(values[step.source]) + _row_bytes(values[step.target])
        operations = ATTENTION_OPERATIONS * graph.edges * _width(values[step.source])
        return Demand("integer", operations, held + graph.edges * ends + stored_bytes(graph.tensors()))
    rows = values[step.source]
    return Demand("integer", rows_of(rows) * _width(rows), held + stored_bytes(tensors_in(rows)))


def _products(x: Any, weight: IntegerWeight) -> tuple[int, int]:
    """Return the operations of a product, and the width at which they run."""
    count = x.nonzeros if isinstance(x, SparseFeatures) else rows_of(x) * weight.inputs
    if weight.form == "float":
        return 2 * count * weight.outputs, FLOAT_BITS
    own = max((one.bits for one in x.layout.segments), default=1) if isinstance(x, PackedTensor) else 1
    return 2 * count * weight.outputs, min(NARROW_BITS, max(own, weight.largest.bit_length()))


def _width(value: Any) -> int:
    """Return the channels of a row, over all heads."""
    if isinstance(value, PackedTensor):
        return value.layout.width
    if isinstance(value, (SparseFeatures, BitFeatures)):
        return value.channels
    return int(value[0].numel()) if isinstance(value, Tensor) and value.size(0) else 0


def _row_bytes(value: Any) -> float:
    """Return the mean bytes of a row, its parameters included where it has its own."""
    rows = rows_of(value)
    return stored_bytes(tensors_in(value)) / rows if rows else 0.0
