"""Reproduce a paper's table with this library: python tools/reproduce.py sgquant [--table].

Runs resume: what the results file holds is not run again, and a changed recipe is.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "recipes" / "results" / "sgquant.jsonl"
README = ROOT / "recipes" / "README.md"
BEGIN, END = "<!-- sgquant table -->", "<!-- end of sgquant table -->"

# Large tensors come and go every step: without this, glibc maps and clears their pages each time.
ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": str(2**33),
    "MALLOC_TRIM_THRESHOLD_": str(2**34),
    "MALLOC_TOP_PAD_": str(2**28),
}


def main() -> None:
    """Run what is missing, or with --table write the table into recipes/README.md."""
    from reproductions import sgquant

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", choices=["sgquant"])
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON-lines file of finished runs")
    parser.add_argument("--data", nargs="+", choices=list(sgquant.SEEDS), default=list(sgquant.SEEDS))
    parser.add_argument("--model", nargs="+", choices=sgquant.MODELS, default=list(sgquant.MODELS))
    parser.add_argument("--seeds", type=int, help="at most so many seeds a cell (default: the protocol's)")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count(), help="seeds run at once, a thread each"
    )
    parser.add_argument("--table", action="store_true", help="write the table into recipes/README.md instead")
    options = parser.parse_args()
    if options.table:
        table = sgquant.markdown(options.results)
        before, begin, rest = README.read_text(encoding="utf-8").partition(BEGIN)
        _, end, after = rest.partition(END)
        if not begin or not end:
            parser.error(f'expected "{BEGIN}" and "{END}" around the table in {README}')
        README.write_text(f"{before}{BEGIN}\n\n{table}\n{END}{after}", encoding="utf-8")
        print(table)
        return
    os.environ.update({name: value for name, value in ALLOCATOR.items() if name not in os.environ})
    sgquant.reproduce(
        options.results,
        datasets=options.data,
        models=options.model,
        seeds=options.seeds,
        workers=options.workers,
    )


if __name__ == "__main__":
    sys.exit(main())
