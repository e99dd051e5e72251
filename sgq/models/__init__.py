"""The zoo: graph neural networks by name, with the sizes and the training of the papers."""

from __future__ import annotations

from sgq.models.options import ModelOptions
from sgq.models.training import GENERAL_TRAINING, GRAPH_TRAINING, TrainingDefaults, training_defaults
from sgq.models.zoo import build, default_options, model_names, resolve_model

__all__ = [
    "GENERAL_TRAINING",
    "GRAPH_TRAINING",
    "ModelOptions",
    "TrainingDefaults",
    "build",
    "default_options",
    "model_names",
    "resolve_model",
    "training_defaults",
]
