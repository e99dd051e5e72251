"""A progress bar for what takes longer than two seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")

DELAY_S = 2.0


def progress(
    iterable: Iterable[Item], *, description: str, quiet: bool = False, total: int | None = None
) -> Iterable[Item]:
    """Yield the items and show how far they are, on stderr, once two seconds have passed.

    Silent when `quiet`, and when stderr is not a terminal. `total` is needed only where the iterable has no
    length.
    """
    if quiet:  # a silent bar has a lock as well, which a worker that is ended leaves behind with a warning
        return iterable
    # tqdm reads `disable=None` as: only when the file is not a terminal.
    return tqdm(iterable, desc=description, total=total, delay=DELAY_S, disable=None, leave=False)


@contextmanager
def counting(total: int, *, description: str, quiet: bool = False) -> Iterator[Callable[[int], None]]:
    """Yield a function that takes how many of `total` are done and shows it, as `progress` does."""
    if quiet:
        yield lambda done: None
        return
    with tqdm(total=total, desc=description, delay=DELAY_S, disable=None, leave=False) as bar:

        def show(done: int) -> None:
            bar.update(done - bar.n)

        yield show
