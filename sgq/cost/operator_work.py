"""What one operator of torch does on a CPU: floating point operations, bytes moved, and its kernel's scratch.

Operations of matrix products are those of torch's own counter (`torch.utils.flop_counter`); of all else, one
an element of the largest tensor. Scratch is what a kernel allocates beside its results, found by measuring
each operator alone (torch 2.13) and held to what whole models take by tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry

COPIES = frozenset(
    {
        "index_select",
        "index",
        "gather",
        "cat",
        "clone",
        "copy_",
        "zeros",
        "new_zeros",
        "ones",
        "full",
        "fill_",
    }
)
"""Operators that move numbers and compute none."""
LONG_BYTES = 8
GATHERS = frozenset({"index_select", "index", "gather"})
"""Operators that read as many rows as they write."""


def is_sparse(tensor: Tensor) -> bool:
    """Whether a tensor is a sparse matrix."""
    return tensor.layout != torch.strided


def storages_of(tensor: Tensor) -> Iterator[Any]:
    """Yield the storages of a tensor, those of a sparse matrix's parts."""
    if tensor.layout == torch.sparse_csr:
        parts: tuple[Tensor, ...] = (tensor.crow_indices(), tensor.col_indices(), tensor.values())
    elif tensor.layout == torch.sparse_csc:
        parts = (tensor.ccol_indices(), tensor.row_indices(), tensor.values())
    elif tensor.layout == torch.sparse_coo:
        parts = (tensor._indices(), tensor._values())
    else:
        parts = (tensor,)
    for part in parts:
        yield part.untyped_storage()


def flops(func: Any, args: Sequence[Any], operands: Sequence[Tensor], results: Sequence[Tensor]) -> int:
    """Return the floating point operations of an operator, a multiply-add counting as two."""
    matrix = next((one for one in operands if is_sparse(one)), None)
    if matrix is not None:
        return 2 * int(matrix._nnz()) * int(results[0].size(-1)) if results else 0
    counter = flop_registry.get(func._overloadpacket)
    if counter is not None:
        return int(counter(*args, out_val=results[0]))
    if _name(func) in COPIES:
        return 0
    return max((one.numel() for one in (*operands, *results) if one.is_floating_point()), default=0)


def bytes_moved(func: Any, operands: Sequence[Tensor], results: Sequence[Tensor]) -> int:
    """Return the bytes that an operator reads and writes, each once; gathered rows once a row written."""
    written = sum(map(_bytes, results))
    if _name(func) in GATHERS:
        return 2 * written + sum(_bytes(one) for one in operands[1:])
    return written + sum(map(_bytes, operands))


def scratch_bytes(
    func: Any, args: Sequence[Any], operands: Sequence[Tensor], results: Sequence[Tensor]
) -> int:
    """Return the bytes that an operator's kernel on a CPU allocates, and frees again, beside its results."""
    rule = SCRATCH.get(_name(func))
    return 0 if rule is None or not results else rule(args, operands, results)


def _of_product(args: Sequence[Any], operands: Sequence[Tensor], results: Sequence[Tensor]) -> int:
    """MKL wants 32-bit indices, and a dense matrix that lies in rows, as its result then does."""
    matrix = next((one for one in operands if one.layout == torch.sparse_csr), None)
    if matrix is None:
        return 0
    rows, columns = matrix.crow_indices(), matrix.col_indices()
    narrowed = 4 * (rows.numel() + columns.numel()) if columns.dtype == torch.int64 else 0
    dense = operands[-1]
    return narrowed + (0 if dense.is_contiguous() else _bytes(dense) + _bytes(results[0]))


def _of_index_select(args: Sequence[Any], operands: Sequence[Tensor], results: Sequence[Tensor]) -> int:
    index = operands[-1]
    return 0 if index.is_contiguous() else index.numel() * index.element_size()


def _of_index(args: Sequence[Any], operands: Sequence[Tensor], results: Sequence[Tensor]) -> int:
    """A mask becomes the numbers of its elements first, int64."""
    masks = [(at, one) for at, one in enumerate(args[1]) if one is not None and one.dtype == torch.bool]
    return sum(LONG_BYTES * mask.dim() * int(results[0].size(at)) for at, mask in masks)


def _of_batch_norm(args: Sequence[Any], operands: Sequence[Tensor], results: Sequence[Tensor]) -> int:
    """A factor and a summand a channel."""
    return 2 * args[0].size(1) * int(args[0].element_size())


def _of_sort(args: Sequence[Any], operands: Sequence[Tensor], results: Sequence[Tensor]) -> int:
    return _bytes(results[0])


def _of_repeat(args: Sequence[Any], operands: Sequence[Tensor], results: Sequence[Tensor]) -> int:
    """The running total of the repeats."""
    return LONG_BYTES * operands[0].numel()


def _of_isinf(args: Sequence[Any], operands: Sequence[Tensor], results: Sequence[Tensor]) -> int:
    """Absolute values."""
    return operands[0].numel() * operands[0].element_size()


SCRATCH: dict[str, Callable[[Sequence[Any], Sequence[Tensor], Sequence[Tensor]], int]] = {
    "mm": _of_product,
    "addmm": _of_product,
    "_sparse_addmm": _of_product,
    "index_select": _of_index_select,
    "index": _of_index,
    "native_batch_norm": _of_batch_norm,
    "sort": _of_sort,
    "repeat_interleave": _of_repeat,
    "isinf": _of_isinf,
}
"""Operators whose kernels allocate more than a few bytes beside their results."""


def _bytes(tensor: Tensor) -> int:
    """Return the bytes of a tensor's numbers: of an expanded one those that are there."""
    if is_sparse(tensor):
        return sum(int(part.nbytes()) for part in storages_of(tensor))
    return min(tensor.numel() * tensor.element_size(), int(tensor.untyped_storage().nbytes()))


def _name(func: Any) -> str:
    return str(func._schema.name).removeprefix("aten::")
