"""`sgq report`: one page over one or several runs, or over a study."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sgq.cli.arguments import add_verb
from sgq.cli.output import console, print_json
from sgq.errors import UsageError

if TYPE_CHECKING:
    from sgq.cli.arguments import Verbs
    from sgq.report import Report, StudyReport


def add(verbs: Verbs) -> None:
    """Add the verb."""
    parser = add_verb(
        verbs, "report", run=run, text="make one self-contained HTML page of runs or of a study"
    )
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="a folder of `sgq apply`, or its report.json, several of which go on one page; "
        "or one study alone: a folder with study.json in it, or that file",
    )
    parser.add_argument("-o", "--output", default="report.html", metavar="FILE", help="default: report.html")


def run(arguments: argparse.Namespace) -> int:
    """Write the page and print its comparison or its front."""
    from sgq.report.files import writable_folder
    from sgq.report.html import write_html
    from sgq.report.rows import Report
    from sgq.report.study_html import write_study_html
    from sgq.report.table import print_comparison, print_study

    path = Path(arguments.output)
    if path.is_dir():
        raise UsageError(f"expected an output file (got the folder {path})")
    report = _read(arguments.runs)
    writable_folder(path.parent)
    if isinstance(report, Report):
        write_html(report, path)
    else:
        write_study_html(report, path)
    if arguments.json:
        print_json(report.to_json())
        return 0
    out = console()
    if isinstance(report, Report):
        print_comparison(report.rows, out)
    else:
        print_study(report, out)
    out.print(f"wrote {path}")
    return 0


def _read(paths: Sequence[str]) -> Report | StudyReport:
    """Return the report of all runs together, or that of the only study."""
    from sgq.report.runs import combined, read_report
    from sgq.report.studies import is_study, read_study

    studies = [path for path in paths if is_study(path)]
    if not studies:
        return combined([(_name(path), read_report(path)) for path in paths])
    if len(paths) > 1:
        raise UsageError(
            f"expected one study alone, or runs (got {len(paths)} paths with study {studies[0]})"
        )
    return read_study(studies[0])


def _name(run: str) -> str:
    path = Path(run)
    return (path.parent if path.is_file() else path).resolve().name
