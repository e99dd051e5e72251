"""Measure what sgq costs on this machine: `python tools/bench.py quant --json bench.json`."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path

SUITES = {"quant": "a quantization-aware training step against a float one"}


def main(arguments: list[str] | None = None) -> int:
    """Run one suite, print its table, write its JSON; return the exit code."""
    parser = argparse.ArgumentParser(prog="bench.py", description=__doc__)
    suites = parser.add_subparsers(dest="suite", required=True)
    for name, about in SUITES.items():
        suite = suites.add_parser(name, help=about, description=about)
        suite.add_argument("--json", type=Path, metavar="FILE", help="also write the rows as JSON")
        suite.add_argument("--threads", type=int, default=2, help="torch threads (default: 2)")
        importlib.import_module(f"benches.{name}").add_arguments(suite)
    given = parser.parse_args(arguments)

    import torch
    from benches.machine import describe_machine
    from rich.console import Console

    from sgq.errors import SgqError

    torch.set_num_threads(given.threads)
    try:
        result = importlib.import_module(f"benches.{given.suite}").run(given)
    except SgqError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    report = {"suite": given.suite, "machine": describe_machine(), **result.to_json()}
    Console().print(result.table())
    if given.json is not None:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
