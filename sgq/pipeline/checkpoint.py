"""Checkpoints: one safetensors file with the state dict and, in its header, the plan. No pickle.

A wrapped model cannot be pickled whole (its classes are generated), and should not be: a checkpoint is a
state dict and a plan. Float checkpoints are plain state dicts, `.safetensors` or `.pt`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgq.errors import CheckpointError, PlanError, SgqError, nearest_name
from sgq.report.files import write_atomically

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sgq.recipe.plan import Plan

FLOAT_FORMAT = "sgq-float-1"
SIMULATED_FORMAT = "sgq-simulated-1"
"""The header's `format`: a plain state dict, or one in float with quantizers and their plan."""


@dataclass(frozen=True)
class CheckpointContents:
    """What a checkpoint file holds: tensors by name, the plan (None for a float model), and its header."""

    tensors: dict[str, Tensor]
    plan: Plan | None
    metadata: dict[str, str]


def save(
    path: str | os.PathLike[str],
    model: nn.Module,
    plan: Plan | None = None,
    *,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write a model's state dict, and its plan if it is quantized, to one safetensors file; atomically.

    The weights of a quantized model are written in float, beside the scales: the file simulates the plan
    and is not packed. `metadata` adds texts to the header (`{"model": "gat"}`, say). Return the path.
    """
    from safetensors.torch import save as to_bytes

    from sgq.graph.wrap import quantizers_of

    if plan is None and quantizers_of(model):
        raise CheckpointError("a quantized model is saved with its plan: sgq.save(path, model, plan)")
    tensors = {
        name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()
    }
    header = {**(metadata or {}), "format": FLOAT_FORMAT if plan is None else SIMULATED_FORMAT}
    if plan is not None:
        header["plan"] = json.dumps(plan.to_json(), separators=(",", ":"))
    write_atomically(Path(path), to_bytes(tensors, metadata=header))
    return Path(path)


def read(path: str | os.PathLike[str]) -> CheckpointContents:
    """Read a checkpoint without a model: safetensors, or a `.pt` state dict (weights only).

    Raises CheckpointError for a file that is missing, unreadable, or of a later format of sgq.
    """
    file = Path(path)
    if not file.is_file():
        raise CheckpointError(f'there is no checkpoint "{file}"')
    tensors, metadata = _read_pt(file) if file.suffix in (".pt", ".pth") else _read_safetensors(file)
    written = metadata.get("format", "")
    if written.startswith("sgq-") and written not in (FLOAT_FORMAT, SIMULATED_FORMAT):
        raise CheckpointError(
            f'expected "{file}" in format {FLOAT_FORMAT} or {SIMULATED_FORMAT} (got {written}): '
            "another version of sgq wrote it"
        )
    plan = None
    if "plan" in metadata:
        from sgq.recipe.plan import Plan

        try:
            plan = Plan.from_json(json.loads(metadata["plan"]))
        except (ValueError, KeyError, TypeError, AttributeError, SgqError) as error:
            raise CheckpointError(f'"{file}" has a plan that cannot be read: {error}') from error
    return CheckpointContents(tensors, plan, metadata)


def load(path: str | os.PathLike[str], model: nn.Module) -> nn.Module:
    """Return `model` with a checkpoint's tensors; a quantized copy of it where the checkpoint has a plan.

    `model` is the float model, freshly built; a float checkpoint is loaded into it in place. Names or
    shapes that do not fit are a CheckpointError that lists them.
    """
    contents = read(path)
    if contents.plan is None:
        return load_tensors(model, contents.tensors, path)
    from quantizers import Phase
    from sgq.graph.swap import ROOT_BUCKETS
    from sgq.pipeline.wrapping import set_phase, wrap

    bucket = contents.tensors.get(ROOT_BUCKETS)
    try:
        wrapped = wrap(model, contents.plan, bucket=bucket)
    except PlanError as error:
        raise CheckpointError(f'"{path}" does not fit the model: {error}') from error
    load_tensors(wrapped, contents.tensors, path)
    set_phase(wrapped, Phase.FROZEN)
    return wrapped.eval()


def load_tensors(model: nn.Module, tensors: dict[str, Tensor], path: str | os.PathLike[str]) -> nn.Module:
    """Load tensors into a model in place, strictly; a misfit names the tensors and both shapes."""
    wanted = model.state_dict()
    faults = [f'"{name}" is missing' for name in wanted if name not in tensors]
    faults += [
        f'"{name}" is not in the model.{nearest_name(name, wanted)}' for name in tensors if name not in wanted
    ]
    faults += [
        f'"{name}" has shape {list(tensors[name].shape)} where the model has {list(wanted[name].shape)}'
        for name in wanted
        if name in tensors and tensors[name].shape != wanted[name].shape
    ]
    if faults:
        shown = "; ".join(faults[:6]) + (f"; and {len(faults) - 6} more" if len(faults) > 6 else "")
        raise CheckpointError(f'checkpoint "{path}" does not fit {type(model).__name__}: {shown}')
    model.load_state_dict(tensors)
    return model


def _read_safetensors(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as handle:
            return {name: handle.get_tensor(name) for name in handle.keys()}, handle.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f'"{file}" is not a readable safetensors file: {error}') from error


def _read_pt(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    import pickle

    import torch

    try:
        loaded: Any = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError, LookupError) as error:
        reason = str(error) or type(error).__name__
        raise CheckpointError(f'"{file}" is not a readable state dict: {reason}') from error
    if not isinstance(loaded, dict) or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        raise CheckpointError(f'"{file}" is not a state dict of tensors')
    return loaded, {}
