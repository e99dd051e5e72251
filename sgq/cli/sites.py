"""`sgq sites`: what can be quantized in a model."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sgq.cli.arguments import add_subject, add_verb
from sgq.cli.output import console, print_json

if TYPE_CHECKING:
    from sgq.cli.arguments import Verbs
    from sgq.graph.sites import SiteTable


def add(verbs: Verbs) -> None:
    """Add the verb."""
    add_subject(add_verb(verbs, "sites", run=run, text="list what can be quantized in a model"))


def run(arguments: argparse.Namespace) -> int:
    """List the sites, the modules that did not run, and the parameters that stay in float."""
    from sgq.cli.subject import resolve_subject
    from sgq.pipeline.planning import sites_of

    subject = resolve_subject(arguments)
    table = sites_of(subject.model, subject.task)
    if arguments.json:
        print_json(_json(table))
    else:
        _print(table, title=f"{subject.model_name} on {subject.data_name}")
    return 0


def _json(table: SiteTable) -> dict[str, Any]:
    return {
        "sites": [site.to_json() | {"name": str(site.name)} for site in table.sites],
        "float_parameters": [asdict(parameter) for parameter in table.float_parameters],
        "unreached": list(table.unreached),
        "workload": asdict(table.workload),
    }


def _print(table: SiteTable, *, title: str) -> None:
    from rich import box
    from rich.table import Table

    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    for heading in ("site", "also called", "rows", "shape", "stored"):
        grid.add_column(heading, overflow="fold", justify="right" if heading == "shape" else "left")
    for site in table.sites:
        aliases = ", ".join(str(alias) for alias in site.aliases)
        shape = "×".join(map(str, site.shape))
        grid.add_row(str(site.name), aliases, site.rows, shape, "yes" if site.stored else "no")
    out = console()
    work = table.workload
    out.print(f"{title}: {len(table.sites)} sites on {work.nodes} nodes and {work.edges} edges")
    out.print(grid)
    for site in table.sites:
        for text in site.notes:
            out.print(f"note: {site.name}: {text}")
    if table.float_parameters:
        kept = ", ".join(f"{parameter.name} ({parameter.values})" for parameter in table.float_parameters)
        out.print(f"parameters that stay in float: {kept}")
    if table.unreached:
        out.print(f"modules that did not run: {', '.join(table.unreached)}")
