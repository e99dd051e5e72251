"""Fake quantization with one scale a tensor or a channel, and what it shares with buckets."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from quantizers.affine import AffineParameters, affine_parameters, code_bounds, widened, working_dtype
from quantizers.base import Quantizer
from quantizers.errors import QuantizerError
from quantizers.groups import GroupedValues, as_one_group, by_channel, check_channels
from quantizers.observers import create_observer
from quantizers.spec import QuantizerSpec


class ObservedQuantizer(Quantizer):
    """Base of quantizers whose ranges come from an observer.

    Buffers: `scale` and `zero_point`, of the shape of the granularity (0 before anything was observed),
    and the observer's own.
    """

    scale: Tensor
    zero_point: Tensor
    bits: Tensor

    def __init__(
        self, spec: QuantizerSpec, *, channel_shape: tuple[int, ...] | None, shape: tuple[int, ...]
    ) -> None:
        super().__init__(spec, channel_shape=channel_shape)
        self.register_buffer("scale", torch.zeros(shape))
        self.register_buffer("zero_point", torch.zeros(shape))
        self.register_buffer("bits", torch.tensor(spec.widths), persistent=False)
        self.observer = create_observer(spec, groups=math.prod(shape))
        if spec.observer.kind == "fixed" and not spec.is_float:
            self._follow_observer()

    @torch.no_grad()
    def observe(self, x: Tensor, bucket: Tensor | None = None) -> None:
        """Take a batch into the ranges and recompute `scale` and `zero_point`; an empty one is skipped."""
        if x.numel() == 0:
            return
        self.observer.observe(self.group(widened(x), bucket))
        self._follow_observer()

    def group(self, x: Tensor, bucket: Tensor | None) -> GroupedValues:
        """Return the values by the groups that share a scale."""
        raise NotImplementedError

    def _follow_observer(self) -> None:
        lower, upper = self.observer.ranges()
        parameters = affine_parameters(
            lower,
            upper,
            bits=self.bits if self.spec.bucketed else self.spec.widths[0],
            symmetric=self.spec.symmetric,
            signed=self.spec.signed,
        )
        self.scale.copy_(parameters.scale.view(self.scale.shape))
        self.zero_point.copy_(parameters.zero_point.view(self.zero_point.shape))
        self.has_range = True


class FakeQuantize(ObservedQuantizer):
    """Granularity `tensor` (scale of shape ()) and `channel` (scale of shape `channel_shape`).

    `channel_shape` has 1 for the dimensions that a channel runs over: (out, 1) for a weight [out, in],
    (1, features) for a node tensor [nodes, features].
    """

    def __init__(self, spec: QuantizerSpec, *, channel_shape: tuple[int, ...] | None = None) -> None:
        if spec.granularity not in ("tensor", "channel"):
            raise QuantizerError(f'expected granularity "tensor" or "channel" (got "{spec.granularity}")')
        if spec.granularity == "channel" and channel_shape is None:
            raise QuantizerError('granularity "channel" needs a channel_shape (got None)')
        shape = channel_shape if spec.granularity == "channel" and channel_shape is not None else ()
        super().__init__(spec, channel_shape=channel_shape, shape=shape)

    def group(self, x: Tensor, bucket: Tensor | None) -> GroupedValues:
        """Return the values as one group, or by channel."""
        if self.spec.granularity == "channel" and self.channel_shape is not None:
            return by_channel(x, self.channel_shape)
        return as_one_group(x)

    def parameters_of(self, x: Tensor, bucket: Tensor | None = None) -> AffineParameters:
        """Return the parameters that x is quantized with, broadcastable to x (or its stored values)."""
        dtype = working_dtype(x)
        scale, zero_point = self.scale.to(dtype), self.zero_point.to(dtype)
        if self.spec.granularity == "channel" and self.channel_shape is not None:
            check_channels(x, self.channel_shape)
            if x.layout is torch.sparse_csr:
                columns = x.col_indices()
                scale = scale.view(-1).index_select(0, columns)
                zero_point = zero_point.view(-1).index_select(0, columns)
        least, greatest = code_bounds(
            self.spec.widths[0], symmetric=self.spec.symmetric, signed=self.spec.signed
        )
        return AffineParameters(scale, zero_point, least, greatest)
