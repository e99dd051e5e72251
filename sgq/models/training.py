"""How each zoo model is trained, from the papers' public scripts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class TrainingDefaults:
    """Adam's settings and the number of epochs.

    `weight_decay` acts on all parameters, or with `decayed` on those of the named modules alone.
    """

    lr: float
    weight_decay: float
    epochs: int
    decayed: tuple[str, ...] | None = None

    def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Return optimizer groups of the model's trainable parameters, decayed ones and others."""
        decayed: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                (decayed if self._decays(name) else others).append(parameter)
        groups = ((decayed, self.weight_decay), (others, 0.0))
        return [
            {"params": parameters, "weight_decay": decay, "lr": self.lr}
            for parameters, decay in groups
            if parameters
        ]

    def _decays(self, name: str) -> bool:
        return self.decayed is None or any(name.startswith(f"{module}.") for module in self.decayed)


GENERAL_TRAINING = TrainingDefaults(lr=0.01, weight_decay=5e-4, epochs=200)
"""For models that are not of the zoo."""
GRAPH_TRAINING = TrainingDefaults(lr=0.005, weight_decay=2e-4, epochs=100)
"""For graph classification, whatever the model."""

_DEFAULTS: Mapping[str, TrainingDefaults] = {
    "gcn": TrainingDefaults(lr=0.01, weight_decay=5e-4, epochs=200, decayed=("convs.0",)),
    "gat": TrainingDefaults(lr=0.005, weight_decay=5e-4, epochs=300),
    "gat-256": TrainingDefaults(lr=0.005, weight_decay=5e-4, epochs=200),
    "gatv2": TrainingDefaults(lr=0.005, weight_decay=5e-4, epochs=300),
    "agnn": TrainingDefaults(lr=0.005, weight_decay=5e-4, epochs=400),
}


def training_defaults(name: str) -> TrainingDefaults:
    """Return how the zoo model called `name` is trained on nodes; GENERAL_TRAINING for any other name."""
    return _DEFAULTS.get(name.lower(), GENERAL_TRAINING)
