"""Results cut into pieces that one launch each makes: consecutive rows of one width."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from quantizers.spec import FLOAT_BITS
from sgq.runtime.finish import Finish
from sgq.runtime.kernels.cuda.finishing import ACTIVATIONS, MODES, RANGES
from sgq.runtime.packed import BYTE_BITS, VECTOR, Layout, PackedTensor, Segment
from sgq.runtime.quantization import Quantization

TILE_CHANNELS = 512
"""Channels that a tile spans where it need not hold a whole row."""


@dataclass(frozen=True)
class Piece:
    """Rows `start` … `end` − 1 of a result: how tiles split them, and what `finish_tile` takes."""

    start: int
    end: int
    bits: int
    planes: int
    stride: int
    whole_rows: bool
    arguments: dict[str, Any]

    def lanes(self, *, channels: int = TILE_CHANNELS, least: int = 1, whole: bool = False) -> int:
        """Return the lanes of a tile, a power of two; `whole` asks for all of a row."""
        all_lanes = power_of_two(max(self.stride, least))
        if whole or self.whole_rows:
            return all_lanes
        return min(all_lanes, max(channels // self.planes, least))

    def blocks(self, lanes: int) -> int:
        """Return how many tiles of so many lanes span a row."""
        return max(1, -(-self.stride // lanes))

    def within(self, start: int, end: int) -> Piece | None:
        """Return the part of it in some rows, or None."""
        start, end = max(start, self.start), min(end, self.end)
        return replace(self, start=start, end=end) if start < end else None


def pieces_of(
    rows: int, width: int, finish: Finish, device: torch.device, *, source: Segment | None = None
) -> tuple[Tensor | PackedTensor, list[Piece]]:
    """Return room for a result [rows, width], and its pieces, without empty ones.

    Results in fp32 take the tiles of `source`, where there is one, so that its bytes are unpacked in place.
    """
    shared = {
        "multiply": finish.multiply, "add": finish.add, "slope": finish.slope, "width": width,
        "ACTIVATION": ACTIVATIONS[finish.activation],
    }  # fmt: skip
    planes, stride = _float_tile(width, source)
    quantization = finish.quantization
    if quantization is None:
        out = torch.empty(rows, width, device=device)
        arguments = shared | _float_arguments(out, 0, width)
        whole = Piece(0, rows, FLOAT_BITS, planes, stride, False, arguments)
        return out, [whole] if rows else []
    layout = quantization.layout(finish.rows or (rows,), width // finish.heads, heads=finish.heads)
    codes = torch.empty(layout.nbytes, dtype=torch.uint8, device=device)
    stored = quantization.stored_parameters(layout)
    result = PackedTensor(
        codes, torch.empty(rows, 2, device=device) if stored is None else stored, quantization.per, layout
    )
    pieces = []
    for segment, numbers in zip(layout.segments, quantization.range_table.tolist(), strict=True):
        end = segment.first_row + segment.rows
        mine = codes[segment.first_byte : segment.first_byte + segment.rows * segment.row_bytes]
        by_row = stored is None
        if segment.bits == FLOAT_BITS:
            arguments = _float_arguments(mine.view(torch.float32), segment.first_row, segment.row_bytes // 4)
            tile = planes, stride
        else:
            arguments = _packed_arguments(mine, segment)
            tile = BYTE_BITS // segment.bits, segment.row_bytes
        if numbers[2]:
            # Rows of 32 bits are not rounded; their parameters leave them as they are.
            if by_row:
                result.parameters[segment.first_row : end] = result.parameters.new_tensor([1.0, 0.0])
            by_row = False
        else:
            arguments |= _rule_arguments(quantization, numbers, result.parameters)
        if segment.rows:
            pieces.append(Piece(segment.first_row, end, segment.bits, *tile, by_row, shared | arguments))
    return result, pieces


def _float_tile(width: int, source: Segment | None) -> tuple[int, int]:
    """Return planes and stride of tiles of fp32 results."""
    if source is None or source.bits == FLOAT_BITS:
        return 1, -(-width // VECTOR) * VECTOR
    return BYTE_BITS // source.bits, source.row_bytes


def _float_arguments(out: Tensor, first_row: int, row_lanes: int) -> dict[str, Any]:
    return {
        "out": out, "first_row": first_row, "out_stride": row_lanes, "out_width": row_lanes,
        "row_parameters": None, "out_parameters": None, "scale": 1.0, "zero": 0.0, "least": 0.0,
        "levels": 0.0, "divisor": 1.0, "offset": 0.0, "MODE": 0, "BITS": FLOAT_BITS, "RANGE": 0,
    }  # fmt: skip


def _packed_arguments(out: Tensor, segment: Segment) -> dict[str, Any]:
    return _float_arguments(out, segment.first_row, segment.row_bytes) | {"BITS": segment.bits}


def _rule_arguments(
    quantization: Quantization, numbers: list[float], row_parameters: Tensor
) -> dict[str, Any]:
    """Return what rounding takes, of a row of the rule's table of ranges."""
    least, levels, _, symmetric, signed, scale, zero = numbers
    offset = 0.5 if symmetric and signed and levels == 1.0 else 0.0
    kind = "asymmetric"
    if symmetric:
        kind = "symmetric" if signed else "symmetric_unsigned"
    return {
        "row_parameters": row_parameters if quantization.per == "row" else None,
        "out_parameters": quantization.parameters if quantization.per == "channel" else None,
        "scale": scale, "zero": zero, "least": least, "levels": levels, "offset": offset,
        "divisor": least + levels - offset if symmetric else levels,
        "MODE": MODES[quantization.per], "RANGE": RANGES[kind],
    }  # fmt: skip


def power_of_two(number: int) -> int:
    """Return the least power of two that is no less."""
    return 1 << max(number - 1, 0).bit_length()


@lru_cache(maxsize=256)
def segment_table(layout: Layout, device: torch.device) -> Tensor:
    """Return [segments, 5] int64 on a device: rows, bits, bytes a row, first row, first byte."""
    fields = [(s.rows, s.bits, s.row_bytes, s.first_row, s.first_byte) for s in layout.segments]
    return torch.tensor(fields, dtype=torch.int64, device=device).view(-1, 5)


def source_arguments(packed: PackedTensor) -> dict[str, Any]:
    """Return what `values_of` takes of a packed tensor, but for its rows."""
    kinds = {segment.bits == FLOAT_BITS for segment in packed.layout.segments}
    return {
        "codes": packed.codes,
        "floats": packed.codes.view(torch.float32) if True in kinds else None,
        "table": segment_table(packed.layout, packed.codes.device),
        "parameters": packed.parameters,
        "SEGMENTS": len(packed.layout.segments),
        "HELD": 3 if len(kinds) == 2 else 2 if True in kinds else 1,
        "PER": MODES[packed.per],
    }


def overlaps(layout: Layout, pieces: list[Piece]) -> Iterator[tuple[int, Segment, Piece]]:
    """Yield the parts of pieces that read rows of one segment, with the segment and its number."""
    for number, segment in enumerate(layout.segments):
        for piece in pieces:
            part = piece.within(segment.first_row, segment.first_row + segment.rows)
            if part is not None:
                yield number, segment, part
