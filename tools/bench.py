"""Measure what sgq costs on this machine: `python tools/bench.py runtime --json bench.json`."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path

from sgq.cli.arguments import integer_from

SUITES = {
    "bits": "samplers of bits and their cost models, on two tables that are known whole",
    "cost": "prices against what is measured: latency, peak memory, bits",
    "quant": "a quantization-aware training step against a float one",
    "runtime": "the integer runtime against PyG in fp32, by kernel and by model",
}


def main(arguments: list[str] | None = None) -> int:
    """Run one suite, print its table, write its JSON; return the exit code."""
    parser = argparse.ArgumentParser(prog="bench.py", description=__doc__)
    suites = parser.add_subparsers(dest="suite", required=True)
    for name, about in SUITES.items():
        suite = suites.add_parser(name, help=about, description=about)
        suite.add_argument("--json", type=Path, metavar="FILE", help="also write the rows as JSON")
        suite.add_argument("--threads", type=integer_from(1), default=2, help="torch threads (default: 2)")
        importlib.import_module(f"benches.{name}").add_arguments(suite)
    given = parser.parse_args(arguments)

    import torch
    from benches.machine import check_device, describe_machine

    from sgq.cli.output import console
    from sgq.errors import SgqError, UsageError
    from sgq.report.files import writable_folder, write_atomically

    torch.set_num_threads(given.threads)
    try:
        check_device(getattr(given, "device", "cpu"))
        if given.json is not None:
            if given.json.is_dir():
                raise UsageError(f"expected --json with a file (got the folder {given.json})")
            writable_folder(given.json.parent)
        result = importlib.import_module(f"benches.{given.suite}").run(given)
        machine = describe_machine(getattr(given, "device", "cpu"))
        report = {"suite": given.suite, "machine": machine, **result.to_json()}
        console().print(result.table())
        if given.json is not None:
            write_atomically(given.json, json.dumps(report, indent=2) + "\n")
    except SgqError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
