"""Fake quantization in which every row has its own scale, read off the row whenever it is quantized."""

from __future__ import annotations

import torch
from torch import Tensor

from quantizers.affine import AffineParameters, affine_parameters, widened
from quantizers.base import Quantizer
from quantizers.clipping import best_range
from quantizers.errors import QuantizerError
from quantizers.groups import by_row, stored_rows
from quantizers.spec import FLOAT_BITS, QuantizerSpec

ROW_CANDIDATES = 16


class RowFakeQuantize(Quantizer):
    """Granularity `node`: the range of each row is its own minimum and maximum, or its best clipping.

    Nothing is observed or stored, so it works in every phase; in OBSERVE it lets its input through.
    Widths are one for all rows or one a bucket. Observer `mse` tries 16 shrink factors a row, and uses the
    closed form for one-bit symmetric codes.
    """

    has_range = True
    bits: Tensor

    def __init__(self, spec: QuantizerSpec, *, channel_shape: tuple[int, ...] | None = None) -> None:
        if spec.granularity != "node":
            raise QuantizerError(f'expected granularity "node" (got "{spec.granularity}")')
        if spec.observer.kind not in ("minmax", "mse"):
            raise QuantizerError(
                'granularity "node" reads ranges off the rows: expected observer "minmax" or "mse" '
                f'(got "{spec.observer.kind}")'
            )
        super().__init__(spec, channel_shape=channel_shape)
        self.register_buffer("bits", torch.tensor(spec.widths), persistent=False)

    def observe(self, x: Tensor, bucket: Tensor | None = None) -> None:
        """Keep nothing: rows bring their own ranges."""

    @torch.no_grad()
    def parameters_of(self, x: Tensor, bucket: Tensor | None = None) -> AffineParameters:
        """Return the parameters of each row (or stored value) of x, from the row itself."""
        spec = self.spec
        rows = by_row(widened(x.detach()))
        bits: Tensor | int = spec.widths[0]
        if spec.bucketed:
            bits = self.bits.index_select(0, self.bucket_ids(x, bucket))
        if spec.observer.kind == "mse":
            lower, upper = best_range(rows, spec, bits=bits, candidates=ROW_CANDIDATES)
        else:
            lower, upper = rows.range()
        found = affine_parameters(lower, upper, bits=bits, symmetric=spec.symmetric, signed=spec.signed)
        index = stored_rows(x) if x.layout is torch.sparse_csr else None

        def laid_out(numbers: Tensor) -> Tensor:
            if index is not None:
                return numbers.index_select(0, index)
            return numbers.view((-1,) + (1,) * (x.dim() - 1))

        least, greatest = found.quant_min, found.quant_max
        float_rows = found.float_rows if FLOAT_BITS in spec.widths else None
        return AffineParameters(
            laid_out(found.scale),
            laid_out(found.zero_point),
            laid_out(least) if isinstance(least, Tensor) else least,
            laid_out(greatest) if isinstance(greatest, Tensor) else greatest,
            None if float_rows is None else laid_out(float_rows),
        )
