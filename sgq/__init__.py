"""sgq makes a trained graph neural network small and fast: apply a YAML recipe to it.

    applied = sgq.apply(model, "sgquant/gat-lwq-cwq-taq", data)
    sgq.save("gat.safetensors", applied.model, applied.plan)  # codes packed at their bits
    model = sgq.load("gat.safetensors")  # the same outputs; sgq.load(path, model) for a model of your own

Names are imported when they are first used, so that `import sgq` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import quantizers

if TYPE_CHECKING:
    from sgq.cost.memory import memory_of
    from sgq.data import load as load_data
    from sgq.graph.buckets import DegreeBuckets
    from sgq.models import build as build_model
    from sgq.pipeline.applying import Applied, apply, finetune, plan
    from sgq.pipeline.checkpoint import load, save
    from sgq.pipeline.evaluation import accuracy
    from sgq.pipeline.tasks import as_task
    from sgq.pipeline.wrapping import calibrate, wrap
    from sgq.recipe import load_recipe
    from sgq.recipe.plan import Plan
    from sgq.runtime.lowering.program import lower

__version__ = "0.1.0"

_HOMES = {
    "Applied": "sgq.pipeline.applying",
    "DegreeBuckets": "sgq.graph.buckets",
    "Plan": "sgq.recipe.plan",
    "accuracy": "sgq.pipeline.evaluation",
    "apply": "sgq.pipeline.applying",
    "as_task": "sgq.pipeline.tasks",
    "build_model": ("sgq.models", "build"),
    "calibrate": "sgq.pipeline.wrapping",
    "finetune": "sgq.pipeline.applying",
    "load": "sgq.pipeline.checkpoint",
    "load_data": ("sgq.data", "load"),
    "load_recipe": "sgq.recipe",
    "lower": "sgq.runtime.lowering.program",
    "memory_of": "sgq.cost.memory",
    "plan": "sgq.pipeline.applying",
    "save": "sgq.pipeline.checkpoint",
    "wrap": "sgq.pipeline.wrapping",
}

_ROOMS = ("bits",)
"""Packages that are used by their own name: `sgq.bits.search`."""

__all__ = [
    "Applied",
    "DegreeBuckets",
    "Plan",
    "accuracy",
    "apply",
    "as_task",
    "build_model",
    "calibrate",
    "finetune",
    "load",
    "load_data",
    "load_recipe",
    "lower",
    "memory_of",
    "plan",
    "save",
    "wrap",
]


def _check_quantizers() -> None:
    """Fail clearly when another project's package `quantizers` shadows ours."""
    if getattr(quantizers, "DISTRIBUTION", None) != "sgq":
        raise ImportError(
            f"sgq needs its own package `quantizers`, but another one is found first: {quantizers.__file__}. "
            "Uninstall the other distribution, or install sgq into an environment without it"
        )


_check_quantizers()


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"sgq.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'sgq' has no attribute {name!r}")
    home = _HOMES[name]
    module, attribute = home if isinstance(home, tuple) else (home, name)
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_ROOMS})
