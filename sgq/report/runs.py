"""Reports read back from the folders of runs, and several of them as one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from sgq.errors import UsageError
from sgq.report.rows import Report, ReportRow, RuntimeRow

Parsed = TypeVar("Parsed")


def read_report(run: str | Path) -> Report:
    """Return the report of a run: its folder, or the report.json in it; else raise UsageError."""
    return read_json(run, "report.json", Report.from_json, kind="run")


def read_json(folder: str | Path, name: str, parse: Callable[[Any], Parsed], *, kind: str) -> Parsed:
    """Return what `parse` makes of the JSON file `name` in a folder, or of the file itself.

    Raises UsageError where there is no such file, and where sgq did not write it.
    """
    path = Path(folder)
    file = path / name if path.is_dir() else path
    if not file.is_file():
        raise UsageError(f"expected a {kind} with {name} in it (got {folder})")
    try:
        return parse(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise UsageError(f"expected a report that sgq wrote (got {file}: {error})") from error


def combined(reports: Sequence[tuple[str, Report]]) -> Report:
    """Return one report over several named ones: equal rows once, and settings where all agree.

    Rows of one name that differ are told apart by the name of their run; so are measured rows, where several
    runs have some, since no two measurements agree. Sites are kept of a single run.
    """
    if len(reports) == 1:
        return reports[0][1]
    distinct: dict[ReportRow, str] = {}
    for run, report in reports:
        for row in report.rows:
            distinct.setdefault(row, run)
    counts = Counter(row.name for row in distinct)
    rows = tuple(
        row if counts[row.name] == 1 else replace(row, name=f"{row.name} ({run})")
        for row, run in distinct.items()
    )
    shared = set.intersection(*(set(report.settings) for _, report in reports))
    return Report(
        title=f"{len(reports)} runs: {', '.join(run for run, _ in reports)}",
        rows=rows,
        settings=tuple(pair for pair in reports[0][1].settings if pair in shared),
        notes=_notes(reports),
        runtime=_runtime(reports),
    )


def _runtime(reports: Sequence[tuple[str, Report]]) -> tuple[RuntimeRow, ...]:
    measured = [(run, report) for run, report in reports if report.runtime]
    return tuple(
        row if len(measured) == 1 else replace(row, name=f"{row.name} ({run})")
        for run, report in measured
        for row in report.runtime
    )


def _notes(reports: Sequence[tuple[str, Report]]) -> tuple[str, ...]:
    """Return every note once, behind the runs that have it unless all do."""
    runs: dict[str, list[str]] = {}
    for run, report in reports:
        for note in dict.fromkeys(report.notes):
            runs.setdefault(note, []).append(run)
    return tuple(
        note if len(having) == len(reports) else f"{', '.join(having)}: {note}"
        for note, having in runs.items()
    )
