"""What a model costs on given data, to the operator: prices of models outside of the design space.

A float model is walked as torch would run it, a quantized one as `sgq.lower` runs it; neither computes
features. Peak memory is that of the values that are alive, latency a roofline an operator.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sgq.cost.demand_pricing import price_of_demands
from sgq.cost.pricing import Price
from sgq.cost.profile import DeviceProfile
from sgq.cost.profile_file import load_profile
from sgq.cost.traced_operators import OperatorTrace, trace_operators
from sgq.cost.traced_program import ProgramTrace, trace_program
from sgq.errors import ModelError, SgqError, UsageError
from sgq.graph.inputs import arguments_of
from sgq.graph.wrap import quantizers_of
from sgq.runtime.baselines import MODEL_INPUTS
from sgq.runtime.lowering.model import LoweredModel
from sgq.runtime.lowering.program import lower
from sgq.runtime.measuring import tensors_in

TORCH, KERNELS = "roofline by operator of torch", "roofline by integer kernel"


def price_of_model(model: nn.Module, data: Any, target: str | Path | DeviceProfile) -> Price:
    """Return what one call of a model on data costs on a device: a profile, its path, or a data sheet's name.

    `model` is a float model, priced as torch runs it, or a calibrated quantized one (`Applied.model`, what
    `sgq.load` gives), priced as `sgq.lower` runs it; `data` a graph or batch of graphs as it is called with.
    `packed_bytes` are those that stay in memory: weights, buffers, features and edges as they lie there.
    Nothing is computed but what depends on the graph's structure alone. Raise ModelError where the model
    cannot be walked, with the operator at fault, and ProfileError where the device's rates are not known.

        price = sgq.cost.price_of_model(applied.model, data, "raspberry-pi-4b")
    """
    profile = target if isinstance(target, DeviceProfile) else load_profile(target)
    trace = trace_of_model(model, data)
    by = KERNELS if isinstance(trace, ProgramTrace) else TORCH
    return price_of_demands(
        trace.demands, profile, peak_bytes=trace.peak_bytes, packed_bytes=trace.resident_bytes, by=by
    )


def trace_of_model(model: nn.Module, data: Any) -> OperatorTrace | ProgramTrace:
    """Return the operators of a float model, or the steps of a quantized one, with the memory that they take.

    A model that keeps something of its first call (a cached normalisation) is traced as it stands: call it
    once before. See `price_of_model` for the arguments and errors.
    """
    if isinstance(model, LoweredModel):
        raise UsageError(
            "expected a float or a quantized model (got a lowered one): give the model that it was lowered "
            "from, or call sgq.cost.traced_program.trace_program(lowered)"
        )
    _check_device(model, data)
    try:
        return trace_program(lower(model, data)) if quantizers_of(model) else _trace_float(model, data)
    except SgqError:
        raise
    except Exception as error:  # a user's model may raise anything
        raise ModelError(
            f"{type(model).__name__} cannot be walked on this data: {type(error).__name__}: {error}"
        ) from error


def _trace_float(model: nn.Module, data: Any) -> OperatorTrace:
    own = copy.deepcopy(model).eval()
    args, keywords = arguments_of(own, data)
    kept = [*own.parameters(), *own.buffers()]
    unknown = [*kept, *_features((args, list(keywords.values())), data)]
    return trace_operators(lambda: own(*args, **keywords), unknown=unknown, kept=kept)


def _check_device(model: nn.Module, data: Any) -> None:
    """Raise ModelError for what is not on the CPU, whose kernels are modelled."""
    args, keywords = arguments_of(model, data)
    for tensor in (*model.parameters(), *tensors_in([args, keywords])):
        if tensor.device.type != "cpu":
            raise ModelError(
                f"expected a model and data on the CPU, whose kernels are priced (got {tensor.device}): move "
                'both with .to("cpu")'
            )


def _features(given: Any, data: Any) -> Iterator[Tensor]:
    """Yield the tensors of features; numbers on edges alone are part of the graph's structure."""
    held = [data.get(name) for name in MODEL_INPUTS] if hasattr(data, "get") else []
    for tensor in tensors_in([given, held]):
        if tensor.is_floating_point() and tensor.dim() > 1:
            yield tensor
