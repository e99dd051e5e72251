"""The errors of sgq, by the part of the work that they belong to. See `quantizers.errors`."""

from __future__ import annotations

from quantizers.errors import QuantizerError, SgqError, nearest_name

__all__ = [
    "CheckpointError",
    "DataError",
    "GenotypeError",
    "LimitError",
    "ModelError",
    "PlanError",
    "ProfileError",
    "QuantizerError",
    "RecipeError",
    "SearchError",
    "SgqError",
    "UsageError",
    "nearest_name",
]


class UsageError(SgqError):
    """An argument is wrong: an unknown name, a missing file, an output folder that cannot be written."""

    exit_code = 2


class DataError(UsageError):
    """A data set is unknown, absent or broken (NaN features, no nodes)."""


class ModelError(UsageError):
    """A model is unknown, cannot be built, or does not run on the data."""


class GenotypeError(ModelError):
    """The file of an architecture is not valid; the message has a line `file:line:col: …` for every fault."""


class RecipeError(SgqError):
    """A recipe is not valid; the message has a line `file:line:col: …` for every fault."""

    exit_code = 3


class PlanError(SgqError):
    """A plan does not fit the model or the data that it is used with."""

    exit_code = 3


class CheckpointError(SgqError):
    """A checkpoint is unreadable or does not fit the model."""

    exit_code = 2


class ProfileError(SgqError):
    """A device profile or its measurements are unknown, unreadable, or lack a number that is asked for."""

    exit_code = 2


class LimitError(SgqError):
    """A limit of the recipe was not met; what was made is on disk all the same."""

    exit_code = 4


class SearchError(SgqError):
    """A search cannot start or go on: its space, limits, storage or study do not fit."""

    exit_code = 2
