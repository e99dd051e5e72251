"""The quantizer `affine`: the class for each granularity."""

from __future__ import annotations

from quantizers.base import Quantizer
from quantizers.bucketed_fake_quantize import BucketedFakeQuantize
from quantizers.observed_fake_quantize import FakeQuantize
from quantizers.row_fake_quantize import RowFakeQuantize
from quantizers.spec import QuantizerSpec


def create_affine(spec: QuantizerSpec, *, channel_shape: tuple[int, ...] | None = None) -> Quantizer:
    """Return the affine quantizer of a spec's granularity."""
    match spec.granularity:
        case "node":
            return RowFakeQuantize(spec, channel_shape=channel_shape)
        case "bucket":
            return BucketedFakeQuantize(spec, channel_shape=channel_shape)
        case _:
            return FakeQuantize(spec, channel_shape=channel_shape)
