"""`sgq`: parse the arguments, run the verb, turn errors into one message and an exit code.

Exit codes: 0 done, 2 usage, 3 recipe or plan, 4 limit not met (what was made is on disk), 5 verification
failed, 130 interrupted. Nothing heavy is imported before a verb runs.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
import warnings
from collections.abc import Sequence

from sgq.cli import apply, bits, check, cost, plan, profile, report, show, sites, train
from sgq.errors import SgqError, UsageError

VERBS = (sites, check, plan, profile, cost, train, apply, bits, show, report)
INTERRUPTED = 130
WRITING_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG})
FOREIGN_REMARKS = (
    (DeprecationWarning, r".*torch\.jit\..* is deprecated"),
    (UserWarning, "Sparse CSR tensor support is in beta state"),
    (UserWarning, "Sparse invariant checks are implicitly disabled"),
)
"""What torch says to those who program with it, which a user of the command can do nothing about."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `sgq` with the given arguments (default: the process's own) and return its exit code."""
    try:
        chosen = _parser().parse_args(arguments)
    except SystemExit as leaving:
        return int(leaving.code or 0)
    with warnings.catch_warnings():
        for category, message in FOREIGN_REMARKS:
            warnings.filterwarnings("ignore", message, category)
        try:
            code: int = chosen.run(chosen)
            sys.stdout.flush()
        except SgqError as error:
            return _fail(str(error), error.exit_code)
        except KeyboardInterrupt:
            return _fail("interrupted", INTERRUPTED)
        except BrokenPipeError:
            # The reader of a pipe left; without this Python complains again while it exits.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except OSError as error:
            if error.errno not in WRITING_ERRORS:
                raise
            return _fail(str(error), UsageError.exit_code)
    return code


def _fail(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sgq",
        description="Quantize graph neural networks by YAML recipe.",
        epilog="Exit codes: 0 done, 2 usage, 3 recipe or plan, 4 limit not met (results are written).",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"sgq {_version()}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for verb in VERBS:
        verb.add(verbs)
    return parser


def _version() -> str:
    from sgq import __version__

    return __version__


if __name__ == "__main__":
    sys.exit(main())
