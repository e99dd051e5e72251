"""Automatic bit selection: `python tools/abs.py SPACE --model NAME --checkpoint FILE -o FOLDER`, as `sgq bits`."""

from __future__ import annotations

import sys

from sgq.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["bits", *sys.argv[1:]]))
