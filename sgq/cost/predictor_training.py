"""Fits the learned predictor to measured architectures, and moves it to another device.

The loss is the mean absolute logarithm of what is predicted over what was measured. That is the percentage
error of HGNAS and GCoDE to first order; but of two equal factors, up and down, percentages count the one
below less, so that a noisy label draws predictions down. What is kept are the weights' moving averages at the
epoch that has the least percentage error on a part of the training set that validates.
"""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sgq.cost.architectures import MeasuredArchitecture
from sgq.cost.predictor import Batch, Predictor, PredictorShape
from sgq.cost.pricing import Pricer

AVERAGED = 1 / 8
"""The part of all steps that the weights' moving average goes over."""
PEAK_WEIGHT = 0.25
"""Of the error of the peak beside that of latency: the model of the peak is nearly right by itself."""


@dataclass(frozen=True)
class FitSettings:
    """How a predictor is trained: Adam with a cosine schedule, `validation` the share that validates."""

    epochs: int = 80
    lr: float = 1e-3
    batch: int = 64
    weight_decay: float = 1e-4
    validation: float = 0.15
    seed: int = 0


TRANSFER = FitSettings(epochs=20, lr=3e-4, batch=16)
"""How a predictor is moved to another device with 50 to 100 samples."""


@dataclass(frozen=True)
class Fitted:
    """A trained predictor, and the validation MAPE of the epoch that was kept (0 to 1), latency and peak."""

    predictor: Predictor
    validation_mape: tuple[float, float]
    epoch: int


def fit(
    architectures: Sequence[MeasuredArchitecture],
    pricer: Pricer,
    *,
    shape: PredictorShape | None = None,
    settings: FitSettings | None = None,
) -> Fitted:
    """Return a predictor trained on measured architectures; `pricer` has the device's look-up table."""
    settings = settings or FitSettings()
    torch.manual_seed(settings.seed)
    batch, targets = data_of(architectures, pricer)
    predictor = Predictor(shape)
    predictor.scale_to(batch)
    return _trained(predictor, batch, targets, settings)


def transfer(
    predictor: Predictor,
    architectures: Sequence[MeasuredArchitecture],
    pricer: Pricer,
    *,
    settings: FitSettings = TRANSFER,
) -> Fitted:
    """Return a predictor moved to another device; the first one is left as it was.

    `pricer` has that device's look-up table, `architectures` were measured there.
    """
    torch.manual_seed(settings.seed)
    batch, targets = data_of(architectures, pricer)
    return _trained(copy.deepcopy(predictor), batch, targets, settings)


def data_of(architectures: Sequence[MeasuredArchitecture], pricer: Pricer) -> tuple[Batch, Tensor]:
    """Return architectures as a predictor reads them, and what was measured: [architectures, 2]."""
    [workload] = {one.workload for one in architectures}
    batch = pricer.inputs([one.genotype for one in architectures], workload)
    return batch, torch.tensor([[one.latency_s, float(one.peak_bytes)] for one in architectures])


def _trained(predictor: Predictor, batch: Batch, targets: Tensor, settings: FitSettings) -> Fitted:
    order = list(range(len(batch)))
    random.Random(settings.seed).shuffle(order)
    held_out = max(1, round(settings.validation * len(order)))
    validating, training = torch.tensor(order[:held_out]), torch.tensor(order[held_out:])
    optimiser = torch.optim.AdamW(predictor.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.epochs)
    steps = settings.epochs * math.ceil(len(training) / settings.batch)
    stays = 1.0 - 1.0 / max(1.0, AVERAGED * steps)
    averaged = AveragedModel(predictor, multi_avg_fn=get_ema_multi_avg_fn(stays))
    average = cast(Predictor, averaged.module)
    checked, wanted = batch.part(validating), targets[validating]
    best = Fitted(copy.deepcopy(predictor), _validated(predictor, checked, wanted), 0)
    for epoch in range(1, settings.epochs + 1):
        predictor.train()
        for chosen in training[torch.randperm(len(training))].split(settings.batch):
            optimiser.zero_grad()
            loss_of(predictor(batch.part(chosen)), targets[chosen]).backward()
            torch.nn.utils.clip_grad_norm_(predictor.parameters(), 1.0)
            optimiser.step()
            averaged.update_parameters(predictor)
        schedule.step()
        found = _validated(average, checked, wanted)
        if sum(found) < sum(best.validation_mape):
            best = Fitted(copy.deepcopy(average), found, epoch)
    return replace(best, predictor=best.predictor.eval())


def loss_of(predicted: Tensor, wanted: Tensor) -> Tensor:
    """Return the mean absolute log-ratio of latency, and a part of that of the peak."""
    errors = (predicted / wanted).log().abs().mean(0)
    return errors[0] + PEAK_WEIGHT * errors[1]


@torch.no_grad()
def _validated(predictor: Predictor, batch: Batch, wanted: Tensor) -> tuple[float, float]:
    errors = (predictor.eval()(batch) / wanted - 1.0).abs().mean(0)
    return float(errors[0]), float(errors[1])
