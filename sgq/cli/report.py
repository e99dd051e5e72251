"""`sgq report`: one page over one or several runs."""

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
    parser = add_verb(verbs, "report", run=run, text="make one self-contained HTML page of runs")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a folder of `sgq apply`, or its report.json")
    parser.add_argument("-o", "--output", default="report.html", metavar="FILE", help="default: report.html")


def run(arguments: argparse.Namespace) -> int:
    """Write the page and print its comparison."""
    from sgq.report.files import writable_folder
    from sgq.report.html import write_html
    from sgq.report.runs import combined, read_report
    from sgq.report.table import print_comparison

    path = Path(arguments.output)
    if path.is_dir():
        raise UsageError(f"expected an output file (got the folder {path})")
    reports = [(_name(run), read_report(run)) for run in arguments.runs]
    writable_folder(path.parent)
    report = combined(reports)
    write_html(report, path)
    if arguments.json:
        print_json(report.to_json())
    else:
        out = console()
        print_comparison(report.rows, out)
        out.print(f"wrote {path}")
    return 0


def _name(run: str) -> str:
    path = Path(run)
    return (path.parent if path.is_file() else path).resolve().name
