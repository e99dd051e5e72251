from __future__ import annotations

import dataclasses
from collections.abc import Callable
from importlib import metadata
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

import quantizers
from quantizers import (
    FakeQuantize,
    Quantizer,
    QuantizerError,
    QuantizerSpec,
    create,
    names,
    register,
    registry,
)
from sgq.testing import ConformanceError, check_quantizer


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, object], None]:
    """Return a function that makes an object known as an entry point of distribution "plugin"."""
    monkeypatch.setattr(registry, "_factories", dict(registry._factories))

    def offered(name: str, target: object) -> None:
        def load() -> object:
            if isinstance(target, Exception):
                raise target
            return target

        entry = SimpleNamespace(
            name=name, value="plugin:Thing", dist=SimpleNamespace(name="plugin"), load=load
        )

        def entry_points(*, group: str, name: str | None = None) -> list[SimpleNamespace]:
            return [entry] if group == "sgq.quantizers" and name in (None, entry.name) else []

        monkeypatch.setattr(metadata, "entry_points", entry_points)

    return offered


def test_affine_is_registered_and_ours_is_marked() -> None:
    assert "affine" in names()
    assert isinstance(create(QuantizerSpec()), FakeQuantize)
    assert quantizers.DISTRIBUTION == "sgq"


def test_an_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(QuantizerError, match=r'unknown quantizer "afine". Did you mean "affine"'):
        create(QuantizerSpec(quantizer="afine"))


def test_a_name_is_registered_once(offer: Callable[[str, object], None]) -> None:
    @register("mine")
    class Mine(FakeQuantize):
        pass

    assert isinstance(create(QuantizerSpec(quantizer="mine")), Mine)
    with pytest.raises(QuantizerError, match=r'expected a new quantizer name .got "mine"'):
        register("mine")(FakeQuantize)


def test_an_entry_point_is_loaded_by_its_name(offer: Callable[[str, object], None]) -> None:
    offer("theirs", FakeQuantize)
    assert "theirs" in names()
    assert isinstance(create(QuantizerSpec(quantizer="theirs")), FakeQuantize)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (ImportError("no such module"), '"theirs" of plugin cannot be loaded from plugin:Thing: no such'),
        (3, '"theirs" of plugin: expected a factory at plugin:Thing .got int'),
        (lambda spec, channel_shape: torch.nn.Identity(), 'expected a Quantizer from "theirs" .got Identity'),
    ],
)
def test_a_broken_entry_point_is_an_error_that_names_it(
    offer: Callable[[str, object], None], target: object, message: str
) -> None:
    offer("theirs", target)
    with pytest.raises(QuantizerError, match=message):
        create(QuantizerSpec(quantizer="theirs"))


def test_the_affine_quantizer_conforms() -> None:
    observed: list[QuantizerSpec] = []

    def factory(spec: QuantizerSpec, *, channel_shape: tuple[int, ...] | None = None) -> Quantizer:
        observed.append(spec)
        return create(spec, channel_shape=channel_shape)

    check_quantizer(factory)
    assert {spec.granularity for spec in observed} == {"tensor", "channel", "node", "bucket"}


class Drifting(FakeQuantize):
    """Follows the data although it is frozen."""

    def forward(self, x: Tensor, bucket: Tensor | None = None) -> Tensor:
        self.observe(x, bucket)
        return super().forward(x, bucket)


class Shifting(FakeQuantize):
    """Moves 0."""

    def parameters_of(self, x: Tensor, bucket: Tensor | None = None) -> quantizers.AffineParameters:
        found = super().parameters_of(x, bucket)
        return dataclasses.replace(found, zero_point=found.zero_point + 0.25)


class Gradientless(FakeQuantize):
    """Gives gradients of 0."""

    def forward(self, x: Tensor, bucket: Tensor | None = None) -> Tensor:
        return super().forward(x.detach(), bucket) + 0 * x


@pytest.mark.parametrize(
    ("broken", "rule"),
    [
        (Drifting, "a fixed range in phase TRACK in eval mode"),
        (Shifting, "0 to stay exactly 0"),
        (Gradientless, "a gradient of 1 inside the range"),
    ],
)
def test_a_broken_quantizer_does_not_conform(broken: type[FakeQuantize], rule: str) -> None:
    with pytest.raises(ConformanceError, match=f"8 tensor: expected {rule}"):
        check_quantizer(broken)


def test_a_quantizer_that_refuses_everything_does_not_conform() -> None:
    def refuse(spec: QuantizerSpec, *, channel_shape: tuple[int, ...] | None = None) -> Quantizer:
        raise QuantizerError("no")

    with pytest.raises(AssertionError, match="accepts one of the specs"):
        check_quantizer(refuse)
