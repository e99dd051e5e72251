"""Automatic bit selection, as `sgq bits`: python tools/abs.py SPACE --model NAME --checkpoint FILE."""

from __future__ import annotations

import sys

from sgq.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["bits", *sys.argv[1:]]))
