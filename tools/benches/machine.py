"""Which machine a measurement was made on."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def check_device(name: str) -> None:
    """Raise UsageError for a name that is no device of the suites: `cpu`, `cuda` or one of its indices.

    An accelerator that is absent altogether is none: a suite says so itself.
    """
    import torch

    from sgq.errors import UsageError

    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"expected --device cpu or cuda (got {name})") from error
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"expected --device cpu or cuda (got {name})")
    count = torch.cuda.device_count() if device.type == "cuda" else 1
    if count and (device.index or 0) >= count:
        raise UsageError(f"expected --device with an index below {count} (got {name})")


def describe_machine(device: str = "cpu") -> dict[str, str | int]:
    """Return CPU model, cores, torch threads, the accelerator, and versions of Python, torch and PyG."""
    import torch
    import torch_geometric

    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "device": _accelerator(device) or device,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torch_geometric": torch_geometric.__version__,
        "platform": platform.platform(),
    }


def _accelerator(device: str) -> str:
    """Return the accelerator's name, empty for the CPU and where it is absent."""
    import torch

    if torch.device(device).type != "cuda" or not torch.cuda.is_available():
        return ""
    return torch.cuda.get_device_name(device)


def _cpu_model() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
