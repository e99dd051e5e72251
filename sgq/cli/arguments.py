"""Arguments that several verbs share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]

OPTIONS = ("hidden", "heads", "layers", "dropout")
"""The fields of ModelOptions that can be given on the command line."""

MAX_SEED = 2**31 - 1
"""Seeds of epochs are derived from it and have to stay in 64 bits."""


def add_verb(
    verbs: Verbs, name: str, *, run: Callable[[argparse.Namespace], int], text: str
) -> argparse.ArgumentParser:
    """Add a verb and return its parser, which has `--json`; `text` is its one-line description."""
    parser = verbs.add_parser(
        name, help=text, description=f"{text[0].upper()}{text[1:]}.", allow_abbrev=False
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document on stdout, nothing else")
    parser.set_defaults(run=run)
    return parser


def add_subject(
    parser: argparse.ArgumentParser, *, checkpoint: bool = True, model_required: bool = True
) -> None:
    """Add what names a model and data: `--model`, `--data`, `--adjacency`, model options, `--seed` …"""
    parser.add_argument(
        "--model",
        required=model_required,
        metavar="NAME",
        help="a zoo name (gcn, gat …) or package.module:factory",
    )
    parser.add_argument(
        "--data",
        default="synthetic",
        metavar="NAME",
        help="a data set name or package.module:factory (default: the embedded graph, synthetic)",
    )
    parser.add_argument(
        "--adjacency",
        choices=("edge_index", "csr"),
        default="edge_index",
        help="how a named data set holds its edges; csr is PyG's fastest path (default: edge_index)",
    )
    if checkpoint:
        parser.add_argument(
            "--checkpoint",
            metavar="FILE",
            help="the trained float model: a safetensors file or .pt state dict",
        )
    sizes = parser.add_argument_group("sizes of a zoo model", "a checkpoint of `sgq train` knows its own")
    sizes.add_argument(
        "--hidden", type=integer_from(1), metavar="N", help="hidden width, of one attention head"
    )
    sizes.add_argument("--heads", type=integer_from(1), metavar="N", help="attention heads")
    sizes.add_argument("--layers", type=integer_from(1), metavar="N", help="convolutions")
    sizes.add_argument("--dropout", type=float, metavar="P", help="share of dropped features, 0 to 1")
    parser.add_argument(
        "--seed",
        type=integer_from(0, MAX_SEED),
        metavar="N",
        help="of training, and of splits that are not public",
    )
    parser.add_argument("--device", default="cpu", metavar="NAME", help="a torch device (default: cpu)")


def add_quiet(parser: argparse.ArgumentParser) -> None:
    """Add `--quiet`."""
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")


def integer_from(least: int, most: int | None = None) -> Callable[[str], int]:
    """Return an argparse type: an integer that is not below `least`, and not above `most` if given."""
    wanted = f"of at least {least}" if most is None else f"from {least} to {most}"

    def integer(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least or (most is not None and number > most):
            raise argparse.ArgumentTypeError(f"expected an integer {wanted} (got {text!r})")
        return number

    return integer
