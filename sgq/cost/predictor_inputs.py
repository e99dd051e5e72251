"""What a predictor is given: graphs of architectures, with a device's look-up table and the modelled peak."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sgq.cost.architecture_graph import graph_of
from sgq.cost.footprint import value_bytes
from sgq.cost.predictor import Batch, batch_of
from sgq.models.genotype import Genotype

if TYPE_CHECKING:
    from sgq.cost.pricing import Price


def batch_of_prices(genotypes: Sequence[Genotype], prices: Sequence[Price]) -> Batch:
    """Return architectures as a predictor reads them; prices are those of a look-up table."""
    graphs, seconds, peaks = [], [], []
    for genotype, price in zip(genotypes, prices, strict=True):
        calls = price.calls
        assert calls is not None
        integer = calls.runtime == "integer"
        taken = [part.seconds for part in price.parts]
        made = [value_bytes(calls.values[call.writes], integer=integer) for call in calls.calls]
        graphs.append(graph_of(genotype, calls, taken, made))
        seconds.append(sum(taken))
        peaks.append(float(price.peak_bytes))
    return batch_of(graphs, seconds, peaks)
