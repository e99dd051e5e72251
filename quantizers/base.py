"""The contract of a quantizer: its phases, what it checks, and how it treats sparse matrices."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from quantizers.affine import AffineParameters, fake_quantize
from quantizers.errors import QuantizerError
from quantizers.spec import QuantizerSpec


class Phase(enum.Enum):
    """What a quantizer does when it is called.

    OBSERVE follows the data and lets it through unchanged, TRACK quantizes and follows the data while
    training, FROZEN only quantizes.
    """

    OBSERVE = "observe"
    TRACK = "track"
    FROZEN = "frozen"


class Quantizer(torch.nn.Module):
    """Base of all quantizers: called with a tensor, returns it quantized.

    Subclasses give `parameters_of` and `observe`, and set `has_range` once they can quantize. A `scale`
    buffer in a loaded state dict sets it too. `phase` is a plain attribute.
    """

    has_range: bool = False

    def __init__(self, spec: QuantizerSpec, *, channel_shape: tuple[int, ...] | None = None) -> None:
        super().__init__()
        self.spec = spec
        self.channel_shape = channel_shape
        self.phase = Phase.OBSERVE

    def forward(self, x: Tensor, bucket: Tensor | None = None) -> Tensor:
        """Return x, quantized unless the phase is OBSERVE.

        `x` is dense or a sparse CSR matrix, of which only the stored values are quantized; 32 bits return
        x itself. `bucket` [rows] holds bucket ids where widths go by bucket. Raises QuantizerError where
        bucket ids are missing or do not fit, and where no range was ever observed or loaded.
        """
        if self.spec.is_float:
            return x
        self._check(x, bucket)
        if self.phase is Phase.OBSERVE:
            self.observe(x.detach(), bucket)
            return x
        if self.phase is Phase.TRACK and self.training:
            self.observe(x.detach(), bucket)
        if not self.has_range:
            raise QuantizerError(
                f"{self!r} has no range: expected a calibration run or a state dict before phase "
                f"{self.phase.name} (got neither)"
            )
        parameters = self.parameters_of(x, bucket)
        if x.layout is torch.sparse_csr:
            values = fake_quantize(x.values(), parameters)
            return torch.sparse_csr_tensor(
                x.crow_indices(), x.col_indices(), values, size=x.shape, check_invariants=False
            )
        return fake_quantize(x, parameters)

    def observe(self, x: Tensor, bucket: Tensor | None = None) -> None:
        """Take a batch into the range."""
        raise NotImplementedError

    def parameters_of(self, x: Tensor, bucket: Tensor | None = None) -> AffineParameters:
        """Return the parameters that x is quantized with, broadcastable to x (or its stored values)."""
        raise NotImplementedError

    def freeze(self) -> None:
        """Keep the range as it is from now on."""
        self.phase = Phase.FROZEN

    def bucket_ids(self, x: Tensor, bucket: Tensor | None) -> Tensor:
        """Return the bucket ids of x's rows, [rows] int64; raise QuantizerError where they do not fit."""
        rows = x.size(0) if x.dim() else 1
        if bucket is None:
            raise QuantizerError(f"expected the bucket ids of {rows} rows (got 0: no bucket was passed)")
        if bucket.numel() != rows:
            raise QuantizerError(f"expected the bucket ids of {rows} rows (got {bucket.numel()})")
        return bucket.reshape(-1).long()

    def _check(self, x: Tensor, bucket: Tensor | None) -> None:
        if not x.is_floating_point():
            raise QuantizerError(f"expected a floating-point tensor (got {x.dtype})")
        if x.layout not in (torch.strided, torch.sparse_csr):
            raise QuantizerError(f"expected a dense tensor or a sparse CSR matrix (got layout {x.layout})")
        if (
            x.layout is torch.sparse_csr
            and self.spec.symmetric
            and self.spec.signed
            and 1 in self.spec.widths
        ):
            raise QuantizerError(
                "expected 2 or more bits, or asymmetric or unsigned codes, for a sparse matrix: one-bit "
                "symmetric codes have no 0 (got 1 bit symmetric)"
            )

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        scale = state_dict.get(prefix + "scale")
        if scale is not None:
            self.has_range = bool((scale != 0).any())

    def __repr__(self) -> str:
        """Return one line: `FakeQuantize(4 channel symmetric, mse)`."""
        return f"{type(self).__name__}({self.spec}, {self.spec.observer.kind})"
