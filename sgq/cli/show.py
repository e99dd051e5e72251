"""`sgq show`: what is in a checkpoint or in the folder of a run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from sgq.cli.arguments import add_verb
from sgq.cli.output import console, print_json
from sgq.errors import UsageError

if TYPE_CHECKING:
    from sgq.cli.arguments import Verbs


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
    header = {key: value for key, value in contents.metadata.items() if key != "plan"}
    memory = None if contents.plan is None else memory_of(contents.plan)
    if as_json:
        print_json(
            {
                "checkpoint": str(path),
                "header": header,
                "tensors": {name: list(tensor.shape) for name, tensor in contents.tensors.items()},
            }
            | ({} if contents.plan is None or memory is None else plan_json(contents.plan, memory))
        )
        return 0
    out = console()
    values = sum(tensor.numel() for tensor in contents.tensors.values())
    out.print(f"{path}: {len(contents.tensors)} tensors, {values:,} values")
    for name, value in header.items():
        out.print(f"{name}: {value}")
    if contents.plan is not None and memory is not None:
        print_plan(contents.plan, memory)
        return 0
    for name, tensor in contents.tensors.items():
        out.print(f"  {name}  {'×'.join(map(str, tensor.shape)) or 'scalar'}")
    return 0
