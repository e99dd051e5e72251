"""Linear layers on a CPU, called with packed rows: a product for each form of the weight."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from quantizers.spec import FLOAT_BITS
from sgq.errors import ModelError
from sgq.runtime.features import BitFeatures, SparseFeatures
from sgq.runtime.finish import Finish
from sgq.runtime.kernels.contract import Scores
from sgq.runtime.kernels.cpu import aggregation, products
from sgq.runtime.kernels.cpu.results import channel_factors, padded, reach, segment_arguments, target_of
from sgq.runtime.kernels.cpu.rounding import finish_rows
from sgq.runtime.kernels.cpu.threads import Scratch, run_on, torch_threads, whole_vectors
from sgq.runtime.packed import PackedTensor
from sgq.runtime.weights import IntegerWeight, padded_outputs, table_chunk
from sgq.runtime.workspace import Workspace


def linear(
    x: PackedTensor | SparseFeatures | BitFeatures,
    weight: IntegerWeight,
    finish: Finish,
    *,
    addend: Tensor | None,
    scores: Scores | None,
    workspace: Workspace,
) -> Tensor | PackedTensor:
    """See `sgq.runtime.kernels.linear`."""
    if isinstance(x, PackedTensor):
        multiply = _multiply_floats if weight.form == "float" else _multiply_packed
        return multiply(x, weight, finish, addend=addend, scores=scores, workspace=workspace)
    if addend is not None:
        # Features have no kernel with an addend: the sum is finished apart.
        values = linear(x, weight, Finish(), addend=None, scores=scores, workspace=workspace)
        assert isinstance(values, Tensor)
        total = workspace.computed(partial(_scaled_sum, values, finish.multiply, addend))
        return finished(total, replace(finish, multiply=None), workspace)
    if isinstance(x, SparseFeatures):
        return _multiply_sparse(x, weight, finish, scores=scores, workspace=workspace)
    return _multiply_bits(x, weight, finish, scores=scores, workspace=workspace)


def _scaled_sum(values: Tensor, multiply: Tensor | None, addend: Tensor) -> Tensor:
    return (values if multiply is None else values * multiply) + addend


def finished(values: Tensor, finish: Finish, workspace: Workspace) -> Tensor | PackedTensor:
    """Return fp32 values [rows, width] finished."""
    rows, width = values.shape
    target = target_of(rows, width, finish, workspace)
    threads = torch_threads(rows=rows, numbers=values.numel())
    scratch = Scratch(workspace, threads, target.lanes)
    arguments = (rows, values.data_ptr(), width, *scratch.place, target.lanes, target.record)
    held = (values, scratch, target)
    workspace.launch(lambda: run_on(threads, finish_rows, arguments, held))
    return target.result


@dataclass(frozen=True)
class _Product:
    """What products of packed rows have in common: result, room, and the arguments before and after."""

    threads: int
    result: Tensor | PackedTensor
    room: tuple[Any, ...]
    ending: tuple[Any, ...]
    wide_room: int
    held: tuple[Any, ...]


def _product(
    x: PackedTensor,
    weight: IntegerWeight,
    finish: Finish,
    addend: Tensor | None,
    scores: Scores | None,
    workspace: Workspace,
    *,
    inputs: int,
    dtype: torch.dtype,
) -> _Product:
    """Return room for the product of packed rows, unpacked to `inputs` numbers of a type."""
    rows = x.layout.rows
    threads = torch_threads(rows=rows, numbers=rows * weight.outputs * weight.inputs // 4)
    finish = finish.scaled(weight.scale.expand(weight.outputs))
    multiply = finish.multiply
    assert multiply is not None
    multiply = multiply.contiguous()
    if addend is not None and not addend.is_contiguous():
        addend = workspace.computed(addend.contiguous)
    finish = replace(finish, multiply=multiply if addend is None else None)
    target = target_of(rows, weight.outputs, finish, workspace)
    vectors = _score_record(scores, weight)
    out_room = whole_vectors(max(padded_outputs(weight), target.lanes, vectors.reach))
    scratch = Scratch(workspace, threads, products.ROWS * out_room)
    wide_room = whole_vectors(max(reach(x.layout), inputs))
    wide = Scratch(workspace, threads, products.ROWS * wide_room, dtype)
    place = 0 if addend is None else addend.data_ptr()
    return _Product(
        threads,
        target.result,
        (*wide.place, wide_room, *scratch.place, out_room),
        (place, multiply.data_ptr(), weight.outputs, vectors.record, target.record),
        wide_room,
        (x, weight, addend, multiply, target, scratch, wide, vectors),
    )


def _multiply_packed(
    x: PackedTensor,
    weight: IntegerWeight,
    finish: Finish,
    *,
    addend: Tensor | None,
    scores: Scores | None,
    workspace: Workspace,
) -> Tensor | PackedTensor:
    """Multiply packed rows by a weight in tiles."""
    if x.per == "channel" or any(segment.bits == FLOAT_BITS for segment in x.layout.segments):
        raise ModelError('expected rows of 8 bits or fewer with scales by row: use a weight in form "float"')
    pairs = weight.data.size(1)
    made = _product(x, weight, finish, addend, scores, workspace, inputs=2 * pairs, dtype=torch.int16)
    arguments = (
        x.layout.rows, x.codes.data_ptr(), *segment_arguments(x.layout), x.parameters.data_ptr(),
        int(x.per == "row"), weight.data.data_ptr(), pairs, weight.data.size(0), *made.room, *made.ending,
    )  # fmt: skip
    workspace.launch(lambda: run_on(made.threads, products.multiply_packed, arguments, made))
    return made.result


def _multiply_floats(
    x: PackedTensor,
    weight: IntegerWeight,
    finish: Finish,
    *,
    addend: Tensor | None,
    scores: Scores | None,
    workspace: Workspace,
) -> Tensor | PackedTensor:
    """Multiply rows, unpacked one by one, by a weight in fp32."""
    made = _product(x, weight, finish, addend, scores, workspace, inputs=weight.inputs, dtype=torch.float32)
    parameters, by_channel, factors = channel_factors(x, made.wide_room)
    arguments = (
        x.layout.rows, x.codes.data_ptr(), *segment_arguments(x.layout), parameters, int(x.per == "row"),
        by_channel, weight.data.data_ptr(), weight.inputs, weight.data.size(0), *made.room, *made.ending,
    )  # fmt: skip
    held = (made, factors)
    workspace.launch(lambda: run_on(made.threads, products.multiply_floats, arguments, held))
    return made.result


def _multiply_sparse(
    x: SparseFeatures, weight: IntegerWeight, finish: Finish, *, scores: Scores | None, workspace: Workspace
) -> Tensor | PackedTensor:
    """Multiply sparse features by a weight in rows."""
    threads = torch_threads(rows=x.rows, edges=x.nonzeros, numbers=x.nonzeros * weight.outputs)
    packed = weight.packed
    assert packed is not None
    segment = packed.layout.segments[0]
    target = target_of(x.rows, weight.outputs, finish.scaled(weight.scale), workspace)
    vectors = _score_record(scores, weight)
    room = whole_vectors(max(reach(packed.layout), target.lanes, vectors.reach))
    scratch = Scratch(workspace, threads, 2 * room)
    pairs, zeros = packed.parameters, torch.ones(weight.outputs)
    if packed.per == "channel":
        pairs, zeros = torch.ones(1, 2), packed.parameters[:, 1]
    zeros = padded(zeros, room)
    arguments = (
        threads, x.rows, x.pointers.data_ptr(), x.columns.dtype == torch.int16, x.columns.data_ptr(),
        x.codes.data_ptr(), int(x.codes.numel() != 1), x.parameters.data_ptr(),
        2 * int(x.parameters.size(0) != 1), packed.codes.data_ptr(), segment.bits, segment.row_bytes,
        pairs.data_ptr(), zeros.data_ptr(), *scratch.place, room, vectors.record, target.record,
    )  # fmt: skip
    held = (x, weight, pairs, zeros, scratch, vectors, target)
    workspace.launch(lambda: run_on(threads, aggregation.combine_sparse, arguments, held))
    return target.result


def _multiply_bits(
    x: BitFeatures, weight: IntegerWeight, finish: Finish, *, scores: Scores | None, workspace: Workspace
) -> Tensor | PackedTensor:
    """Multiply rows of bits by a weight in tables."""
    threads = torch_threads(rows=x.rows, numbers=x.rows * weight.outputs * weight.inputs // 16)
    target = target_of(x.rows, weight.outputs, finish.scaled(weight.scale), workspace)
    vectors = _score_record(scores, weight)
    room = whole_vectors(max(padded_outputs(weight), target.lanes, vectors.reach))
    scratch = Scratch(workspace, threads, products.BIT_ROWS * room)
    sums = Scratch(workspace, threads, products.BIT_ROWS * products.TABLE_COLUMNS, torch.int16)
    arguments = (
        x.rows, x.bits.data_ptr(), x.bits.size(1), x.levels.data_ptr(), weight.data.data_ptr(),
        weight.data.size(0), table_chunk(weight), *sums.place, *scratch.place, room,
        vectors.record, target.record,
    )  # fmt: skip
    held = (x, weight, scratch, sums, vectors, target)
    workspace.launch(lambda: run_on(threads, products.multiply_bits, arguments, held))
    return target.result


@dataclass(frozen=True)
class _ScoreRecord:
    """The address of what `score_row` takes, or 0; the channels that it reads of a row; what is held."""

    record: int
    reach: int
    held: tuple[Any, ...]


def _score_record(scores: Scores | None, weight: IntegerWeight) -> _ScoreRecord:
    if scores is None:
        return _ScoreRecord(0, 0, ())
    count, heads, values = scores.vectors.size(0), scores.heads, scores.values
    by_head = (scores.vectors * weight.scale).view(count, heads, -1)
    channels = by_head.size(2)
    lanes = whole_vectors(channels)
    vectors = torch.nn.functional.pad(by_head, (0, lanes - channels)).contiguous()
    fields = (vectors.data_ptr(), count, lanes, channels, values.data_ptr(), values.stride(0), heads)
    record = np.array(fields, np.int64)
    return _ScoreRecord(record.ctypes.data, (heads - 1) * channels + lanes, (record, vectors, values))
