"""What a machine is, as far as it changes how fast it computes: without its name, without paths."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from sgq.report.columns import byte_text

SAME_MEMORY = 0.05
"""Memory that differs by less is the same: kernels keep different parts of it for themselves."""

INSTRUCTION_SETS = (
    "avx",
    "avx2",
    "fma",
    "avx512f",
    "avx512vnni",
    "avxvnni",
    "amx-int8",
    "neon",
    "dotprod",
    "i8mm",
    "sve",
)
"""The extensions that arithmetic kernels use, as LLVM calls them."""

_SPEED = (
    "cpu",
    "physical_cores",
    "logical_cores",
    "memory_bytes",
    "cache_bytes",
    "instruction_sets",
    "accelerator",
)
_SOFT = ("system", "torch_version", "numba_version", "sgq_version")
_SYSTEM = Path("/sys/devices/system/cpu")


@dataclass(frozen=True)
class Difference:
    """One way in which two machines differ, and whether it changes how fast they are."""

    what: str
    own: str
    other: str
    changes_speed: bool

    def __str__(self) -> str:
        return f"{self.what}: {self.own} against {self.other}"


@dataclass(frozen=True)
class Fingerprint:
    """A machine: cores are those that this process may use; `cache_bytes` are one cache of each level.

    Zero bytes of memory and no caches mean that the system does not tell.
    """

    cpu: str
    physical_cores: int
    logical_cores: int
    memory_bytes: int
    cache_bytes: tuple[int, ...]
    instruction_sets: tuple[str, ...]
    system: str
    torch_version: str
    numba_version: str
    sgq_version: str
    accelerator: str | None = None

    def __str__(self) -> str:
        caches = " / ".join(byte_text(size) for size in self.cache_bytes)
        parts = (
            self.cpu,
            f"{self.physical_cores} cores, {self.logical_cores} threads",
            byte_text(self.memory_bytes),
            f"caches {caches}" if caches else "",
            " ".join(self.instruction_sets),
            self.accelerator or "no accelerator",
            self.system,
            f"torch {self.torch_version}, numba {self.numba_version}, sgq {self.sgq_version}",
        )
        return "; ".join(part for part in parts if part)

    def differences(self, other: Fingerprint) -> tuple[Difference, ...]:
        """Return in what this machine differs from another, what changes speed first."""
        return tuple(
            Difference(
                name.removesuffix("_bytes").replace("_", " "), self._text(name), other._text(name), hard
            )
            for names, hard in ((_SPEED, True), (_SOFT, False))
            for name in names
            if not self._same(name, other)
        )

    def is_as_fast_as(self, other: Fingerprint) -> bool:
        """Whether nothing differs that changes speed, versions left aside."""
        return not any(difference.changes_speed for difference in self.differences(other))

    def _same(self, name: str, other: Fingerprint) -> bool:
        own, others = getattr(self, name), getattr(other, name)
        if name == "memory_bytes":
            return bool(abs(own - others) <= SAME_MEMORY * max(own, others))
        return bool(own == others)

    def _text(self, name: str) -> str:
        value = getattr(self, name)
        if name == "memory_bytes":
            return byte_text(value)
        if name == "cache_bytes":
            return " / ".join(map(byte_text, value)) or "unknown"
        return " ".join(value) or "none" if isinstance(value, tuple) else str(value or "none")


def fingerprint_of_this_machine() -> Fingerprint:
    """Return what this process runs on."""
    available = _available_processors()
    return Fingerprint(
        cpu=_cpu_model(),
        physical_cores=_physical_cores(available),
        logical_cores=len(available),
        memory_bytes=_memory_bytes(),
        cache_bytes=_cache_bytes(min(available)),
        instruction_sets=_instruction_sets(),
        system=f"{platform.system()} {platform.machine()}",
        torch_version=_version("torch"),
        numba_version=_version("numba"),
        sgq_version=_version("sgq"),
        accelerator=_accelerator(),
    )


def machine_warning(measured_on: Fingerprint, here: Fingerprint, *, profile: str) -> str | None:
    """Return why a profile may not hold on this machine, with both fingerprints; None where it should.

    Versions that differ are named too, but are no reason alone to distrust a profile.
    """
    found = measured_on.differences(here)
    if not found:
        return None
    if not any(difference.changes_speed for difference in found):
        return f"{profile} was measured with other versions ({'; '.join(map(str, found))})"
    names = ", ".join(difference.what for difference in found)
    return (
        f"{profile} was measured on a machine that differs in {names}: its prices are not those of this one\n"
        f"  the profile's: {measured_on}\n"
        f"  this machine:  {here}"
    )


def _available_processors() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))


def _physical_cores(available: set[int]) -> int:
    """Count the cores that the processors belong to; where the system does not tell, each is its own."""
    cores = set()
    for processor in available:
        topology = _SYSTEM / f"cpu{processor}" / "topology"
        try:
            package = (topology / "physical_package_id").read_text().strip()
            cores.add((package, (topology / "core_id").read_text().strip()))
        except OSError:
            return len(available)
    return len(cores)


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0


def _cache_bytes(processor: int) -> tuple[int, ...]:
    """Return the sizes of a processor's data caches, the innermost first."""
    sizes: dict[int, int] = {}
    for cache in (_SYSTEM / f"cpu{processor}" / "cache").glob("index*"):
        try:
            if (cache / "type").read_text().strip() == "Instruction":
                continue
            kilobytes = (cache / "size").read_text().strip().removesuffix("K")
            sizes[int((cache / "level").read_text())] = 1024 * int(kilobytes)
        except (OSError, ValueError):
            continue
    return tuple(sizes[level] for level in sorted(sizes))


def _instruction_sets() -> tuple[str, ...]:
    import llvmlite.binding

    try:
        features = llvmlite.binding.get_host_cpu_features()
    except RuntimeError:
        return ()
    return tuple(name for name in INSTRUCTION_SETS if features.get(name))


def _cpu_model() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        # On ARM there is no model name; the board's name is as close.
        for label in ("model name", "Model"):
            for line in information.read_text(encoding="utf-8").splitlines():
                if line.startswith(label) and ":" in line:
                    return line.partition(":")[2].strip()
    return platform.processor() or platform.machine() or "unknown"


def _accelerator() -> str | None:
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "unknown"
