"""The smallest exact form of a matrix of codes, of which many may be zero: input features in a file.

A code is a whole number of at least 0, and 0 stands for the value 0 (the caller takes the zero point off).
Five forms are weighed against each other and the smallest is written:

- "dense": all codes, packed;
- "sparse": the codes that are not 0, packed, with the column of each;
- "pattern": the columns alone, where all codes of a width that are not 0 are one level;
- "sparse delta" and "pattern delta": the same with columns as gaps, in variable-length bytes.

Sparse forms hold how many codes each row has, in as few bytes as the fullest row takes; pointers are their
running sum. Rows may differ in width: the codes of one width are packed together, narrow widths first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from quantizers import pack, packed_nbytes, unpack
from sgq.errors import CheckpointError
from sgq.runtime.variable_length import from_variable_length, to_variable_length, variable_length_bytes

Form = Literal["dense", "sparse", "sparse delta", "pattern", "pattern delta"]
FORMS: tuple[Form, ...] = get_args(Form)

CODES, COLUMNS, ROW_COUNTS = "codes", "columns", "row_counts"
"""The names of an encoding's tensors."""

_CHUNK = 2**20


@dataclass(frozen=True)
class SparseRows:
    """The codes that are not 0, row by row with columns ascending.

    `counts` [rows], `columns` and `codes` [stored], all int64; `width` is the number of columns.
    """

    width: int
    counts: Tensor
    columns: Tensor
    codes: Tensor

    @property
    def rows(self) -> Tensor:
        """The row of each stored code, [stored]."""
        return _rows(self.counts)

    @property
    def pointers(self) -> Tensor:
        """Where each row starts, [rows + 1]."""
        return _pointers(self.counts)

    def to_dense(self) -> Tensor:
        """Return all codes, [rows, width] int64."""
        dense = torch.zeros(self.counts.numel(), self.width, dtype=torch.int64)
        dense[self.rows, self.columns] = self.codes
        return dense


@dataclass(frozen=True)
class EncodedCodes:
    """Codes in their smallest form: `tensors` by name, and what is needed to read them.

    `levels` is the one code of each width, narrow widths first, for the patterns.
    """

    form: Form
    shape: tuple[int, int]
    levels: tuple[int, ...]
    tensors: Mapping[str, Tensor]

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for tensor in self.tensors.values())


def encode(codes: Tensor | SparseRows, widths: Tensor | int, *, sparse: bool = True) -> EncodedCodes:
    """Return codes [rows, columns] (integers from 0 to 2^width - 1) in their smallest form.

    `widths` is the width of all rows, or one a row. `sparse` False allows the dense form only: where no
    code stands for 0.
    """
    rows = codes.counts.numel() if isinstance(codes, SparseRows) else codes.size(0)
    shape = (rows, codes.width if isinstance(codes, SparseRows) else codes.size(1))
    by_row = _widths_by_row(widths, rows)
    distinct = _distinct(by_row)
    stored_count = codes.columns.numel() if isinstance(codes, SparseRows) else int(codes.count_nonzero())
    # A byte a row and a byte a stored code is the least that any sparse form takes.
    if not sparse or rows + stored_count >= _dense_bytes(shape, by_row, distinct):
        return _dense(codes, shape, by_row, distinct)
    stored = codes if isinstance(codes, SparseRows) else stored_rows(codes)
    levels = _levels(stored, by_row, distinct)
    sizes = _sizes(stored, by_row, distinct, one_level=levels is not None)
    form = min(sizes, key=sizes.__getitem__)
    if form == "dense":
        return _dense(codes, shape, by_row, distinct)
    tensors = {ROW_COUNTS: stored.counts.to(_unsigned(_greatest(stored.counts)))}
    if form.startswith("sparse"):
        of_code = by_row[stored.rows]
        tensors[CODES] = torch.cat([_packed(stored.codes[of_code == width], width) for width in distinct])
    if form.endswith("delta"):
        tensors[COLUMNS] = to_variable_length(_gaps(stored))
    else:
        tensors[COLUMNS] = stored.columns.to(_column_dtype(shape[1]))
    return EncodedCodes(form, shape, (levels or ()) if form.startswith("pattern") else (), tensors)


def decode(encoded: EncodedCodes, widths: Tensor | int) -> SparseRows:
    """Return the codes that are not 0, whichever form holds them.

    Raises CheckpointError for parts that do not fit together.
    """
    return stored_rows(decode_dense(encoded, widths)) if encoded.form == "dense" else _sparse(encoded, widths)


def decode_dense(encoded: EncodedCodes, widths: Tensor | int) -> Tensor:
    """Return all codes, [rows, columns] int64; raise CheckpointError for parts that do not fit together."""
    if encoded.form != "dense":
        return _sparse(encoded, widths).to_dense()
    rows, columns = encoded.shape
    by_row = _widths_by_row(widths, rows)
    totals = {width: int((by_row == width).sum()) * columns for width in _distinct(by_row)}
    unpacked = _unpacked(encoded.tensors[CODES], totals)
    dense = torch.empty(rows, columns, dtype=torch.int64)
    for width, codes in unpacked.items():
        dense[by_row == width] = codes.view(-1, columns)
    return dense


def check_dense(encoded: EncodedCodes, widths: Tensor | int) -> None:
    """Raise CheckpointError for dense codes of another size than rows of such widths take; read no code."""
    if encoded.form != "dense":
        return
    rows, columns = encoded.shape
    if isinstance(widths, int):
        counts = {widths: rows}
    else:
        counts = {int(width): int((widths == width).sum()) for width in widths.unique()}
    size = sum(packed_nbytes(count * columns, width) for width, count in counts.items())
    found = encoded.tensors[CODES].numel()
    if found != size:
        raise CheckpointError(f'"{CODES}": expected {size} bytes (got {found})')


def stored_rows(codes: Tensor) -> SparseRows:
    """Return the codes of a matrix [rows, columns] that are not 0."""
    row, column = codes.nonzero(as_tuple=True)
    counts = torch.bincount(row, minlength=codes.size(0))
    return SparseRows(codes.size(1), counts, column, codes[row, column].long())


def _sparse(encoded: EncodedCodes, widths: Tensor | int) -> SparseRows:
    rows, columns = encoded.shape
    by_row = _widths_by_row(widths, rows)
    distinct = _distinct(by_row)
    counts = encoded.tensors[ROW_COUNTS].long()
    if counts.numel() != rows:
        raise CheckpointError(f'"{ROW_COUNTS}": expected {rows} rows (got {counts.numel()})')
    delta = encoded.form.endswith("delta")
    written = encoded.tensors[COLUMNS]
    index = from_variable_length(written, owner=COLUMNS) if delta else written.long()
    stored = index.numel()
    if int(counts.sum()) != stored:
        raise CheckpointError(f'"{COLUMNS}": expected {int(counts.sum())} columns (got {stored})')
    index = _from_gaps(index, counts) if delta else index
    if stored and not 0 <= int(index.min()) <= int(index.max()) < columns:
        raise CheckpointError(
            f'"{COLUMNS}": expected columns from 0 to {columns - 1} (got {int(index.max())})'
        )
    of_code = by_row[_rows(counts)]
    codes = torch.zeros(stored, dtype=torch.int64)
    if encoded.form.startswith("pattern"):
        if len(encoded.levels) != len(distinct):
            raise CheckpointError(f"expected {len(distinct)} levels (got {len(encoded.levels)})")
        for width, level in zip(distinct, encoded.levels, strict=True):
            codes[of_code == width] = level
    else:
        totals = {width: int((of_code == width).sum()) for width in distinct}
        for width, of_width in _unpacked(encoded.tensors[CODES], totals).items():
            codes[of_code == width] = of_width
    return SparseRows(columns, counts, index, codes)


def _dense(
    codes: Tensor | SparseRows, shape: tuple[int, int], by_row: Tensor, distinct: list[int]
) -> EncodedCodes:
    matrix = codes.to_dense() if isinstance(codes, SparseRows) else codes
    parts = [_packed(matrix if len(distinct) == 1 else matrix[by_row == width], width) for width in distinct]
    return EncodedCodes("dense", shape, (), {CODES: torch.cat([torch.empty(0, dtype=torch.uint8), *parts])})


def _dense_bytes(shape: tuple[int, int], by_row: Tensor, distinct: list[int]) -> int:
    return sum(packed_nbytes(int((by_row == width).sum()) * shape[1], width) for width in distinct)


def _rows(counts: Tensor) -> Tensor:
    return torch.repeat_interleave(counts)


def _pointers(counts: Tensor) -> Tensor:
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


def _widths_by_row(widths: Tensor | int, rows: int) -> Tensor:
    return torch.full((rows,), widths) if isinstance(widths, int) else widths.long()


def _distinct(by_row: Tensor) -> list[int]:
    return [int(width) for width in by_row.unique()]


def _levels(stored: SparseRows, by_row: Tensor, distinct: list[int]) -> tuple[int, ...] | None:
    """Return the one code of each width (0 where it has none), or None where a width has two."""
    of_code = by_row[stored.rows]
    levels = []
    for width in distinct:
        codes = stored.codes[of_code == width]
        least, greatest = (int(end) for end in torch.aminmax(codes)) if codes.numel() else (0, 0)
        if least != greatest:
            return None
        levels.append(least)
    return tuple(levels)


def _sizes(stored: SparseRows, by_row: Tensor, distinct: list[int], *, one_level: bool) -> dict[Form, int]:
    """Return the bytes of every form that can be had, the plainer of two first."""
    of_code = by_row[stored.rows]
    dense = _dense_bytes((stored.counts.numel(), stored.width), by_row, distinct)
    codes = sum(packed_nbytes(int((of_code == width).sum()), width) for width in distinct)
    counts = stored.counts.numel() * _unsigned(_greatest(stored.counts)).itemsize
    plain = counts + stored.columns.numel() * _column_dtype(stored.width).itemsize
    delta = counts + variable_length_bytes(_gaps(stored))
    sizes: dict[Form, int] = {"dense": dense, "sparse": plain + codes, "sparse delta": delta + codes}
    return sizes | ({"pattern": plain, "pattern delta": delta} if one_level else {})


def _greatest(counts: Tensor) -> int:
    return int(counts.max()) if counts.numel() else 0


def _unsigned(greatest: int) -> torch.dtype:
    return next(
        dtype for dtype in (torch.uint8, torch.uint16, torch.uint32) if greatest <= torch.iinfo(dtype).max
    )


def _column_dtype(width: int) -> torch.dtype:
    return torch.uint16 if width <= 2**16 else torch.uint32


def _packed(codes: Tensor, width: int) -> Tensor:
    """Pack in chunks of whole bytes: `pack` widens codes to 8 bytes each."""
    flat = codes.reshape(-1)
    parts = [pack(part, width) for part in flat.split(_CHUNK)] if flat.numel() else []
    return torch.cat([torch.empty(0, dtype=torch.uint8), *parts])


def _unpacked(packed: Tensor, totals: Mapping[int, int]) -> dict[int, Tensor]:
    """Return the codes of each width, int64; `totals` counts them."""
    sizes = [packed_nbytes(count, width) for width, count in totals.items()]
    if packed.numel() != sum(sizes):
        raise CheckpointError(f'"{CODES}": expected {sum(sizes)} bytes (got {packed.numel()})')
    parts = packed.split(sizes)
    return {
        width: unpack(part, width, count).long()
        for part, (width, count) in zip(parts, totals.items(), strict=True)
    }


def _gaps(stored: SparseRows) -> Tensor:
    """Return how many columns lie between each code and the one before it in its row."""
    before = torch.roll(stored.columns, 1)
    first = stored.pointers[:-1][stored.counts > 0]
    before[first] = -1
    return stored.columns - before - 1


def _from_gaps(gaps: Tensor, counts: Tensor) -> Tensor:
    reached = (gaps + 1).cumsum(0)
    before = torch.cat([reached.new_zeros(1), reached])[_pointers(counts)[:-1]]
    return reached - before[_rows(counts)] - 1
