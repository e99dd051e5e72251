"""Fake quantization with one width and one scale a degree bucket, in one vectorised operation."""

from __future__ import annotations

import torch
from torch import Tensor

from quantizers.affine import AffineParameters, code_bounds, working_dtype
from quantizers.errors import QuantizerError
from quantizers.groups import GroupedValues, by_bucket, stored_rows
from quantizers.observed_fake_quantize import ObservedQuantizer
from quantizers.spec import FLOAT_BITS, QuantizerSpec


class BucketedFakeQuantize(ObservedQuantizer):
    """Granularity `bucket`: width, scale and zero point of each row are gathered by its bucket id.

    Bucket ids are passed with every call (uint8 or any integer, [rows], below the number of widths).
    Buffers `scale` and `zero_point` are [buckets]. A bucket that never had a row takes the widest range
    of the others.
    """

    quant_min: Tensor
    quant_max: Tensor
    float_buckets: Tensor

    def __init__(self, spec: QuantizerSpec, *, channel_shape: tuple[int, ...] | None = None) -> None:
        if spec.granularity != "bucket":
            raise QuantizerError(f'expected granularity "bucket" (got "{spec.granularity}")')
        super().__init__(spec, channel_shape=channel_shape, shape=(len(spec.widths),))
        bounds = [code_bounds(width, symmetric=spec.symmetric, signed=spec.signed) for width in spec.widths]
        self.register_buffer("quant_min", torch.tensor([least for least, _ in bounds]), persistent=False)
        self.register_buffer("quant_max", torch.tensor([most for _, most in bounds]), persistent=False)
        kept = torch.tensor([width == FLOAT_BITS for width in spec.widths])
        self.register_buffer("float_buckets", kept, persistent=False)

    def group(self, x: Tensor, bucket: Tensor | None) -> GroupedValues:
        """Return the values by bucket."""
        return by_bucket(x, self.bucket_ids(x, bucket), len(self.spec.widths))

    def parameters_of(self, x: Tensor, bucket: Tensor | None = None) -> AffineParameters:
        """Return the parameters of each row (or stored value) of x, from its bucket."""
        dtype = working_dtype(x)
        ids = self.bucket_ids(x, bucket)
        if x.layout is torch.sparse_csr:
            ids = ids.index_select(0, stored_rows(x))
            shape: tuple[int, ...] = (-1,)
        else:
            shape = (-1,) + (1,) * (x.dim() - 1)

        def gathered(numbers: Tensor) -> Tensor:
            return numbers.to(dtype).index_select(0, ids).view(shape)

        float_rows = None
        if FLOAT_BITS in self.spec.widths:
            float_rows = self.float_buckets.index_select(0, ids).view(shape)
        return AffineParameters(
            gathered(self.scale),
            gathered(self.zero_point),
            gathered(self.quant_min),
            gathered(self.quant_max),
            float_rows,
        )
