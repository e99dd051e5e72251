"""`sgq show`: what is in a checkpoint or in the folder of a run."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgq.cli.arguments import add_verb
from sgq.cli.output import console, print_json
from sgq.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from sgq.cli.arguments import Verbs
    from sgq.cost.memory import MemoryReport
    from sgq.pipeline.checkpoint import CheckpointContents

_STRUCTURED = ("plan", "fingerprint", "recipe_text", "features")
"""Texts of a header that are shown in another form."""


def add(verbs: Verbs) -> None:
    """Add the verb."""
    parser = add_verb(verbs, "show", run=run, text="show a checkpoint or the folder of a run")
    parser.add_argument(
        "path", metavar="PATH", help="a folder of `sgq apply`, a safetensors file or a .pt file"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print a run's report, or a checkpoint's header, plan and tensors."""
    path = Path(arguments.path)
    if path.is_dir():
        if (path / "report.json").is_file():
            return _show_run(path, as_json=arguments.json)
        path = path / "model.safetensors"
        if not path.is_file():
            raise UsageError(
                f"expected a run with report.json or model.safetensors in it (got {path.parent})"
            )
    return _show_checkpoint(path, as_json=arguments.json)


def _show_run(folder: Path, *, as_json: bool) -> int:
    from sgq.report.runs import read_report
    from sgq.report.table import print_report

    report = read_report(folder)
    if as_json:
        print_json(report.to_json())
    else:
        out = console()
        print_report(report, out)
        for name, value in report.settings:
            out.print(f"{name}: {value}")
    return 0


def _show_checkpoint(path: Path, *, as_json: bool) -> int:
    from sgq.cli.plan_view import plan_json, print_plan
    from sgq.cost.memory import memory_of
    from sgq.pipeline.checkpoint import read

    contents = read(path)
    header = {key: value for key, value in contents.metadata.items() if key not in _STRUCTURED}
    memory = None if contents.plan is None else memory_of(contents.plan)
    if as_json:
        document: dict[str, Any] = {
            "checkpoint": str(path),
            "header": header,
            "fingerprint": None if contents.fingerprint is None else asdict(contents.fingerprint),
            "recipe_text": contents.recipe_text,
            "bytes": _bytes(contents, memory),
            "tensors": {name: list(tensor.shape) for name, tensor in contents.tensors.items()},
            "tensor_bytes": {name: tensor.nbytes for name, tensor in contents.tensors.items()},
        }
        if contents.plan is not None and memory is not None:
            document |= plan_json(contents.plan, memory)
        print_json(document)
        return 0
    out = console()
    values = sum(tensor.numel() for tensor in contents.tensors.values())
    out.print(f"{path}: {len(contents.tensors)} tensors, {values:,} values")
    for name, value in header.items():
        out.print(f"{name}: {value}")
    if contents.fingerprint is not None:
        out.print(f"fingerprint: {contents.fingerprint}")
    for name, count in _bytes(contents, memory).items():
        out.print(f"{name}: {count:,} bytes" if isinstance(count, int) else f"{name}: {count}")
    out.print()
    _print_tensors(contents)
    if contents.plan is not None and memory is not None:
        out.print()
        print_plan(contents.plan, memory)
    return 0


def _bytes(contents: CheckpointContents, memory: MemoryReport | None) -> dict[str, int | str]:
    """Return what the file weighs, beside what the plan models where there is one."""
    sizes: dict[str, int | str] = {
        "file": contents.file_bytes,
        "header": contents.header_bytes,
        "payload": contents.payload_bytes,
    }
    if memory is None:
        return sizes
    features = contents.features
    kept = 0 if features is None else features.nbytes
    sizes |= {"payload without features": contents.payload_bytes - kept, "modelled": memory.file_bytes}
    if features is not None:
        site = features.entry.site
        modelled = next(counted.total_bytes for counted in memory.sites if counted.site == site)
        sizes |= {"features": kept, "features modelled": modelled, "features form": features.form}
    return sizes


def _print_tensors(contents: CheckpointContents) -> None:
    """Print one line a site or tensor: dtype, shape and bytes of each of its parts."""
    from rich import box
    from rich.table import Table

    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    for heading in ("tensor", "held as", "bytes"):
        grid.add_column(heading, overflow="fold", justify="right" if heading == "bytes" else "left")
    sites = () if contents.plan is None else contents.plan.quantized
    by_owner: dict[str, list[tuple[str, Tensor]]] = {str(entry.site.name): [] for entry in sites}
    for name, tensor in contents.tensors.items():
        owner, _, part = name.partition("/")
        by_owner.setdefault(owner, []).append((part, tensor))
    for owner, parts in by_owner.items():
        held = sorted(f"{part} {_kind(tensor)}".strip() for part, tensor in parts)
        size = sum(tensor.nbytes for _, tensor in parts)
        grid.add_row(owner, ", ".join(held) or "nothing: rows bring their own ranges", f"{size:,}")
    console().print(grid)


def _kind(tensor: Tensor) -> str:
    shape = "×".join(map(str, tensor.shape)) or "scalar"
    return f"{str(tensor.dtype).removeprefix('torch.')} {shape}"
