"""`sgq cost` of an architecture: prices by position on a device, and what it takes on this machine."""

from __future__ import annotations

import argparse
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from sgq.cli.arguments import integer_from
from sgq.cli.output import console, note, print_json
from sgq.cli.target import load_target, pace_here
from sgq.errors import UsageError

if TYPE_CHECKING:
    from sgq.cost.workload import Workload
    from sgq.report.cost_rows import CostReport

SUFFIXES = (".yaml", ".yml")
HAS_POSITIONS = re.compile(r"^(?:\{.*[{ ,])?positions:", re.MULTILINE)
"""The key of an architecture, in a block or on one line; a broken file is recognised as well."""
DEFAULT_NODES, DEFAULT_FEATURES, DEFAULT_CLASSES = 1024, 3, 40


def add_genotype_options(parser: argparse.ArgumentParser) -> None:
    """Add what only the cost of an architecture takes."""
    group = parser.add_argument_group("of an architecture (dgcnn, or a YAML file with positions)")
    group.add_argument("--nodes", type=integer_from(1), metavar="N", help="points of a cloud (default: 1024)")
    group.add_argument("--edges", type=integer_from(0), metavar="N", help="edges of a graph (default: none)")
    group.add_argument("--features", type=integer_from(1), metavar="N", help="features a point (default: 3)")
    group.add_argument("--batch", type=integer_from(1), metavar="N", help="clouds at once (default: 1)")
    group.add_argument("--classes", type=integer_from(1), metavar="N", help="classes (default: 40)")
    group.add_argument("--bits", type=integer_from(1, 32), metavar="B", help="one width for everything")
    group.add_argument("--picture", metavar="FILE", help="also write stacked bars of time, a PNG")


GENOTYPE_ONLY = ("nodes", "edges", "features", "batch", "classes", "bits", "picture")
SUBJECT_ONLY = ("model", "checkpoint")


def check_options(arguments: argparse.Namespace, *, genotype: bool) -> None:
    """Raise UsageError for an option that the subject has no use for: nothing is silently ignored."""
    names = SUBJECT_ONLY if genotype else GENOTYPE_ONLY
    given = [f"--{name}" for name in names if getattr(arguments, name) is not None]
    if given:
        what = "an architecture" if genotype else "a recipe or a checkpoint"
        raise UsageError(f"{', '.join(given)}: not an option of {what} ({arguments.subject})")


def is_genotype(subject: str) -> bool:
    """Whether a subject is an architecture: one by name, or a YAML file with positions."""
    from sgq.models.genotype_file import FACTORIES

    path = Path(subject)
    if not path.is_file():
        return subject in FACTORIES
    if path.suffix not in SUFFIXES:
        return False
    from sgq.recipe.loading import read_text

    return HAS_POSITIONS.search(read_text(path)) is not None


def run_genotype(arguments: argparse.Namespace) -> int:
    """Print the costs of an architecture by position, and write its picture where asked for."""
    import torch

    from sgq.cost.breakdown import cost_report, measured_cost
    from sgq.cost.pricing import Pricer
    from sgq.models.genotype_file import load_genotype
    from sgq.models.genotype_sampling import with_bits

    genotype = load_genotype(arguments.subject)
    if arguments.bits is not None:
        genotype = with_bits(genotype, arguments.bits)
    workload = _workload(arguments)
    if arguments.measure and workload.has_edges:
        raise UsageError("expected a point cloud to measure (got --edges): graphs are priced only")
    pricer = None
    if arguments.target is not None:
        pricer = Pricer(load_target(arguments.target, measure=arguments.measure))
    measured = None
    if arguments.measure:
        pace = None if pricer is None else pace_here(pricer.profile)
        measured = measured_cost(genotype, workload, pace=pace)
    report = cost_report(
        genotype, workload, pricer=pricer, measured=measured, threads=torch.get_num_threads()
    )
    if arguments.json:
        print_json(asdict(report))
    else:
        _print(report)
    if arguments.picture is not None:
        from sgq.report.cost_picture import cost_png
        from sgq.report.files import write_atomically

        write_atomically(Path(arguments.picture), cost_png(report))
        note(f"wrote {arguments.picture}", quiet=arguments.json)
    return 0


def _workload(arguments: argparse.Namespace) -> Workload:
    from sgq.cost.workload import Workload

    return Workload(
        nodes=arguments.nodes or DEFAULT_NODES,
        edges=arguments.edges or 0,
        features=arguments.features or DEFAULT_FEATURES,
        batch=arguments.batch or 1,
        classes=arguments.classes or DEFAULT_CLASSES,
    )


def _print(report: CostReport) -> None:
    from sgq.report.cost_columns import total_lines
    from sgq.report.table import print_cost

    out = console()
    print_cost(report, out)
    for line in total_lines(report):
        out.print(line)
    for text in report.notes:
        out.print(f"note: {text}")
