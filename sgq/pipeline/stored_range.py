"""A quantizer whose ranges are given and stay: that of a parameter that was loaded as codes.

Reading the range off a parameter again (granularity `node`, a search for the best clipping) would find a
slightly other one in values that are already rounded.
"""

from __future__ import annotations

from torch import Tensor

from quantizers import AffineParameters, Quantizer
from quantizers.affine import code_bounds, working_dtype
from quantizers.spec import QuantizerSpec


class StoredRange(Quantizer):
    """One width; buffers `scale` and `zero_point` are in a shape that broadcasts to the tensor."""

    scale: Tensor
    zero_point: Tensor

    def __init__(self, spec: QuantizerSpec, scale: Tensor, zero_point: Tensor) -> None:
        super().__init__(spec)
        self.register_buffer("scale", scale)
        self.register_buffer("zero_point", zero_point)
        self.has_range = True
        self.freeze()

    def observe(self, x: Tensor, bucket: Tensor | None = None) -> None:
        """Keep the range as it is."""

    def parameters_of(self, x: Tensor, bucket: Tensor | None = None) -> AffineParameters:
        """Return the stored parameters."""
        spec, dtype = self.spec, working_dtype(x)
        least, greatest = code_bounds(spec.widths[0], symmetric=spec.symmetric, signed=spec.signed)
        return AffineParameters(self.scale.to(dtype), self.zero_point.to(dtype), least, greatest)
