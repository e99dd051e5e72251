"""Distillation: the float model's class probabilities as a second target while finetuning."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from sgq.graph.inputs import call
from sgq.pipeline.evaluation import evaluating
from sgq.pipeline.tasks import Task


class Teacher:
    """A float model that labels every row of a batch softly; once only where all batches are one graph.

    `task` must hold the float features.
    """

    def __init__(self, model: nn.Module, task: Task) -> None:
        self.model = model
        self.fixed = self._probabilities(task.sample()) if task.static_features is not None else None

    def divergence(self, logits: Tensor, batch: Any) -> Tensor:
        """Return KL(teacher ‖ model), averaged over rows."""
        target = self.fixed if self.fixed is not None else self._probabilities(batch)
        return F.kl_div(F.log_softmax(logits, dim=-1), target, reduction="batchmean")

    def _probabilities(self, batch: Any) -> Tensor:
        with evaluating(self.model):
            return F.softmax(call(self.model, batch), dim=-1)
