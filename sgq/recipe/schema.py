"""The schema of a recipe file: frozen pydantic models that accept nothing they do not know.

What spans several parts of a recipe is checked in `sgq.recipe.parsing` with `Rule.clashes` and
`Rule.bucket_clashes`, so that every fault of a file is reported at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from quantizers.errors import QuantizerError
from quantizers.spec import Granularity, ObserverSpec
from sgq.graph.sites import COMPONENT_GROUPS, COMPONENTS, Component, Rows
from sgq.recipe.values import NOT_EMPTY, Flag, Number, QuantizerName, Text, Whole, Width, byte_count, one_of

SampledObserver = Literal["minmax", "moving_average", "percentile", "mse"]
AxisName = Annotated[Text, Field(min_length=1)]


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) < len(values):
        raise ValueError(f"expected choices that differ (got {list(values)})")
    return values


def is_mapping(tag: str, *, other: str) -> Callable[[Any], str]:
    """Return what tells the tag of a union of a mapping and something else."""
    return lambda value: tag if isinstance(value, Mapping | BaseModel) else other


class Part(BaseModel):
    """A part of a recipe: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class WidthChoices(Part):
    """Widths that a search chooses from; places that name the same `axis` share one choice."""

    choices: Annotated[tuple[Width, ...], NOT_EMPTY]
    axis: AxisName | None = None
    _differ = field_validator("choices")(_distinct)


class QuantizerChoices(Part):
    """Quantizers that a search chooses from."""

    choices: Annotated[tuple[QuantizerName, ...], NOT_EMPTY]
    _differ = field_validator("choices")(_distinct)


WidthOrChoices = Annotated[
    Annotated[Width, Tag("a width")] | Annotated[WidthChoices, Tag("width choices")],
    Discriminator(is_mapping("width choices", other="a width")),
]


class WidthTable(Part):
    """Widths by degree bucket, or widths that a search chooses from: exactly one of the two.

    `axis` goes with `choices`, see `WidthChoices`.
    """

    by_bucket: Annotated[tuple[WidthOrChoices, ...], NOT_EMPTY] | None = None
    choices: Annotated[tuple[Width, ...], NOT_EMPTY] | None = None
    axis: AxisName | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> WidthTable:
        if (self.by_bucket is None) == (self.choices is None):
            raise ValueError("expected either by_bucket or choices")
        if self.axis is not None and self.choices is None:
            raise ValueError("expected axis beside choices, not beside by_bucket")
        _distinct(self.choices or ())
        return self

    @property
    def is_space(self) -> bool:
        """Whether a search has something to choose."""
        return self.choices is not None or any(isinstance(w, WidthChoices) for w in self.by_bucket or ())


class DegreeBuckets(Part):
    """Ranges of in-degree: their boundaries, or how many equally filled ones."""

    edges: Annotated[tuple[Whole, ...], NOT_EMPTY] | None = None
    quantiles: Annotated[Whole, Field(ge=2, le=16)] | None = None

    @field_validator("edges")
    @classmethod
    def _increasing(cls, edges: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if edges and (edges[0] < 1 or any(low >= high for low, high in pairwise(edges))):
            raise ValueError(f"expected in-degrees from 1 that strictly increase (got {list(edges)})")
        return edges

    @model_validator(mode="after")
    def _one_kind(self) -> DegreeBuckets:
        if (self.edges is None) == (self.quantiles is None):
            raise ValueError("expected either edges or quantiles")
        return self

    @property
    def count(self) -> int:
        """How many buckets there are."""
        return self.quantiles if self.quantiles is not None else len(self.edges or ()) + 1


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


ComponentName = Annotated[str, one_of((*COMPONENTS, *COMPONENT_GROUPS, "*"))]


class Match(Part):
    """Which sites a rule is for: all conditions must hold for one of the site's names."""

    module: Text = "*"
    component: Annotated[tuple[ComponentName, ...], BeforeValidator(_as_list), NOT_EMPTY] = ("*",)
    tensor: Text | None = None
    rows: Annotated[Rows, one_of(get_args(Rows))] | None = None

    @property
    def components(self) -> frozenset[Component]:
        """The components that match, with groups and `*` written out."""
        groups: dict[str, tuple[Component, ...]] = {name: (name,) for name in COMPONENTS}
        groups |= {**COMPONENT_GROUPS, "*": COMPONENTS}
        return frozenset(component for name in self.component for component in groups[name])


def _as_kind(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


def _no_fixed(value: Any) -> Any:
    if value == "fixed":
        raise ValueError('a fixed range is written as "range: [lower, upper]", without observer')
    return value


class ObserverRule(Part):
    """How ranges are read off data; see `quantizers.spec.ObserverSpec`."""

    kind: Annotated[SampledObserver, one_of(get_args(SampledObserver)), BeforeValidator(_no_fixed)] = "minmax"
    momentum: Annotated[Number, Field(gt=0, le=1)] = 0.1
    q: Annotated[Number, Field(gt=0.5, le=1)] = 0.999


class Rule(Part):
    """One rule: which sites, and what they become. `bits: float` (or 32) keeps them in float."""

    match: Match = Match()
    bits: Annotated[
        Annotated[Width, Tag("a width")] | Annotated[WidthTable, Tag("a table")],
        Discriminator(is_mapping("a table", other="a width")),
    ]
    quantizer: Annotated[
        Annotated[QuantizerName, Tag("a name")] | Annotated[QuantizerChoices, Tag("quantizer choices")],
        Discriminator(is_mapping("quantizer choices", other="a name")),
    ] = "affine"
    granularity: Annotated[Granularity, one_of(get_args(Granularity))] | None = None
    symmetric: Flag | None = None
    signed: Flag | None = None
    observer: Annotated[ObserverRule, BeforeValidator(_as_kind)] | None = None
    range: tuple[Number, Number] | None = None
    optional: Flag = False

    @field_validator("range")
    @classmethod
    def _includes_zero(cls, bounds: tuple[float, float] | None) -> tuple[float, float] | None:
        if bounds is not None:
            try:
                ObserverSpec("fixed", lower=bounds[0], upper=bounds[1])
            except QuantizerError as error:
                raise ValueError(str(error)) from None
        return bounds

    @property
    def by_bucket(self) -> tuple[int | WidthChoices, ...] | None:
        """One width (or its choices) a degree bucket, or None."""
        return self.bits.by_bucket if isinstance(self.bits, WidthTable) else None

    @property
    def bucketed(self) -> bool:
        """Whether rows are told apart by degree bucket."""
        return self.by_bucket is not None or self.granularity == "bucket"

    @property
    def choice_keys(self) -> tuple[str, ...]:
        """The keys whose value is left to a search."""
        keys = ("bits",) if isinstance(self.bits, WidthTable) and self.bits.is_space else ()
        return (*keys, "quantizer") if isinstance(self.quantizer, QuantizerChoices) else keys

    def clashes(self) -> Iterator[str]:
        """Say what in this rule contradicts itself."""
        if self.range is not None and self.observer is not None:
            yield "expected range or observer, not both: a range is fixed"
        if self.by_bucket is not None and self.granularity in ("tensor", "channel"):
            yield f'by_bucket needs granularity "bucket" or "node" (got "{self.granularity}")'

    def bucket_clashes(self, buckets: int) -> Iterator[str]:
        """Say how this rule does not fit `buckets` degree buckets (0: there are none)."""
        if not self.bucketed:
            return
        what = "by_bucket" if self.by_bucket is not None else 'granularity "bucket"'
        if buckets == 0:
            yield f"{what} needs degree_buckets, which the recipe does not have"
        elif self.by_bucket is not None and len(self.by_bucket) != buckets:
            yield f"expected {buckets} widths in by_bucket, one a degree bucket (got {len(self.by_bucket)})"


def _version(value: Any) -> Any:
    # Python holds 1 == True == 1.0, and so does a Literal.
    if type(value) is not int or value != 1:
        raise ValueError(f"expected 1, the only version of this format (got {value!r})")
    return value


FormatVersion = Annotated[Literal[1], BeforeValidator(_version)]


class CalibrateRule(Part):
    """How ranges are found before finetuning."""

    batches: Annotated[Whole, Field(ge=1)] = 16


class FinetuneRule(Part):
    """How the quantized model is trained on; see `sgq.recipe.plan.Finetuning`."""

    epochs: Annotated[Whole, Field(ge=0)] = 0
    lr: Annotated[Number, Field(gt=0)] | None = None
    weight_decay: Annotated[Number, Field(ge=0)] | None = None
    observe: Annotated[Number, Field(ge=0, le=1)] = 0.5
    distill: Annotated[Number, Field(ge=0, le=1)] = 0.0
    evaluate_every: Annotated[Whole, Field(ge=1)] = 1
    select_on: Literal["val", "last"] = "val"


class LimitsRule(Part):
    """What a result must hold; bytes as a number or with a unit (`300kB`, `2MiB`).

    A drop of accuracy is on validation and from the float model, in a search from the widest bits.
    """

    packed_bytes: Annotated[Whole, BeforeValidator(byte_count), Field(ge=1)] | None = None
    accuracy_drop: Annotated[Number, Field(ge=0, le=1)] | None = None


class Recipe(Part):
    """A recipe: rules that resolve to the specs of a model's sites, and how to calibrate and finetune."""

    version: FormatVersion
    name: Annotated[Text, Field(min_length=1)]
    about: Text = ""
    degree_buckets: DegreeBuckets | None = None
    rules: Annotated[tuple[Rule, ...], NOT_EMPTY]
    calibrate: CalibrateRule = CalibrateRule()
    finetune: FinetuneRule = FinetuneRule()
    limits: LimitsRule = LimitsRule()

    @property
    def is_space(self) -> bool:
        """Whether some values are choices: a search resolves those, `resolve` does not."""
        return any(rule.choice_keys for rule in self.rules)


PARTS: Mapping[tuple[str, ...], type[Part]] = {
    (): Recipe,
    ("degree_buckets",): DegreeBuckets,
    ("rules",): Rule,
    ("rules", "match"): Match,
    ("rules", "bits"): WidthTable,
    ("rules", "bits", "by_bucket"): WidthChoices,
    ("rules", "quantizer"): QuantizerChoices,
    ("rules", "observer"): ObserverRule,
    ("calibrate",): CalibrateRule,
    ("finetune",): FinetuneRule,
    ("limits",): LimitsRule,
}
"""Which model describes the mapping at a path (list indices left out): where its valid keys are found."""
