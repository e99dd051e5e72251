"""What networks on point clouds do, on a CPU: neighbours, lengths of edges, rows put together from others."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from quantizers.spec import FLOAT_BITS
from sgq.runtime.csr import COLUMN_PADDING, Csr
from sgq.runtime.finish import Finish
from sgq.runtime.kernels.contract import Blocks, Reduction, Term, exact_distances
from sgq.runtime.kernels.cpu import assembling, edge_lengths, nearest
from sgq.runtime.kernels.cpu.nearest_blocks import KEYS
from sgq.runtime.kernels.cpu.products import COLUMNS
from sgq.runtime.kernels.cpu.results import NEUTRAL, channel_factors, reach, segment_arguments, target_of
from sgq.runtime.kernels.cpu.threads import Scratch, run_on, torch_threads, whole_vectors
from sgq.runtime.packed import VECTOR, PackedTensor
from sgq.runtime.workspace import Workspace


def neighbours(x: PackedTensor, *, clouds: int, k: int, workspace: Workspace) -> Csr:
    """See `sgq.runtime.kernels.neighbours`."""
    rows, width = x.layout.rows, x.layout.width
    size, exact = rows // clouds, exact_distances(x)
    graph = Csr(
        workspace.empty(rows + 1, dtype=torch.int32),
        workspace.empty(rows * k + COLUMN_PADDING, dtype=torch.int32),
        None, rows, rows, 1, k,
    )  # fmt: skip
    threads = torch_threads(rows=rows, numbers=rows * size * (1 + width // 4))
    words = -(-width // 2) if exact else width
    wide_room = whole_vectors(reach(x.layout) // 2 if exact else reach(x.layout))
    wide = Scratch(workspace, threads, nearest.SPAN * wide_room)
    keys_room = -(-k // KEYS) * KEYS
    keys = Scratch(workspace, threads, nearest.SPAN * keys_room, torch.int64)
    block = Scratch(workspace, threads, nearest.NUMBERS, torch.int32)
    across = clouds * -(-size // COLUMNS)
    tiles = workspace.empty(across, words, COLUMNS, dtype=torch.int32)
    squares = workspace.empty(across if exact else 0, COLUMNS, dtype=torch.int32)
    parameters, by_channel, factors = channel_factors(x, wide_room)
    arguments = (
        clouds, size, k, int(exact), x.codes.data_ptr(), *segment_arguments(x.layout), parameters,
        int(x.per == "row"), by_channel, words, width % 2 if exact else 0, tiles.data_ptr(),
        squares.data_ptr(), *wide.place, wide_room, *keys.place, keys_room, *block.place,
        graph.pointers.data_ptr(), graph.columns.data_ptr(),
    )  # fmt: skip
    held = (x, graph, wide, keys, block, tiles, squares, factors)
    workspace.launch(lambda: run_on(threads, nearest.nearest_rows, arguments, held))
    return graph


def edge_distances(
    graph: Csr, x: PackedTensor, finish: Finish, *, reduction: Reduction, workspace: Workspace
) -> Tensor | PackedTensor:
    """See `sgq.runtime.kernels.edge_distances`."""
    exact, width = exact_distances(x), x.layout.width
    target = target_of(graph.rows, 1, finish, workspace)
    threads = torch_threads(rows=graph.rows, edges=4 * graph.edges, numbers=2 * graph.edges * width)
    wide_room = whole_vectors(reach(x.layout))
    wide = Scratch(workspace, threads, 2 * wide_room)
    scratch = Scratch(workspace, threads, target.lanes)
    keep = np.zeros(wide_room, np.int16 if exact else np.int32)
    keep[:width] = -1
    scales = np.ones(wide_room, np.float32)
    parameters = x.parameters.data_ptr()
    if x.per == "channel":
        scales[:width] = x.parameters[:, 0].numpy()
        parameters = NEUTRAL.ctypes.data
    arguments = (
        threads, graph.rows, x.codes.data_ptr(), *segment_arguments(x.layout), graph.columns.data_ptr(),
        graph.pointers.data_ptr(), graph.step, int(exact), parameters, int(x.per == "row"),
        scales.ctypes.data, keep.ctypes.data, edge_lengths.REDUCTIONS[reduction], *wide.place, wide_room,
        *scratch.place, target.lanes, target.record,
    )  # fmt: skip
    held = (graph, x, target, wide, scratch, keep, scales)
    workspace.launch(lambda: run_on(threads, edge_lengths.reduce_lengths, arguments, held))
    return target.result


def assemble(blocks: Blocks, finish: Finish, *, workspace: Workspace) -> Tensor | PackedTensor:
    """See `sgq.runtime.kernels.assemble`."""
    rows, widths = blocks[0][0].count, [terms[0].width for terms in blocks]
    target = target_of(rows, sum(widths), finish, workspace)
    count = sum(map(len, blocks))
    records = np.zeros((count, assembling.FIELDS), np.int64)
    held: list[object] = [target, records]
    number, offset, room = 0, 0, target.lanes
    for terms, width in zip(blocks, widths, strict=True):
        for place, term in enumerate(terms):
            record = records[number]
            room = max(room, offset + _fill_term(record, term, held, workspace))
            record[assembling.OFFSET], record[assembling.WIDTH] = offset, width
            record[assembling.KEPT] = -1 if place else 0
            number += 1
        offset += width
    room = whole_vectors(room + VECTOR)
    threads = torch_threads(rows=rows, numbers=rows * (sum(widths) + 2 * count * max(widths)))
    scratch = Scratch(workspace, threads, 2 * room)
    arguments = (
        rows, records.ctypes.data, count, offset, target.lanes, *scratch.place, room, target.record,
    )  # fmt: skip
    workspace.launch(lambda: run_on(threads, assembling.assemble_rows, arguments, (held, scratch)))
    return target.result


def _fill_term(record: np.ndarray, term: Term, held: list[object], workspace: Workspace) -> int:
    """Write what unpacks the rows of a term to its record; return how far it reaches past its offset."""
    given = term.rows
    record.view(np.float32)[2 * assembling.FACTOR] = term.factor
    if isinstance(given, Tensor):
        dense = given if given.is_contiguous() else workspace.computed(given.contiguous)
        table = np.array([[term.count, FLOAT_BITS, 4 * term.width, 0, 0]], np.int64)
        record[assembling.CODES], record[assembling.SEGMENTS] = dense.data_ptr(), table.ctypes.data
        record[assembling.COUNT] = 1
        held += [dense, table]
        return term.width
    record[assembling.CODES] = given.codes.data_ptr()
    record[assembling.SEGMENTS], record[assembling.COUNT] = segment_arguments(given.layout)
    record[assembling.PARAMETERS], record[assembling.PER_ROW] = (
        given.parameters.data_ptr(),
        given.per == "row",
    )
    room = whole_vectors(reach(given.layout))
    held.append(given)
    if given.per == "channel":
        factors = np.zeros((2, room), np.float32)
        factors[:, : term.width] = given.parameters.numpy().T
        factors[0] *= np.float32(term.factor)
        record[assembling.BY_CHANNEL], record[assembling.ROOM] = factors.ctypes.data, room
        held.append(factors)
    return room
