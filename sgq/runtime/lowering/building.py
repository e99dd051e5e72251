"""Builds the steps of a lowered model, folding what follows a kernel into its finish."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from quantizers import Quantizer
from quantizers.affine import quantize
from quantizers.spec import FLOAT_BITS
from sgq.graph.swap import ARGUMENT, PARAMETER, RESULT, Swapped, slots_of
from sgq.runtime.finish import Activation, Finish
from sgq.runtime.lowering.cloud_steps import AssembleStep, DistanceStep, PoolStep
from sgq.runtime.lowering.graphs import EdgeForm, Edges
from sgq.runtime.lowering.preparing import FeatureForm
from sgq.runtime.lowering.steps import AggregateStep, LinearStep, PointwiseStep, Step, TorchStep
from sgq.runtime.packed import VECTOR
from sgq.runtime.quantization import Quantization, quantization_of
from sgq.runtime.weights import IntegerWeight, as_rows, in_float, tabled, tiled

LARGEST_INPUTS = 2**15
"""Inputs up to which sums of products of 8-bit numbers fit in 32 bits."""


FINISHING = (LinearStep, AggregateStep, PointwiseStep, AssembleStep, DistanceStep, PoolStep)
"""Steps whose kernels finish what they make."""


class CannotLower(Exception):
    """Why a layer has no integer form; it then stays simulated."""


@dataclass(frozen=True)
class Value:
    """A value of the program: its number, and what is known of it before it exists.

    `shared` tells that another name of the same value has readers of its own.

    `quantization` is the rule of its codes, None in fp32. `level` is what its rows are; `heads` how many
    heads its channels are split into, `channels` the channels of one. `features` marks the input features.
    """

    number: int
    channels: int
    level: Literal["node", "edge", "graph", "other"] = "node"
    quantization: Quantization | None = None
    heads: int = 1
    features: bool = False
    shared: bool = False

    @property
    def head_width(self) -> int:
        """Channels that a head takes, padding included."""
        return self.channels if self.heads == 1 else -(-self.channels // VECTOR) * VECTOR


class Builder:
    """Collects steps. Methods take and return Values; `sole` says that nothing else reads the value.

    `feature_form` is the form of the packed input features, None where they are not packed beforehand;
    `weighted` tells whether the edges that the next convolution sees have weights; `used` collects the
    quantizers that have become part of the program.
    """

    def __init__(self, feature_form: FeatureForm | None) -> None:
        self.steps: list[Step] = []
        self.forms: set[EdgeForm] = set()
        self.used: set[int] = set()
        self.feature_form = feature_form
        self.weighted = False
        self._numbers = 0
        self._producers: dict[int, Any] = {}

    def number(self) -> int:
        """Return a number that no value has yet."""
        self._numbers += 1
        return self._numbers - 1

    def add(self, step: Step, number: int) -> None:
        """Append a step that writes value `number`."""
        self.steps.append(step)
        self._producers[number] = step

    @contextmanager
    def undone_on_failure(self) -> Iterator[None]:
        """Take back the steps of a layer that turns out not to be lowerable half-way."""
        steps, used, forms = len(self.steps), set(self.used), set(self.forms)
        finishes = [getattr(step, "finish", None) for step in self.steps]
        try:
            yield
        except Exception:
            del self.steps[steps:]
            for step, finish in zip(self.steps, finishes, strict=True):
                if finish is not None:
                    step.finish = finish  # type: ignore[attr-defined]
            self.used, self.forms = used, forms
            raise

    def affine(self, value: Value, multiply: Tensor | None, add: Tensor | None, *, sole: bool) -> Value:
        """Return value · multiply + add, each [width] or None."""
        finish = self._open_finish(value, sole)
        step = self._producers.get(value.number)
        blocked = isinstance(step, LinearStep) and step.addend is not None and multiply is not None
        if finish is None or finish.activation != "none" or blocked:
            return self._pointwise(value, Finish(multiply=multiply, add=add))
        if multiply is not None:
            finish = finish.scaled(multiply)
            finish = replace(finish, add=None if finish.add is None else finish.add * multiply)
        if add is not None:
            finish = replace(finish, add=add if finish.add is None else finish.add + add)
        step.finish = finish  # type: ignore[union-attr]
        return value

    def activate(self, value: Value, activation: Activation, slope: float, *, sole: bool) -> Value:
        """Return the value after an activation."""
        if activation == "leaky_relu" and not 0.0 <= slope <= 1.0:
            raise CannotLower(f"a leaky ReLU whose slope is not between 0 and 1 ({slope:g})")
        finish = self._open_finish(value, sole)
        if finish is None or finish.activation != "none":
            return self._pointwise(value, Finish(activation=activation, slope=slope))
        self._producers[value.number].finish = replace(finish, activation=activation, slope=slope)
        return value

    def quantized(self, value: Value, quantizer: Quantizer | None, *, sole: bool) -> Value:
        """Return the value as a quantizer's codes; as it is without one."""
        if quantizer is None or quantizer.spec.is_float:
            return value
        check_affine(quantizer)
        if quantizer.spec.bucketed and value.level != "node":
            raise CannotLower(f"bits by degree bucket of rows that are no nodes ({value.level})")
        self.used.add(id(quantizer))
        rule = quantization_of(quantizer, heads=value.heads, channels=value.channels)
        finish = self._open_finish(value, sole)
        if finish is None:
            made = self._pointwise(value, Finish(quantization=rule, heads=value.heads))
        else:
            self._producers[value.number].finish = replace(finish, quantization=rule, heads=value.heads)
            made = value
        return replace(made, quantization=rule, heads=value.heads)

    def aggregate(
        self,
        value: Value,
        edges: Edges,
        reduction: Any = "sum",
        *,
        coefficients: Value | None = None,
    ) -> Value:
        """Return the value brought together over edges: of a form, or of the value of that number."""
        if (
            value.quantization is not None
            and value.quantization.per == "channel"
            and coefficients is not None
        ):
            raise CannotLower("attention over messages with a scale a channel")
        if isinstance(edges, EdgeForm):
            self.forms.add(edges)
        number = self.number()
        named = None if coefficients is None else coefficients.number
        self.add(AggregateStep(value.number, number, edges, reduction, named, value.heads), number)
        return Value(number, value.channels, value.level, heads=value.heads)

    def linear(
        self,
        value: Value,
        module: nn.Module,
        *,
        addend: Value | None = None,
        sole: bool = False,
        heads: int = 1,
    ) -> Value:
        """Return the value through a linear layer, its input and output quantizers included.

        `heads` splits the outputs, each padded to a multiple of 8. `addend` is added to the result.
        """
        value = self.quantized(value, slot(module, input_slot(module)), sole=sole)
        result = slot(module, RESULT)
        if result is not None and addend is not None:
            raise CannotLower("its output is quantized before another is added to it")
        weight, scale = self._whole_numbers(module)
        bias = getattr(module, "bias", None)
        made = self._multiply(value, weight, scale, heads=heads, addend=addend)
        if bias is not None:
            shift = _padded_columns(bias.detach().float().unsqueeze(0), heads).squeeze(0)
            made = self.affine(made, None, shift.contiguous(), sole=True)
        if result is not None and heads > 1 and result.spec.granularity == "channel":
            raise CannotLower("a scale a channel where heads are padded")
        return self.quantized(made, result, sole=True)

    def split_linear(self, value: Value, module: nn.Module, multiply: Tensor) -> tuple[Value, Value]:
        """Return (W_1 − W_2) x and W_2 x of a linear layer on [x, y − x], its outputs times `multiply`."""
        weight, scale = self._whole_numbers(module)
        target, source = weight[: value.channels], weight[value.channels :]
        if scale is None:
            target, source = target * multiply, source * multiply
        else:
            scale = scale * multiply
        made = [
            self._multiply(value, part.contiguous(), scale, heads=1, addend=None)
            for part in (target - source, source)
        ]
        return made[0], made[1]

    def _multiply(
        self, value: Value, integers: Tensor, scale: Tensor | None, *, heads: int, addend: Value | None
    ) -> Value:
        channels = integers.size(1) // heads
        integers = _padded_columns(integers, heads)
        if scale is not None:
            scale = scale.expand(channels * heads)
            scale = _padded_columns(scale.unsqueeze(0), heads).squeeze(0).contiguous()
        number = self.number()
        weight = self._weight_for(value, integers, scale)
        self.add(
            LinearStep(value.number, number, weight, addend=None if addend is None else addend.number), number
        )
        return Value(number, channels, value.level, heads=heads)

    def _weight_for(self, value: Value, integers: Tensor, scale: Tensor | None) -> IntegerWeight:
        if scale is not None and value.features and self.feature_form == "sparse":
            return as_rows(integers, scale)
        if scale is not None and value.features and self.feature_form == "bits":
            return tabled(integers, scale)
        rule = value.quantization
        narrow = (
            rule is not None
            and rule.per != "channel"
            and max(rule.spec.widths) <= 8
            and integers.size(0) <= LARGEST_INPUTS
        )
        if scale is not None and narrow:
            return tiled(integers, scale)
        return in_float(integers if scale is None else integers * scale)

    def _whole_numbers(self, module: nn.Module) -> tuple[Tensor, Tensor | None]:
        """Return a linear layer's weight [inputs, outputs] in whole numbers, and scales; None for fp32."""
        raw = module._parameters["weight"]
        assert raw is not None
        quantizer = _quantizer(slots_of(module).get(f"{PARAMETER}weight"))
        weight = raw.detach().float()
        if quantizer is None or quantizer.spec.is_float:
            return weight.t().contiguous(), None
        check_affine(quantizer)
        self.used.add(id(quantizer))
        parameters = quantizer.parameters_of(weight)
        if max(quantizer.spec.widths) > 8 or FLOAT_BITS in quantizer.spec.widths:
            return quantizer(weight).t().contiguous(), None
        whole = quantize(weight, parameters) - parameters.zero_point
        if parameters.scale.numel() not in (1, weight.size(0)):
            return quantizer(weight).t().contiguous(), None
        scale = parameters.scale.reshape(-1).expand(weight.size(0))
        halves = bool((whole != whole.round()).any())
        factor = 2.0 if halves else 1.0  # one-bit symmetric codes stand for -1/2 and 1/2
        return (whole * factor).t().contiguous(), (scale / factor).contiguous()

    def is_torch(self, value: Value) -> bool:
        """Whether torch makes a value, maybe as a view of another one."""
        return isinstance(self._producers.get(value.number), TorchStep)

    def _open_finish(self, value: Value, sole: bool) -> Finish | None:
        """Return the finish of the step that makes a value, where more can be folded into it."""
        step = self._producers.get(value.number)
        if not sole or not isinstance(step, FINISHING):
            return None
        return None if step.finish.quantization is not None else step.finish

    def _pointwise(self, value: Value, finish: Finish) -> Value:
        number = self.number()
        self.add(PointwiseStep(value.number, number, finish), number)
        return replace(value, number=number, quantization=finish.quantization, features=False, shared=False)


def base_class(module: nn.Module) -> type[nn.Module]:
    """Return the class that the user wrote, of a wrapped module or a float one."""
    return type(module).swapped_from if isinstance(module, Swapped) else type(module)


def input_slot(module: nn.Module) -> str:
    """Return the slot of the first argument of a module's forward."""
    parameters = list(inspect.signature(base_class(module).forward).parameters)
    return f"{ARGUMENT}{parameters[1]}"


def check_affine(quantizer: Quantizer) -> None:
    """Raise CannotLower for a quantizer whose codes are not affine."""
    if quantizer.spec.quantizer != "affine":
        raise CannotLower(f'codes of the quantizer "{quantizer.spec.quantizer}"')


def slot(module: nn.Module, name: str) -> Quantizer | None:
    """Return the quantizer in a slot of a module, or None."""
    return _quantizer(slots_of(module).get(name))


def _quantizer(module: nn.Module | None) -> Quantizer | None:
    return module if isinstance(module, Quantizer) else None


def _padded_columns(matrix: Tensor, heads: int) -> Tensor:
    """Return [rows, heads · channels] with the channels of each head padded to a multiple of 8."""
    if heads == 1:
        return matrix
    by_head = matrix.reshape(matrix.size(0), heads, -1)
    padding = -by_head.size(2) % VECTOR
    return torch.nn.functional.pad(by_head, (0, padding)).reshape(matrix.size(0), -1)
