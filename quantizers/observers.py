"""Range observers: they watch batches of grouped values and keep a range for each group."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from quantizers.clipping import best_range
from quantizers.groups import GroupedValues
from quantizers.spec import ObserverSpec, QuantizerSpec

PERCENTILE_SAMPLE = 2**16
MSE_SAMPLE = 2**15
MSE_CANDIDATES = 40
ROUNDING = 1e-6
"""Keeps (1 - 0.9) * 20 = 1.9999999999999996 from skipping one value instead of two."""


class RangeObserver(torch.nn.Module):
    """Base of all observers: a lower and an upper end for each group, both with 0 between them.

    Buffers: `lower`, `upper` [groups] (0 until seen) and `seen` [groups]. The first batch in which a
    group has values initialises it; a batch without values of a group leaves it as it is.
    """

    lower: Tensor
    upper: Tensor
    seen: Tensor

    def __init__(self, spec: ObserverSpec, groups: int) -> None:
        super().__init__()
        self.spec = spec
        self.register_buffer("lower", torch.zeros(groups))
        self.register_buffer("upper", torch.zeros(groups))
        self.register_buffer("seen", torch.zeros(groups, dtype=torch.bool))

    @torch.no_grad()
    def observe(self, data: GroupedValues) -> None:
        """Take a batch into the ranges."""
        lower, upper = self.measure(data)
        present = data.present()
        for kept, new in ((self.lower, lower.to(self.lower.dtype)), (self.upper, upper.to(self.upper.dtype))):
            merged = torch.where(self.seen, self.merge(kept, new), new)
            kept.copy_(merged if present is None else torch.where(present, merged, kept))
        if present is None:
            self.seen.fill_(True)
        else:
            self.seen.logical_or_(present)

    def measure(self, data: GroupedValues) -> tuple[Tensor, Tensor]:
        """Return the range of one batch alone, [groups] each."""
        return data.range()

    def merge(self, kept: Tensor, new: Tensor) -> Tensor:
        """Return one end of the ranges after a further batch: an exponential average."""
        return torch.lerp(kept, new, self.spec.momentum)

    def ranges(self) -> tuple[Tensor, Tensor]:
        """Return the ranges, [groups] each; groups never seen borrow the widest of the others."""
        lower = torch.where(self.seen, self.lower, self.lower.amin())
        return lower, torch.where(self.seen, self.upper, self.upper.amax())


class MinMaxObserver(RangeObserver):
    """The widest range seen in any batch."""

    def merge(self, kept: Tensor, new: Tensor) -> Tensor:
        """Return the end that is farther from 0; both ends have one sign."""
        return torch.where(new.abs() > kept.abs(), new, kept)


class MovingAverageObserver(RangeObserver):
    """The exponential average of the batches' minima and maxima."""


class PercentileObserver(RangeObserver):
    """The quantiles 1 - q and q of a batch, averaged exponentially over batches.

    Quantiles are order statistics (the outer of two neighbours, nothing interpolated) of at most
    2^16 values a batch. The zeros that a sparse matrix does not store count.
    """

    def measure(self, data: GroupedValues) -> tuple[Tensor, Tensor]:
        """Return the two quantiles of each group, [groups] each."""
        sample = data.sample(PERCENTILE_SAMPLE)
        if sample.values.numel() == 0:
            return data.range()
        if sample.ids is None:
            size = sample.values.size(1)
            skipped = int((1.0 - self.spec.q) * (size - 1) + ROUNDING)
            lower = sample.values.kthvalue(skipped + 1, dim=1).values
            upper = sample.values.kthvalue(size - skipped, dim=1).values
            return lower.clamp(max=0.0), upper.clamp(min=0.0)
        return self._ragged(sample, data)

    def _ragged(self, sample: GroupedValues, data: GroupedValues) -> tuple[Tensor, Tensor]:
        ids = cast(Tensor, sample.ids).repeat_interleave(sample.values.size(1))
        values, order = sample.values.reshape(-1).sort()
        values = values[ids[order].argsort(stable=True)]
        stored = sample.value_counts()
        totals = stored if sample.totals is None else torch.maximum(sample.totals, stored)
        skipped = ((totals - 1).clamp(min=0).double() * (1.0 - self.spec.q) + ROUNDING).long()
        end = stored.cumsum(0)
        last = values.numel() - 1
        least = values[(end - stored + skipped).clamp(0, last)].clamp(max=0.0)
        greatest = values[(end - 1 - skipped).clamp(0, last)].clamp(min=0.0)
        # Beyond the stored values come only zeros that are not stored.
        inside = skipped < stored
        least, greatest = torch.where(inside, least, 0.0), torch.where(inside, greatest, 0.0)
        if sample is data:
            return least, greatest
        widest_lower, widest_upper = data.range()
        missed = stored == 0
        return torch.where(missed, widest_lower, least), torch.where(missed, widest_upper, greatest)


class MseObserver(RangeObserver):
    """The clipping of a batch's range with the least squared error, averaged exponentially over batches.

    40 shrink factors are tried on at most 2^15 values a batch; one-bit symmetric codes use their
    closed form.
    """

    bits: Tensor

    def __init__(self, spec: QuantizerSpec, groups: int) -> None:
        super().__init__(spec.observer, groups)
        self.quantizer_spec = spec
        widths = torch.tensor(spec.widths).expand(groups).clone()
        self.register_buffer("bits", widths, persistent=False)

    def measure(self, data: GroupedValues) -> tuple[Tensor, Tensor]:
        """Return the best clipping of each group, [groups] each."""
        return best_range(
            data, self.quantizer_spec, bits=self.bits, candidates=MSE_CANDIDATES, sample=MSE_SAMPLE
        )


class FixedObserver(RangeObserver):
    """The range that the spec gives, whatever the data; `seen` from the start."""

    def __init__(self, spec: ObserverSpec, groups: int) -> None:
        super().__init__(spec, groups)
        self.lower.fill_(cast(float, spec.lower))
        self.upper.fill_(cast(float, spec.upper))
        self.seen.fill_(True)

    def observe(self, data: GroupedValues) -> None:
        """Leave the range as it is."""


def create_observer(spec: QuantizerSpec, *, groups: int) -> RangeObserver:
    """Return the observer that a quantizer's spec asks for, over so many groups."""
    match spec.observer.kind:
        case "minmax":
            return MinMaxObserver(spec.observer, groups)
        case "moving_average":
            return MovingAverageObserver(spec.observer, groups)
        case "percentile":
            return PercentileObserver(spec.observer, groups)
        case "mse":
            return MseObserver(spec, groups)
        case "fixed":
            return FixedObserver(spec.observer, groups)
