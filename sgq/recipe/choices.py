"""The choices that a recipe leaves to a search, by name.

Each `choices` in the file is one axis, and those that name the same `axis` are one together. Without such a
name an axis is called after its rule's match (`convs.0:message`), with the degree bucket behind a width of
`by_bucket` (`convs.0:message[0]`) and `.quantizer` behind the choice of a quantizer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from sgq.recipe.positions import Fault, Positions
from sgq.recipe.schema import Match, QuantizerChoices, Recipe, Rule, WidthChoices, WidthTable


@dataclass(frozen=True)
class Choosable:
    """One place of a recipe where something is left open, and the name of its axis.

    `rule` counts from 0; `bucket` is None for a width of a whole site; `choices` are bits, or quantizers'
    names. `shared` tells whether the recipe itself names the axis.
    """

    name: str
    rule: int
    bucket: int | None
    choices: tuple[int, ...] | tuple[str, ...]
    shared: bool = False

    @property
    def of_quantizer(self) -> bool:
        """Whether a quantizer is chosen and not a width."""
        return isinstance(self.choices[0], str)


def choosable(recipe: Recipe) -> tuple[Choosable, ...]:
    """Return what a recipe leaves to a search, in the order of the file.

    Rules of one match are told apart by their number.
    """
    found = [item for index, rule in enumerate(recipe.rules) for item in _of_rule(index, rule)]
    counts = Counter(item.name for item in found)
    return tuple(
        item
        if item.shared or counts[item.name] == 1
        else replace(item, name=f"{item.name} (rule {item.rule + 1})")
        for item in found
    )


def axis_faults(recipe: Recipe, positions: Positions) -> Iterator[Fault]:
    """Yield a fault for every place whose choices are not those of the axis that it shares."""
    first: dict[str, Choosable] = {}
    for item in choosable(recipe):
        known = first.setdefault(item.name, item)
        if set(known.choices) != set(item.choices):
            yield Fault(
                positions.of_value(("rules", item.rule)),
                f'rule {item.rule + 1}: axis "{item.name}" has choices {list(known.choices)} in rule '
                f"{known.rule + 1} (got {list(item.choices)})",
            )


def _of_rule(index: int, rule: Rule) -> Iterator[Choosable]:
    name = _name(rule.match)
    if isinstance(rule.bits, WidthTable):
        if rule.bits.choices is not None:
            yield _width(name, index, None, rule.bits.choices, rule.bits.axis)
        for bucket, width in enumerate(rule.bits.by_bucket or ()):
            if isinstance(width, WidthChoices):
                yield _width(f"{name}[{bucket}]", index, bucket, width.choices, width.axis)
    if isinstance(rule.quantizer, QuantizerChoices):
        yield Choosable(f"{name}.quantizer", index, None, rule.quantizer.choices)


def _width(name: str, rule: int, bucket: int | None, choices: tuple[int, ...], axis: str | None) -> Choosable:
    return Choosable(axis or name, rule, bucket, choices, shared=axis is not None)


def _name(match: Match) -> str:
    tensor = f".{match.tensor}" if match.tensor else ""
    return f"{match.module}:{'+'.join(match.component)}{tensor}"
