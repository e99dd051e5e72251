"""Numbers at addresses: kernels take addresses alone, since arrays cost a dozen arguments each and a count of
references wherever a row's function takes one.
"""

from __future__ import annotations

from typing import Any

from numba.core import types
from numba.extending import intrinsic

from sgq.runtime.kernels.cpu import vectors as v


def _loader(element: Any, kind: Any) -> Any:
    """Return the intrinsic that loads one number at an index from an address."""

    @intrinsic
    def load(typing: Any, address: Any, at: Any) -> Any:
        def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
            value = b.load(b.gep(v.at_address(b, arguments[0], element), [arguments[1]]))
            return b.sext(value, v.I64) if element == v.I32 else value

        return kind(types.int64, types.int64), generate

    return load


def _storer(element: Any, kind: Any) -> Any:
    """Return the intrinsic that stores one number at an index from an address."""

    @intrinsic
    def store(typing: Any, address: Any, at: Any, value: Any) -> Any:
        def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
            value = arguments[2] if element in (v.F32, v.I64) else b.trunc(arguments[2], element)
            b.store(value, b.gep(v.at_address(b, arguments[0], element), [arguments[1]]))
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, kind), generate

    return store


load_long, load_int, load_number = (
    _loader(element, kind)
    for element, kind in ((v.I64, types.int64), (v.I32, types.int64), (v.F32, types.float32))
)
store_long, store_int, store_number, store_byte = (
    _storer(element, kind)
    for element, kind in (
        (v.I64, types.int64),
        (v.I32, types.int64),
        (v.F32, types.float32),
        (v.I8, types.int64),
    )
)
