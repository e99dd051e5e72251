"""Conformance kit for quantizers of third parties: `check_quantizer(MyQuantizer)` in a test of theirs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from quantizers.base import Phase, Quantizer
from quantizers.errors import QuantizerError, SgqError
from quantizers.registry import QuantizerFactory
from quantizers.spec import FLOAT_BITS, QuantizerSpec

DEFAULT_SPECS = (
    QuantizerSpec(bits=8),
    QuantizerSpec(bits=4, symmetric=True, signed=True),
    QuantizerSpec(bits=1, symmetric=True, signed=True),
    QuantizerSpec(bits=4, granularity="channel", symmetric=True, signed=True),
    QuantizerSpec(bits=8, granularity="node"),
    QuantizerSpec(bits=(8, 4, 2), granularity="node"),
    QuantizerSpec(bits=(8, FLOAT_BITS, 2), granularity="bucket"),
)
"""One spec of each kind; a quantizer may refuse those that it cannot follow with QuantizerError."""

ROWS, COLUMNS = 12, 6


class ConformanceError(SgqError, AssertionError):
    """A quantizer does not keep to the contract; the message names the spec and the broken rule."""


@dataclass(frozen=True)
class _Case:
    """One spec under test, and the data that it is tested on: [12, 6] with a zero in each row."""

    factory: QuantizerFactory
    spec: QuantizerSpec
    x: Tensor
    bucket: Tensor | None

    def make(self, *, spec: QuantizerSpec | None = None) -> Quantizer:
        return self.factory(self.spec if spec is None else spec, channel_shape=(1, COLUMNS))

    def frozen(self) -> Quantizer:
        """Return a quantizer that has seen the data and is frozen."""
        quantizer = self.make()
        quantizer(self.x, self.bucket)
        quantizer.freeze()
        return quantizer

    def expect(self, holds: bool, rule: str) -> None:
        if not holds:
            raise ConformanceError(f"{self.spec}: expected {rule}")

    def expect_equal(self, got: Tensor, wanted: Tensor, rule: str) -> None:
        self.expect(got.shape == wanted.shape and torch.equal(got, wanted), rule)


def check_quantizer(factory: QuantizerFactory, *, specs: Iterable[QuantizerSpec] = DEFAULT_SPECS) -> None:
    """Run the whole contract on a quantizer class or factory, once for each spec that it accepts.

    The contract: phases, 0 stays 0, idempotence, 32 bits the identity, straight-through gradients that are
    clipped outside the range, state dict, deepcopy and dtype round trips, the same numbers compiled
    (`aot_eager`) and exported, and clear errors. Raises ConformanceError at the first broken rule, and
    where no spec is accepted. Resets torch.compile's caches.
    """
    accepted = 0
    for spec in specs:
        case = _Case(factory, spec, _example(), _bucket_ids(spec))
        try:
            quantizer = case.make()
        except QuantizerError:
            continue
        case.expect(isinstance(quantizer, Quantizer), f"a Quantizer (got {type(quantizer).__name__})")
        accepted += 1
        for check in CHECKS:
            check(case)
    if not accepted:
        raise ConformanceError("expected a quantizer that accepts one of the specs (got a refusal of each)")


def _check_phases(case: _Case) -> None:
    quantizer = case.make()
    case.expect(quantizer.phase is Phase.OBSERVE, f"phase OBSERVE at first (got {quantizer.phase})")
    case.expect_equal(quantizer(case.x, case.bucket), case.x, "an unchanged tensor in phase OBSERVE")
    quantizer.phase = Phase.TRACK
    quantizer.eval()
    before = quantizer(case.x, case.bucket)
    quantizer(case.x * 100, case.bucket)
    case.expect_equal(quantizer(case.x, case.bucket), before, "a fixed range in phase TRACK in eval mode")
    quantizer.train()
    quantizer.freeze()
    case.expect(quantizer.phase is Phase.FROZEN, "phase FROZEN after freeze()")
    quantizer(case.x * 100, case.bucket)
    case.expect_equal(quantizer(case.x, case.bucket), before, "a fixed range in phase FROZEN")


def _check_zero(case: _Case) -> None:
    if case.spec.symmetric and case.spec.signed and 1 in case.spec.widths:
        return
    got = case.frozen()(case.x, case.bucket)
    case.expect(bool((got[case.x == 0] == 0).all()), "0 to stay exactly 0")


def _check_idempotence(case: _Case) -> None:
    if case.spec.granularity == "node":
        return
    quantizer = case.frozen()
    once = quantizer(case.x, case.bucket)
    case.expect_equal(quantizer(once, case.bucket), once, "the same values when quantized twice")


def _check_float_identity(case: _Case) -> None:
    bits = case.spec.bits
    identity = replace(case.spec, bits=FLOAT_BITS if isinstance(bits, int) else (FLOAT_BITS,) * len(bits))
    quantizer = case.make(spec=identity)
    quantizer(case.x, case.bucket)
    quantizer.freeze()
    case.expect_equal(quantizer(case.x, case.bucket), case.x, "32 bits to be the bit-exact identity")


def _check_gradient(case: _Case) -> None:
    quantizer = case.frozen()
    near = (case.x * 0.1).requires_grad_()
    (gradient,) = torch.autograd.grad(quantizer(near, case.bucket).sum(), near)
    inside = case.x >= 0 if case.spec.symmetric and not case.spec.signed else torch.ones_like(case.x) == 1
    case.expect(bool((gradient[inside] == 1).all()), "a gradient of 1 inside the range")
    if case.spec.granularity == "node":
        return
    far = (case.x * 1000).requires_grad_()
    (gradient,) = torch.autograd.grad(quantizer(far, case.bucket).sum(), far)
    clipped = far.abs() > 100
    if case.bucket is not None:
        kept = torch.tensor([width == FLOAT_BITS for width in case.spec.widths])[case.bucket.long()]
        clipped = clipped & ~kept.unsqueeze(1)
    case.expect(bool((gradient[clipped] == 0).all()), "a gradient of 0 outside the range")


def _check_state_dict(case: _Case) -> None:
    quantizer = case.frozen()
    fresh = case.make()
    fresh.load_state_dict(quantizer.state_dict())
    fresh.freeze()
    wanted = quantizer(case.x, case.bucket)
    case.expect_equal(fresh(case.x, case.bucket), wanted, "the same values after a state-dict round trip")


def _check_deepcopy(case: _Case) -> None:
    quantizer = case.frozen()
    twin = copy.deepcopy(quantizer)
    wanted = quantizer(case.x, case.bucket)
    case.expect_equal(twin(case.x, case.bucket), wanted, "the same values from a deepcopy")
    twin.phase = Phase.OBSERVE
    twin(case.x * 100, case.bucket)
    case.expect_equal(quantizer(case.x, case.bucket), wanted, "a deepcopy that shares no state")


def _check_dtype(case: _Case) -> None:
    for quantizer in (case.frozen(), case.frozen().to(torch.float64)):
        got = quantizer(case.x.double(), case.bucket).dtype
        case.expect(got is torch.float64, f"float64 for float64 (got {got})")


def _check_compile_and_export(case: _Case) -> None:
    quantizer = case.frozen()
    wanted = quantizer(case.x, case.bucket)
    torch.compiler.reset()
    compiled = torch.compile(quantizer, backend="aot_eager", fullgraph=True)
    case.expect_equal(compiled(case.x, case.bucket), wanted, "the same values under torch.compile")
    program = torch.export.export(quantizer, (case.x, case.bucket)).module()
    case.expect_equal(program(case.x, case.bucket), wanted, "the same values from torch.export")


def _check_errors(case: _Case) -> None:
    fresh = case.make()
    if not fresh.has_range:
        fresh.freeze()
        _expect_refusal(case, lambda: fresh(case.x, case.bucket), "a frozen quantizer without a range")
    if case.bucket is not None:
        quantizer, short = case.frozen(), case.bucket[1:]
        _expect_refusal(case, lambda: quantizer(case.x, short), "too few bucket ids")
        _expect_refusal(case, lambda: quantizer(case.x, None), "no bucket ids")


CHECKS: tuple[Callable[[_Case], None], ...] = (
    _check_phases,
    _check_zero,
    _check_idempotence,
    _check_float_identity,
    _check_gradient,
    _check_state_dict,
    _check_deepcopy,
    _check_dtype,
    _check_errors,
    _check_compile_and_export,
)


def _expect_refusal(case: _Case, call: Callable[[], Tensor], what: str) -> None:
    try:
        call()
    except QuantizerError:
        return
    raise ConformanceError(f"{case.spec}: expected QuantizerError for {what} (got a result)")


def _example() -> Tensor:
    x = torch.randn(ROWS, COLUMNS, generator=torch.Generator().manual_seed(0))
    x[:, 0] = 0.0
    return x


def _bucket_ids(spec: QuantizerSpec) -> Tensor | None:
    return (torch.arange(ROWS) % len(spec.widths)).to(torch.uint8) if spec.bucketed else None
