"""Train, apply four recipes, report: `make demo`. Each step is the command that a user would type."""

from __future__ import annotations

import argparse
import contextlib
import io
import shlex
import sys
from pathlib import Path

from sgq.cli.main import main as sgq


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="synthetic", help="a data set name (default: the embedded graph)")
    parser.add_argument("--model", default="gat", choices=("gcn", "gat", "agnn"))
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/demo"))
    chosen = parser.parse_args()
    subject = ["--model", chosen.model, "--data", chosen.data]
    checkpoint = str(chosen.output / f"{chosen.model}.safetensors")
    steps = [["train", *subject, "-o", checkpoint]]
    runs = []
    for recipe in ("int8", "int4", f"sgquant/{chosen.model}-taq", f"sgquant/{chosen.model}-lwq-cwq-taq"):
        runs.append(str(chosen.output / recipe.rpartition("/")[2]))
        steps.append(["apply", recipe, *subject, "--checkpoint", checkpoint, "-o", runs[-1]])
    for step in steps:
        print("sgq", shlex.join(step), file=sys.stderr, flush=True)
        with contextlib.redirect_stdout(io.StringIO()):  # their figures come in one table below
            code = sgq(step)
        if code:
            return code
    code = sgq(["report", *runs, "-o", str(chosen.output / "report.html")])
    print(f"curves: tensorboard --logdir {chosen.output}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
