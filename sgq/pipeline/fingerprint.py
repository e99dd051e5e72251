"""What a checkpoint says of its float model: its class, how to build it, and a digest of names and shapes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sgq.errors import ModelError
from sgq.graph.swap import ROOT_BUCKETS, SLOTS, Swapped
from sgq.models.zoo import ZooArguments, build


@dataclass(frozen=True)
class Fingerprint:
    """The class of a float model, a digest of its tensors' names and shapes, and its zoo arguments."""

    class_name: str
    digest: str
    zoo: ZooArguments | None = None

    def __str__(self) -> str:
        if self.zoo is None:
            return f"{self.class_name} {self.digest}"
        channels = f"{self.zoo.in_channels} -> {self.zoo.out_channels}"
        return f"{self.class_name} {self.digest}, zoo {self.zoo.name} {channels}"


def fingerprint_of(model: nn.Module) -> Fingerprint:
    """Return the fingerprint of a float model, or of the float model inside a quantized one."""
    tensors = {name: tensor for name, tensor in model.state_dict().items() if is_float_name(name)}
    lines = sorted(
        f"{name} {list(tensor.shape)}" for name, tensor in tensors.items() if isinstance(tensor, Tensor)
    )
    kind = model.swapped_from if isinstance(model, Swapped) else type(model)
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
    zoo = getattr(model, "built_of", None)
    return Fingerprint(kind.__name__, digest, zoo if isinstance(zoo, ZooArguments) else None)


def is_float_name(name: str) -> bool:
    """Whether a name of a state dict is the float model's, not a quantizer's."""
    return SLOTS not in name.split(".") and name != ROOT_BUCKETS


def built_model(zoo: ZooArguments, *, device: str = "cpu") -> nn.Module:
    """Return a new zoo model; the global random state stays as it was.

    On the device "meta" it takes no memory, whatever its sizes: names and shapes can be checked first.
    Raises ModelError for arguments of which no model can be built.
    """
    if min(zoo.in_channels, zoo.out_channels) < 1:
        raise ModelError(f"expected channels of at least 1 (got {zoo.in_channels} -> {zoo.out_channels})")
    try:
        with torch.random.fork_rng(devices=[]), torch.device(device):
            return build(
                zoo.name, in_channels=zoo.in_channels, out_channels=zoo.out_channels, options=zoo.options
            )
    except (TypeError, ValueError, RuntimeError, OverflowError, MemoryError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{zoo.name} cannot be built: {reason}") from error
