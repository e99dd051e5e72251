"""The limits of `sgq bits`: given on the command line, or else those of the space's recipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sgq.errors import UsageError

if TYPE_CHECKING:
    from sgq.bits.limits import Limits
    from sgq.recipe.schema import LimitsRule


def parse_limits(given: Sequence[str], of_recipe: LimitsRule) -> Limits:
    """Return the limits of texts such as `accuracy_drop=0.004` or `memory=300kB`.

    Raises UsageError for a text of another form, SearchError for an unknown name or a value that cannot be.
    """
    from sgq.bits.limits import Limits
    from sgq.recipe.values import byte_count

    if not given:
        written = {"accuracy_drop": of_recipe.accuracy_drop, "memory": of_recipe.packed_bytes}
        return Limits.of({name: value for name, value in written.items() if value is not None})
    limits: dict[str, Any] = {}
    for text in given:
        name, sign, value = text.partition("=")
        if not sign or not name or name in limits:
            raise UsageError(f"expected --limit NAME=VALUE, each name once (got {text!r})")
        try:
            limits[name] = float(value)
        except ValueError:
            try:
                limits[name] = float(byte_count(value)) if name == "memory" else value
            except ValueError as error:
                raise UsageError(f"--limit {name}: {error}") from error
    return Limits.of(limits)
