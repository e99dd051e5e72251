"""What b bits do to a tensor: affine quantization, range observers, packing, and a registry.

Pure torch; knows nothing of graphs, recipes or files. Names are imported when they are first used: a recipe
is checked without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quantizers.affine import (
        AffineParameters,
        affine_parameters,
        code_bounds,
        dequantize,
        fake_quantize,
        quantize,
    )
    from quantizers.affine_quantizer import create_affine
    from quantizers.base import Phase, Quantizer
    from quantizers.bucketed_fake_quantize import BucketedFakeQuantize
    from quantizers.errors import QuantizerError, SgqError, nearest_name
    from quantizers.observed_fake_quantize import FakeQuantize
    from quantizers.observers import RangeObserver, create_observer
    from quantizers.packing import pack, packed_nbytes, stored_bits, unpack
    from quantizers.registry import create, names, register
    from quantizers.row_fake_quantize import RowFakeQuantize
    from quantizers.spec import (
        FLOAT_BITS,
        MAX_BITS,
        Granularity,
        ObserverKind,
        ObserverSpec,
        QuantizerSpec,
        check_bits,
    )

DISTRIBUTION = "sgq"
"""The distribution that this package ships in; another project of the index has a package of this name."""

_HOMES = {
    "AffineParameters": "quantizers.affine",
    "BucketedFakeQuantize": "quantizers.bucketed_fake_quantize",
    "FLOAT_BITS": "quantizers.spec",
    "FakeQuantize": "quantizers.observed_fake_quantize",
    "Granularity": "quantizers.spec",
    "MAX_BITS": "quantizers.spec",
    "ObserverKind": "quantizers.spec",
    "ObserverSpec": "quantizers.spec",
    "Phase": "quantizers.base",
    "Quantizer": "quantizers.base",
    "QuantizerError": "quantizers.errors",
    "QuantizerSpec": "quantizers.spec",
    "RangeObserver": "quantizers.observers",
    "RowFakeQuantize": "quantizers.row_fake_quantize",
    "SgqError": "quantizers.errors",
    "affine_parameters": "quantizers.affine",
    "check_bits": "quantizers.spec",
    "code_bounds": "quantizers.affine",
    "create": "quantizers.registry",
    "create_affine": "quantizers.affine_quantizer",
    "create_observer": "quantizers.observers",
    "dequantize": "quantizers.affine",
    "fake_quantize": "quantizers.affine",
    "names": "quantizers.registry",
    "nearest_name": "quantizers.errors",
    "pack": "quantizers.packing",
    "packed_nbytes": "quantizers.packing",
    "quantize": "quantizers.affine",
    "register": "quantizers.registry",
    "stored_bits": "quantizers.packing",
    "unpack": "quantizers.packing",
}

__all__ = [
    "DISTRIBUTION",
    "FLOAT_BITS",
    "MAX_BITS",
    "AffineParameters",
    "BucketedFakeQuantize",
    "FakeQuantize",
    "Granularity",
    "ObserverKind",
    "ObserverSpec",
    "Phase",
    "Quantizer",
    "QuantizerError",
    "QuantizerSpec",
    "RangeObserver",
    "RowFakeQuantize",
    "SgqError",
    "affine_parameters",
    "check_bits",
    "code_bounds",
    "create",
    "create_affine",
    "create_observer",
    "dequantize",
    "fake_quantize",
    "names",
    "nearest_name",
    "pack",
    "packed_nbytes",
    "quantize",
    "register",
    "stored_bits",
    "unpack",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'quantizers' has no attribute {name!r}")
    found = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
