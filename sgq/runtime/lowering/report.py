"""What became of each layer when a model was lowered."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LoweredLayer:
    """One layer: its path and class, whether it runs on integers, and if not, why it stays simulated."""

    name: str
    kind: str
    lowered: bool
    reason: str = ""


@dataclass(frozen=True)
class LoweringReport:
    """The layers of a lowered model in the order of execution, and the form of its input features."""

    layers: tuple[LoweredLayer, ...]
    feature_form: str

    @property
    def simulated(self) -> tuple[LoweredLayer, ...]:
        """The layers that stay simulated."""
        return tuple(layer for layer in self.layers if not layer.lowered)

    def __str__(self) -> str:
        lines = [f"input features: {self.feature_form}"]
        for layer in self.layers:
            state = "integer" if layer.lowered else f"simulated: {layer.reason}"
            lines.append(f"{layer.name or '(model)'} {layer.kind}: {state}")
        return "\n".join(lines)
