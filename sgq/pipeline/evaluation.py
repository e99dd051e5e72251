"""How accurate a model is: share of rows whose largest logit is the label's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from sgq.errors import DataError, ModelError
from sgq.pipeline.tasks import Split, as_task


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put the model in eval mode without gradients, and every module of it back afterwards."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(modes[model])
        for module, mode in modes.items():
            module.training = mode


def accuracy(model: nn.Module, data: Any, split: Split) -> float:
    """Return the accuracy, 0 to 1, on a split of a task, or of any data that `sgq.as_task` takes.

    Raises DataError when nothing is in the split, and ModelError when the outputs are not finite.
    """
    task = as_task(data)
    with evaluating(model):
        logits, labels = task.predictions(model, split)
    if labels.numel() == 0:
        raise DataError(f"expected labels in the {split} split of the data (got an empty split)")
    if not bool(torch.isfinite(logits).all()):
        raise ModelError(f"{type(model).__name__} gives outputs that are not finite on the {split} split")
    return float((logits.argmax(dim=-1) == labels).double().mean())
