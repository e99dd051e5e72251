"""Quantizers by name: those registered here, and third parties' in the entry-point group."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import TYPE_CHECKING, Protocol, TypeVar

from quantizers.errors import QuantizerError, nearest_name
from quantizers.spec import QuantizerSpec

if TYPE_CHECKING:
    from quantizers.base import Quantizer

ENTRY_POINT_GROUP = "sgq.quantizers"


class QuantizerFactory(Protocol):
    """Makes the quantizer that a spec asks for, or raises QuantizerError; a Quantizer class is one."""

    def __call__(self, spec: QuantizerSpec, *, channel_shape: tuple[int, ...] | None = None) -> Quantizer:
        """Return a new quantizer."""
        ...


Factory = TypeVar("Factory", bound=QuantizerFactory)

_BUILT_IN: Mapping[str, tuple[str, str]] = {"affine": ("quantizers.affine_quantizer", "create_affine")}
"""Name -> module and factory; they load torch, which naming them does not need."""

_factories: dict[str, QuantizerFactory] = {}


def register(name: str) -> Callable[[Factory], Factory]:
    """Return a decorator that makes a factory known as `name`; a second one of that name is an error."""

    def decorate(factory: Factory) -> Factory:
        if name in _BUILT_IN or _factories.setdefault(name, factory) is not factory:
            raise QuantizerError(f'expected a new quantizer name (got "{name}", which is registered)')
        return factory

    return decorate


def create(spec: QuantizerSpec, *, channel_shape: tuple[int, ...] | None = None) -> Quantizer:
    """Return the quantizer that a spec asks for.

    An unknown name is looked up in the entry-point group `sgq.quantizers`. `channel_shape` is needed for
    granularity `channel`. Raises QuantizerError for an unknown name (with the nearest one), for a broken
    entry point (with its distribution), and for a spec that the quantizer cannot follow.
    """
    from quantizers.base import Quantizer

    factory = _built_in(spec.quantizer) or _factories.get(spec.quantizer) or _from_entry_point(spec.quantizer)
    quantizer = factory(spec, channel_shape=channel_shape)
    if not isinstance(quantizer, Quantizer):
        raise QuantizerError(f'expected a Quantizer from "{spec.quantizer}" (got {type(quantizer).__name__})')
    return quantizer


def names() -> tuple[str, ...]:
    """Return the names that `create` knows, sorted; entry points are listed but not loaded."""
    found = {entry.name for entry in metadata.entry_points(group=ENTRY_POINT_GROUP)}
    return tuple(sorted(found | set(_factories) | set(_BUILT_IN)))


def _built_in(name: str) -> QuantizerFactory | None:
    if name not in _BUILT_IN:
        return None
    module, attribute = _BUILT_IN[name]
    factory: QuantizerFactory = getattr(importlib.import_module(module), attribute)
    return factory


def _from_entry_point(name: str) -> QuantizerFactory:
    for entry in metadata.entry_points(group=ENTRY_POINT_GROUP, name=name):
        origin = entry.dist.name if entry.dist is not None else "an unknown distribution"
        try:
            factory: QuantizerFactory = entry.load()
        except Exception as error:
            # Whatever a third party's import raises, the user needs to know whose it is.
            raise QuantizerError(
                f'quantizer "{name}" of {origin} cannot be loaded from {entry.value}: {error}'
            ) from error
        if not callable(factory):
            raise QuantizerError(
                f'quantizer "{name}" of {origin}: expected a factory at {entry.value} '
                f"(got {type(factory).__name__})"
            )
        return _factories.setdefault(name, factory)
    known = names()
    raise QuantizerError(f'unknown quantizer "{name}".{nearest_name(name, known)} Known: {", ".join(known)}')
