"""Reproduce a table with this library: python tools/reproduce.py sgquant [--table], or abs [--table].

Runs resume: what the results file holds is not run again, and a changed recipe is.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "recipes" / "results"
README = ROOT / "recipes" / "README.md"
STUDIES = {"sgquant": "sgquant.jsonl", "abs": "abs.jsonl"}
"""Each study's file of finished runs; searches of `abs` are in abs-searches.jsonl beside it."""

# Large tensors come and go every step: without this, glibc maps and clears their pages each time.
ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": str(2**33),
    "MALLOC_TRIM_THRESHOLD_": str(2**34),
    "MALLOC_TOP_PAD_": str(2**28),
}


def main() -> None:
    """Run what is missing, or with --table write the table into recipes/README.md."""
    from reproductions import abs as bit_selection
    from reproductions import sgquant

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", choices=list(STUDIES))
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the files of finished runs")
    parser.add_argument("--data", nargs="+", choices=list(sgquant.SEEDS), default=list(sgquant.SEEDS))
    parser.add_argument("--model", nargs="+", choices=sgquant.MODELS, default=list(sgquant.MODELS))
    parser.add_argument("--seeds", type=int, help="at most so many seeds a cell (default: the protocol's)")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count(), help="seeds or trials run at once, a thread each"
    )
    parser.add_argument("--table", action="store_true", help="write the table into recipes/README.md instead")
    options = parser.parse_args()
    runs = options.results / STUDIES[options.study]
    searches = options.results / "abs-searches.jsonl"
    if options.table:
        if options.study == "abs":
            table = bit_selection.markdown(searches, runs, options.results / STUDIES["sgquant"])
        else:
            table = sgquant.markdown(runs)
        write_table(options.study, table)
        print(table)
        return
    os.environ.update({name: value for name, value in ALLOCATOR.items() if name not in os.environ})
    chosen = {
        "datasets": options.data,
        "models": options.model,
        "seeds": options.seeds,
        "workers": options.workers,
    }
    if options.study == "abs":
        bit_selection.reproduce(searches, runs, **chosen)
    else:
        sgquant.reproduce(runs, **chosen)


def write_table(study: str, table: str) -> None:
    """Put a study's table between its two marks in recipes/README.md."""
    begin, end = f"<!-- {study} table -->", f"<!-- end of {study} table -->"
    before, found, rest = README.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise SystemExit(f'expected "{begin}" and "{end}" around the table in {README}')
    README.write_text(f"{before}{begin}\n\n{table}\n{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
