"""What a quantizer is asked to be: bits, granularity, signedness, and how its range is found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from quantizers.errors import QuantizerError, nearest_name

Granularity = Literal["tensor", "channel", "node", "bucket"]
ObserverKind = Literal["minmax", "moving_average", "percentile", "mse", "fixed"]

MAX_BITS = 16
FLOAT_BITS = 32
GREATEST_FLOAT, LEAST_FLOAT = (2 - 2**-23) * 2.0**127, 2.0**-126
"""The greatest number of fp32 and the least normal one: ranges are computed in it."""


def check_bits(bits: int) -> int:
    """Return `bits` if it is a width we can quantize to: 1 to 16, or 32 for the identity."""
    if (
        isinstance(bits, bool)
        or not isinstance(bits, int)
        or not (1 <= bits <= MAX_BITS or bits == FLOAT_BITS)
    ):
        raise QuantizerError(f"expected bits in 1 to {MAX_BITS}, or {FLOAT_BITS} for float (got {bits!r})")
    return bits


@dataclass(frozen=True)
class ObserverSpec:
    """How the range of a tensor is found.

    `minmax` keeps the widest range seen, `moving_average` an exponential average (new batches weigh
    `momentum`), `percentile` the quantiles `1 - q` and `q`, `mse` the clipping with the least squared
    error, `fixed` the given `lower` and `upper`.
    """

    kind: ObserverKind = "minmax"
    momentum: float = 0.1
    q: float = 0.999
    lower: float | None = None
    upper: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(ObserverKind):
            known = get_args(ObserverKind)
            raise QuantizerError(
                f'unknown observer "{self.kind}".{nearest_name(self.kind, known)} Known: {", ".join(known)}'
            )
        if not 0.0 < self.momentum <= 1.0:
            raise QuantizerError(f"expected momentum in (0, 1] (got {self.momentum!r})")
        if not 0.5 < self.q <= 1.0:
            raise QuantizerError(f"expected q in (0.5, 1] (got {self.q!r})")
        if (self.kind == "fixed") != (self.lower is not None and self.upper is not None):
            raise QuantizerError("a fixed observer, and only that, has lower and upper")
        if self.lower is not None and self.upper is not None and not self.lower <= 0.0 <= self.upper:
            raise QuantizerError(f"expected a range that includes 0 (got [{self.lower}, {self.upper}])")
        if self.lower is None or self.upper is None:
            return
        if self.lower == self.upper:
            raise QuantizerError("expected a range wider than 0 (got [0, 0])")
        if not LEAST_FLOAT <= self.upper - self.lower <= GREATEST_FLOAT:
            raise QuantizerError(
                f"expected a range whose width fp32 holds (got [{self.lower}, {self.upper}])"
            )


@dataclass(frozen=True)
class QuantizerSpec:
    """One quantizer: which kind, how many bits, how fine its scales are, and how ranges are found.

    `bits` is one width, or one width a degree bucket. Granularity: one scale for the `tensor`, for each
    `channel`, for each `node` (row; its range is read off the row itself whenever it is quantized), or
    for each degree `bucket`. Several widths need `bucket` or `node`. `signed` codes run from
    -2^(b-1), unsigned ones from 0. Symmetric codes have zero point 0; signed they are
    -(2^(b-1)-1) … 2^(b-1)-1, and {-s, +s} at one bit.
    """

    bits: int | tuple[int, ...] = 8
    quantizer: str = "affine"
    granularity: Granularity = "tensor"
    symmetric: bool = False
    signed: bool = False
    observer: ObserverSpec = ObserverSpec()

    def __post_init__(self) -> None:
        for width in self.widths:
            check_bits(width)
        if not self.widths:
            raise QuantizerError("expected at least one width (got none)")
        if self.granularity not in get_args(Granularity):
            known = get_args(Granularity)
            raise QuantizerError(
                f'unknown granularity "{self.granularity}".{nearest_name(self.granularity, known)} '
                f"Known: {', '.join(known)}"
            )
        if isinstance(self.bits, tuple) and self.granularity not in ("bucket", "node"):
            raise QuantizerError(
                f'bits by bucket need granularity "bucket" or "node" (got "{self.granularity}")'
            )
        if isinstance(self.bits, int) and self.granularity == "bucket":
            raise QuantizerError('granularity "bucket" needs one width a bucket')

    @property
    def widths(self) -> tuple[int, ...]:
        """The widths, one a bucket; one entry when there are no buckets."""
        return self.bits if isinstance(self.bits, tuple) else (self.bits,)

    @property
    def bucketed(self) -> bool:
        """Whether rows need bucket ids."""
        return isinstance(self.bits, tuple)

    @property
    def is_float(self) -> bool:
        """Whether every row stays in float (32 bits)."""
        return all(width == FLOAT_BITS for width in self.widths)

    def to_json(self) -> dict[str, Any]:
        """Return plain data; `from_json` is its exact inverse."""
        observer = {"kind": self.observer.kind, "momentum": self.observer.momentum, "q": self.observer.q}
        if self.observer.kind == "fixed":
            observer |= {"lower": self.observer.lower, "upper": self.observer.upper}  # type: ignore[dict-item]
        return {
            "bits": list(self.bits) if isinstance(self.bits, tuple) else self.bits,
            "quantizer": self.quantizer,
            "granularity": self.granularity,
            "symmetric": self.symmetric,
            "signed": self.signed,
            "observer": observer,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> QuantizerSpec:
        """Rebuild a spec from what `to_json` gave."""
        bits = data["bits"]
        return cls(
            bits=tuple(bits) if isinstance(bits, list) else bits,
            quantizer=data["quantizer"],
            granularity=data["granularity"],
            symmetric=data["symmetric"],
            signed=data["signed"],
            observer=ObserverSpec(**data["observer"]),
        )

    def __str__(self) -> str:
        """Short form for tables: `8/4/4/2 bucket`, `4 channel symmetric`."""
        widths = "/".join(str(width) for width in self.widths)
        parts = [widths, self.granularity] + (["symmetric"] if self.symmetric else [])
        parts += [] if self.quantizer == "affine" else [self.quantizer]
        return " ".join(parts)
