"""The operators that a call on torch would run, and the memory that it would hold, without computing it.

What a graph network computes depends on the graph's structure, never on its features: how many edges are
left without self-loops, which rows are gathered. So integers, and numbers that come of them alone, are
computed as ever, which is cheap, while everything that comes of weights or node features has shapes only
(torch's fake tensors). Storages are followed from the operator that makes them until Python lets go of them,
as it does in the call itself.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
    UnsupportedFakeTensorException,
    UnsupportedOperatorException,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from sgq.cost.operator_work import bytes_moved, flops, is_sparse, scratch_bytes, storages_of
from sgq.cost.roofline import Demand
from sgq.errors import ModelError

SPARSE_PRODUCTS = ("aten::mm", "aten::addmm", "aten::_sparse_addmm", "aten::_sparse_mm_reduce_impl")
"""Products of a sparse CSR matrix with dense rows; the matrix is what stands before them."""
DENSE_FORMS = ("aten::_to_dense", "aten::to_dense")
TAKES_MASKS = ("aten::index", "aten::index_put", "aten::index_put_")
ASKS_FOR_NUMBERS = (DataDependentOutputException, DynamicOutputShapeException)
HAS_NO_SHAPES = (UnsupportedOperatorException, UnsupportedFakeTensorException, NotImplementedError)
NO_FAKE = "no fake impl"
"""What torch says of a custom operator without a rule for shapes."""


@dataclass(frozen=True)
class Operator:
    """One operator: what it makes, does and moves.

    `made_bytes` are those of new storages, `scratch_bytes` what its kernel holds beside them while it runs,
    `alive_bytes` all that the call holds when it is done, without what was there before.
    """

    name: str
    shape: tuple[int, ...]
    flops: int
    bytes_moved: int
    made_bytes: int
    scratch_bytes: int
    alive_bytes: int


@dataclass(frozen=True)
class OperatorTrace:
    """The operators of a call in order; views, which neither compute nor move anything, are left out.

    `resident_bytes` are those of storages that were there before and that an operator reads, and of those
    that were named as kept.
    """

    operators: tuple[Operator, ...]
    resident_bytes: int

    @property
    def on_top_bytes(self) -> int:
        """The most that the call holds at once on top of what was there before."""
        return max((one.alive_bytes + one.scratch_bytes for one in self.operators), default=0)

    @property
    def peak_bytes(self) -> int:
        """Bytes at the worst moment."""
        return self.resident_bytes + self.on_top_bytes

    @property
    def demands(self) -> tuple[Demand, ...]:
        """What the operators ask of a device, in order."""
        return tuple(Demand("float", one.flops, one.bytes_moved) for one in self.operators)


def trace_operators(
    call: Callable[[], object], *, unknown: Iterable[Tensor], kept: Iterable[Tensor] = ()
) -> OperatorTrace:
    """Return the operators that a call would run, in inference, and what it would hold.

    `unknown` are the tensors whose numbers nothing but shapes may depend on: weights, buffers and node
    features. `kept` are resident even if no operator reads them. Raise ModelError, naming the operator, where
    shapes depend on unknown numbers, or where an operator has no rule for shapes.
    """
    walk = _Walk(unknown, kept)
    with torch.no_grad(), walk:
        result = call()
    del result
    return OperatorTrace(tuple(walk.operators), sum(part.nbytes() for part in walk.resident.values()))


class _Walk(TorchDispatchMode):
    """Stands between the call and torch: lets through what is known, and follows storages."""

    def __init__(self, unknown: Iterable[Tensor], kept: Iterable[Tensor]) -> None:
        super().__init__()
        self.operators: list[Operator] = []
        self.resident: dict[int, Any] = {}
        self.unknown: set[int] = set()
        self.fakes = FakeTensorMode(allow_fallback_kernels=False)
        self.alive_bytes = 0
        # Storages by address, held weakly: an address is free again when its storage is.
        self.followed: dict[int, Any] = {}
        for tensor in kept:
            self._were_there(tensor)
        self.given = list(unknown)
        for tensor in self.given:
            if not is_sparse(tensor):
                self.unknown |= {part._cdata for part in storages_of(tensor)}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        operands = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        for tensor in operands:
            self._were_there(tensor)
        sparse = any(is_sparse(tensor) for tensor in operands)
        if sparse and func._schema.name in DENSE_FORMS:
            result = self._made(operands[0].shape, operands[0].dtype)
        elif not any(self._is_unknown(tensor) for tensor in operands):
            result = func(*args, **kwargs)
        elif sparse:
            result = self._product(func, operands)
        else:
            result = self._shapes(func, args, kwargs)
            self._spread(func, args, kwargs)
        self._note(func, args, operands, result)
        return result

    def _is_unknown(self, tensor: Tensor) -> bool:
        if isinstance(tensor, FakeTensor):
            return True
        return not is_sparse(tensor) and tensor.untyped_storage()._cdata in self.unknown

    def _shapes(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Return what an operator would make, by its rule for shapes."""
        if "sparse" in func._schema.name:
            raise ModelError(
                f"{func} makes a sparse matrix of numbers that come of node features or weights, which has "
                "no rule for shapes: walk the model on edge_index, or measure it (sgq.runtime.measuring)"
            )
        if func._schema.name in TAKES_MASKS:
            args = (args[0], list(self._without_masks(args[1])), *args[2:])
        try:
            args, kwargs = tree_map(self._fake, (args, kwargs))
            with self.fakes:
                result = func(*args, **kwargs)
        except ASKS_FOR_NUMBERS as error:
            raise ModelError(
                f"{func} asks for numbers that come of node features or weights, and shapes depend on them: "
                "such a model cannot be priced without running it: measure it (sgq.runtime.measuring)"
            ) from error
        except HAS_NO_SHAPES as error:
            raise _without_rule(func) from error
        except RuntimeError as error:
            if NO_FAKE in str(error):
                raise _without_rule(func) from error
            raise
        return result

    def _without_masks(self, indices: Sequence[Tensor | None]) -> Iterator[Tensor | None]:
        """Yield indices with the places that known masks choose in place of them: their number is a shape."""
        for one in indices:
            if one is not None and one.dtype == torch.bool and not self._is_unknown(one):
                yield from one.nonzero().unbind(1)
            else:
                yield one

    def _fake(self, leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or isinstance(leaf, FakeTensor):
            return leaf
        base = leaf._base
        if base is not None and is_sparse(base):
            # Torch cannot take over that the values of a sparse matrix are a part of it.
            with self.fakes:
                fake = torch.empty_strided(leaf.size(), leaf.stride(), dtype=leaf.dtype)
        else:
            fake = self.fakes.from_tensor(leaf)
        # It stands for a storage that is counted already.
        self._follow(fake.untyped_storage(), counted=0)
        return fake

    def _product(self, func: Any, operands: Sequence[Tensor]) -> Any:
        """Return what a product of a sparse matrix with dense rows makes; torch has no rule for its shape."""
        matrix, *others = [one for one in operands if is_sparse(one)]
        dense = [one for one in operands if not is_sparse(one)]
        if func._schema.name not in SPARSE_PRODUCTS or others or matrix.layout != torch.sparse_csr:
            raise _without_rule(func)
        made = self._made((matrix.size(0), dense[-1].size(-1)), dense[-1].dtype)
        return made if len(func._schema.returns) == 1 else (made, torch.empty(0, dtype=torch.int64))

    def _made(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        with self.fakes:
            return torch.empty(tuple(shape), dtype=dtype)

    def _spread(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Forget the numbers of what an operator has written unknown ones to."""
        for at, argument in enumerate(func._schema.arguments):
            given = args[at] if at < len(args) else kwargs.get(argument.name)
            if argument.is_write and isinstance(given, Tensor) and not isinstance(given, FakeTensor):
                self.unknown.add(given.untyped_storage()._cdata)

    def _note(self, func: Any, args: Sequence[Any], operands: Sequence[Tensor], result: Any) -> None:
        results = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        made = 0
        for tensor in results:
            for part in storages_of(tensor):
                if part._cdata not in self.followed and part._cdata not in self.resident:
                    self._follow(part, counted=part.nbytes())
                    made += part.nbytes()
        if not made and not func._schema.is_mutable:
            return
        self.operators.append(
            Operator(
                name=func._schema.name.replace("::", "."),
                shape=tuple(results[0].shape) if results else (),
                flops=flops(func, args, operands, results),
                bytes_moved=bytes_moved(func, operands, results),
                made_bytes=made,
                scratch_bytes=scratch_bytes(func, args, operands, results),
                alive_bytes=self.alive_bytes,
            )
        )

    def _were_there(self, tensor: Tensor) -> None:
        for part in storages_of(tensor):
            if part._cdata not in self.followed:
                self.resident[part._cdata] = part

    def _follow(self, storage: Any, *, counted: int) -> None:
        key = storage._cdata
        if key in self.followed:
            return
        self.alive_bytes += counted

        def freed(_: Any) -> None:
            self.alive_bytes -= counted
            del self.followed[key]
            self.unknown.discard(key)

        self.followed[key] = weakref.ref(storage, freed)


def _without_rule(func: Any) -> ModelError:
    return ModelError(
        f"{func} has no rule for the shapes that it makes: such a model cannot be priced without running it; "
        "give the operator one (torch.library.register_fake), or measure the model (sgq.runtime.measuring)"
    )
