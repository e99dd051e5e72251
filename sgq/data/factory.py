"""`package.module:factory`: how a user names an object of their own on the command line."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

from sgq.errors import UsageError, nearest_name


def is_factory_path(spec: str) -> bool:
    """Return whether `spec` is written as `package.module:factory`."""
    module, colon, attribute = spec.partition(":")
    return bool(colon) and all(part.isidentifier() for part in (*module.split("."), *attribute.split(".")))


def import_factory(spec: str) -> Any:
    """Return the object that `package.module:factory` names; raise UsageError where there is none.

    The working directory is importable, as for `python -m`.
    """
    if not is_factory_path(spec):
        raise UsageError(f"expected package.module:factory (got {spec!r})")
    module_name, _, attribute = spec.partition(":")
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())
    try:
        found: Any = importlib.import_module(module_name)
    except ImportError as error:
        raise UsageError(
            f"cannot import {module_name} of {spec!r}: {error}. "
            "Run from the folder that holds it, or install it"
        ) from error
    except Exception as error:  # a user's module may raise anything
        raise UsageError(f"importing {module_name} failed: {type(error).__name__}: {error}") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            names = [name for name in vars(found) if not name.startswith("_")]
            raise UsageError(f"{module_name} has no {attribute}.{nearest_name(part, names)}")
        found = getattr(found, part)
    return found
