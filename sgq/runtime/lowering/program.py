"""`sgq.lower`: a traced model as a program; each node becomes steps, or is left to torch."""

from __future__ import annotations

import copy
import inspect
import operator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch_geometric.nn.conv import MessagePassing

from quantizers import Quantizer
from sgq.errors import ModelError, PlanError
from sgq.graph.inputs import ADJACENCY_ARGUMENTS, arguments_of, call
from sgq.graph.swap import ARGUMENT, RESULT, ROOT_BUCKETS, slots_of
from sgq.graph.wrap import quantizers_of
from sgq.models.dropout import densify
from sgq.models.readout import Readout
from sgq.models.searched import SearchedModel
from sgq.runtime.lowering.building import (
    Builder,
    CannotLower,
    Value,
    base_class,
    check_affine,
    input_slot,
    slot,
)
from sgq.runtime.lowering.graphs import PreparedInputs
from sgq.runtime.lowering.layers import IDENTITIES, MULTIPLY_FIRST, lower_convolution, lower_module
from sgq.runtime.lowering.model import (
    FEATURES,
    WEIGHTS,
    LoweredModel,
    PackedInput,
    first_features,
    has_sparse_weights,
)
from sgq.runtime.lowering.report import LoweredLayer, LoweringReport
from sgq.runtime.lowering.searched import SearchedLowering
from sgq.runtime.lowering.steps import TorchStep, Values, in_float
from sgq.runtime.lowering.traced_nodes import (
    attribute_of,
    channels_of,
    check_in_place,
    is_idle_dropout,
    is_sole,
    keyword,
    without_argument,
)
from sgq.runtime.lowering.tracing import trace
from sgq.runtime.quantization import quantization_of

ACTIVATIONS: dict[Any, tuple[Any, float]] = {
    torch.relu: ("relu", 0.0),
    nn.functional.relu: ("relu", 0.0),
    "relu": ("relu", 0.0),
    nn.functional.elu: ("elu", 1.0),
    nn.functional.leaky_relu: ("leaky_relu", 0.01),
}
"""Functions and methods that a kernel's finish computes, with their default slope."""
ELEMENTWISE = (
    operator.add, operator.sub, operator.mul, operator.truediv, operator.neg, torch.add, torch.sub, torch.mul,
    torch.div, torch.cat, torch.sigmoid, torch.tanh, nn.functional.gelu, nn.functional.silu,
    nn.functional.log_softmax, nn.functional.softmax, nn.functional.normalize, "sigmoid", "tanh",
    "log_softmax", "softmax", "float", "contiguous",
)  # fmt: skip
"""What torch computes row by row, in whatever order the rows are."""


def lower(model: nn.Module, data: Any) -> LoweredModel:
    """Return a calibrated model as one that computes on packed integers, layer by layer.

    `model` is a wrapped model (`Applied.model`, or what `sgq.load` gives), `data` a graph or a batch of
    graphs as it is called with. Layers without an integer form stay simulated: `report.layers` says which and
    why. Raises PlanError for a model without calibrated quantizers.
    """
    quantizers = quantizers_of(model)
    if not quantizers:
        raise PlanError("expected a quantized model (got a float one): apply a recipe to it first")
    loose = [path for path, one in quantizers.items() if not one.has_range]
    if loose:
        raise PlanError(
            f"expected a calibrated model (got no range in {', '.join(loose[:6])}): call sgq.calibrate"
        )
    frozen = copy.deepcopy(model).eval().requires_grad_(False)
    args, keywords = arguments_of(frozen, data)
    names = list(inspect.signature(frozen.forward).parameters)
    given = frozenset(keywords) | frozenset(names[: len(args)])
    program = Program(frozen, data, given)
    lowered = program.build()
    lowered.inputs = lowered.prepare(data)
    return lowered.eval()


class Program:
    """Turns the graph of a model, in evaluation, into a LoweredModel."""

    def __init__(self, model: nn.Module, data: Any, given: frozenset[str]) -> None:
        self.model = model
        self.data = data
        self.given = given
        self.layers: list[LoweredLayer] = []
        self.keeps_original = False
        self.quantizer: Quantizer | None = None
        self.gathered = False
        self.features = -1
        specs = [quantizer.spec for quantizer in quantizers_of(model).values()]
        self.buckets = max((len(spec.widths) for spec in specs if spec.bucketed), default=0)

    def build(self) -> LoweredModel:
        """Return the lowered model; as a whole simulated where its forward cannot be traced."""
        if isinstance(self.model, SearchedModel):
            return self._searched(self.model)
        try:
            graph = trace(self.model, self.given)
        except ModelError as error:
            return self._simulated_whole(str(error))
        builder = Builder(self._plan_features(graph))
        values: dict[fx.Node, Any] = {}
        arguments: dict[str, int] = {}
        output = Value(0, 0)
        for node in graph.nodes:
            if node.op == "placeholder":
                name = (
                    str(node.target).removesuffix("_1") if node.target not in self.given else str(node.target)
                )
                value = self._placeholder(builder, name)
                values[node] = value
                if name in self.given:
                    arguments[name] = value.number
                    if name == FEATURES:
                        root_quantizer = slot(self.model, f"{ARGUMENT}{FEATURES}")
                        values[node] = self._first_quantized(builder, value, root_quantizer, node)
            elif node.op == "output":
                output = self._output(builder, values, node)
            else:
                try:
                    values[node] = self._operation(builder, values, node)
                except CannotLower as reason:
                    return self._simulated_whole(f"{node.target}: {reason}")
        unused = [path for path, one in quantizers_of(self.model).items() if id(one) not in builder.used]
        if unused:
            return self._simulated_whole(
                f"the quantizers {', '.join(unused)} have no place in its traced forward"
            )
        return self._model(builder, arguments, output)

    def _searched(self, model: SearchedModel) -> LoweredModel:
        """Return a searched model, which is lowered by its genotype."""
        self.quantizer, self.gathered = slot(model.entry, f"{ARGUMENT}input"), True
        builder = Builder(None if self.quantizer is None else "dense")
        features = Value(builder.number(), model.in_channels, "node")
        self.features = features.number
        try:
            lowering = SearchedLowering(builder, model, self.buckets)
            if self.quantizer is not None:
                check_affine(self.quantizer)
                features = self._quantized(builder, features, self.quantizer, sole=False)
            output = lowering.lower(features)
        except CannotLower as reason:
            return self._simulated_whole(str(reason))
        unused = [path for path, one in quantizers_of(model).items() if id(one) not in builder.used]
        if unused:
            return self._simulated_whole(f"the quantizers {', '.join(unused)} have no place in its genotype")
        self.layers = lowering.layers
        return self._model(builder, {FEATURES: features.number}, output)

    def _model(self, builder: Builder, arguments: dict[str, int], output: Value) -> LoweredModel:
        form = builder.feature_form
        return LoweredModel(
            tuple(builder.steps),
            output=output.number,
            output_rows=output.level,
            arguments=arguments,
            forms=frozenset(builder.forms),
            features=PackedInput(self.quantizer, form, self.gathered),
            channels=int(self.data.x.size(1)),
            buckets=self.buckets,
            clouds=isinstance(self.model, SearchedModel),
            original=self.model,
            keeps_original=self.keeps_original,
            report=LoweringReport(tuple(self.layers), form or "float"),
        )

    def _simulated_whole(self, reason: str) -> LoweredModel:
        """Return a lowered model of one step, which calls the simulated model."""
        self.layers = [LoweredLayer("", base_class(self.model).__name__, False, reason)]
        self.quantizer, self.buckets, self.keeps_original = None, 0, True
        model = self.model

        def run(values: Values, inputs: PreparedInputs) -> Tensor:
            bucket = getattr(inputs.data, "bucket", None) if ROOT_BUCKETS in model._buffers else None
            result: Tensor = call(model, inputs.data, bucket=bucket)
            return result

        builder = Builder(None)
        number = builder.number()
        builder.add(TorchStep((), number, run, model), number)
        return self._model(builder, {}, Value(number, 0, "other"))

    def _plan_features(self, graph: fx.Graph) -> Any:
        """Find the quantizer of the input features, if they are used in one place, and return their form."""
        node = next((n for n in graph.nodes if n.op == "placeholder" and n.target == FEATURES), None)
        if node is None or not isinstance(getattr(self.data, FEATURES, None), Tensor):
            return None
        quantizer = slot(self.model, f"{ARGUMENT}{FEATURES}")
        user: fx.Node | None = node
        while quantizer is None and user is not None and len(user.users) == 1:
            user = next(iter(user.users))
            if user.op == "call_module":
                module = self.model.get_submodule(str(user.target))
                quantizer = slot(module, input_slot(module))
                if quantizer is None and base_class(module) not in IDENTITIES:
                    break
            elif user.target is not densify:
                break
        if quantizer is None or quantizer.spec.is_float or quantizer.spec.quantizer != "affine":
            return None
        self.quantizer = quantizer
        bucket = getattr(self.data, "bucket", None)
        bucket = self.model._buffers.get(ROOT_BUCKETS) if bucket is None else bucket
        self.gathered = self._is_gathered(user)
        return first_features(self.data, quantizer, bucket, gathered=self.gathered)

    def _is_gathered(self, user: fx.Node | None) -> bool:
        """Whether the first layer that reads the quantized features aggregates them before any product."""
        node = user
        while node is not None:
            if node.op == "call_module":
                module = self.model.get_submodule(str(node.target))
                if isinstance(module, MessagePassing):
                    return base_class(module) not in MULTIPLY_FIRST
                if hasattr(module, "weight"):
                    return False
            if len(node.users) != 1:
                return True
            node = next(iter(node.users))
        return True

    def _placeholder(self, builder: Builder, name: str) -> Value:
        number = builder.number()
        if name != FEATURES:
            return Value(number, 0, "other")
        self.features = number
        channels = int(self.data.x.size(1)) if isinstance(getattr(self.data, "x", None), Tensor) else 0
        return Value(number, channels, "node")

    def _first_quantized(
        self, builder: Builder, value: Value, quantizer: Quantizer | None, node: fx.Node
    ) -> Value:
        """Return the features, packed beforehand where they have their quantizer here."""
        return (
            value
            if quantizer is None
            else self._quantized(builder, value, quantizer, sole=len(node.users) <= 1)
        )

    def _quantized(self, builder: Builder, value: Value, quantizer: Quantizer | None, *, sole: bool) -> Value:
        first = value.number == self.features and value.quantization is None
        if quantizer is not None and quantizer is self.quantizer and first:
            builder.used.add(id(quantizer))
            return replace(value, quantization=quantization_of(quantizer), features=True)
        return builder.quantized(value, quantizer, sole=sole)

    def _operation(self, builder: Builder, values: dict[fx.Node, Any], node: fx.Node) -> Value:
        """Return what one node of the graph becomes."""
        if node.op == "call_module":
            return self._layer(builder, values, node)
        target: Any = node.target
        first = node.args[0] if node.args else None
        value = values.get(first) if isinstance(first, fx.Node) else None
        if isinstance(value, Value) and value.level != "other":
            sole = is_sole(first, value)
            # What torch has made may be another view of what is read elsewhere.
            check_in_place(node, sole and not builder.is_torch(value))
            if target is densify or is_idle_dropout(node):
                return replace(value, shared=not sole)
            if target in ACTIVATIONS:
                kind, slope = ACTIVATIONS[target]
                rest: list[Any] = [
                    *node.args[1:],
                    *(node.kwargs[k] for k in ("negative_slope", "alpha") if k in node.kwargs),
                ]
                return builder.activate(value, kind, float(rest[0]) if rest else slope, sole=sole)
        return self._in_torch(builder, values, node)

    def _layer(self, builder: Builder, values: dict[fx.Node, Any], node: fx.Node) -> Value:
        path = str(node.target)
        module = self.model.get_submodule(path)
        kind = base_class(module)
        first = node.args[0] if node.args else node.kwargs.get(input_slot(module).removeprefix(ARGUMENT))
        value = values.get(first) if isinstance(first, fx.Node) else None
        listed = kind not in IDENTITIES and kind is not Readout
        try:
            if not isinstance(value, Value) or value.level == "other":
                raise CannotLower("its input is no tensor of rows")
            if kind is Readout and not slots_of(module):
                return self._in_torch(builder, values, node, level="graph", module=module)
            sole = is_sole(first, value)
            with builder.undone_on_failure():
                made = self._lowered(builder, node, module, value, sole)
        except (CannotLower, ModelError) as reason:
            if listed:
                self.layers.append(LoweredLayer(path, kind.__name__, False, str(reason)))
            builder.used |= {id(one) for one in quantizers_of(module).values()}
            self.keeps_original = True
            level = value.level if isinstance(value, Value) else "other"
            return self._in_torch(builder, values, node, level=level, module=module)
        if listed and (isinstance(module, MessagePassing) or list(module.parameters())):
            self.layers.append(LoweredLayer(path, kind.__name__, True))
        return replace(made, shared=not sole) if made.number == value.number else made

    def _lowered(self, builder: Builder, node: fx.Node, module: nn.Module, value: Value, sole: bool) -> Value:
        own = slot(module, input_slot(module))
        if own is not None and own is self.quantizer and value.number == self.features:
            value = self._quantized(builder, value, own, sole=sole)
            module = without_argument(module, own)
            sole = False
        if not isinstance(module, MessagePassing):
            return lower_module(builder, module, value, sole=sole)
        extra = [*node.args[2:], *(v for k, v in node.kwargs.items() if k not in ("x", *ADJACENCY_ARGUMENTS))]
        extra = [argument for argument in extra if argument is not None]
        edges = node.args[1] if len(node.args) > 1 else keyword(node, ADJACENCY_ARGUMENTS)
        own_edges = isinstance(edges, fx.Node) and edges.op == "placeholder"
        if not own_edges or edges.target not in ADJACENCY_ARGUMENTS:  # type: ignore[union-attr, operator]
            raise CannotLower("it is called with other edges than the data's own")
        if any(not (isinstance(one, fx.Node) and one.target == WEIGHTS) for one in extra):
            raise CannotLower("it is called with more than nodes, edges and edge weights")
        builder.weighted = bool(extra) or has_sparse_weights(self.data)
        return lower_convolution(builder, module, value, sole=sole)

    def _in_torch(
        self,
        builder: Builder,
        values: dict[fx.Node, Any],
        node: fx.Node,
        *,
        level: Any = "node",
        module: nn.Module | None = None,
    ) -> Value:
        """Return a step in which torch computes the node in float."""
        if self.buckets and module is None and node.op != "get_attr" and node.target not in ELEMENTWISE:
            raise CannotLower("under degree buckets, what may depend on the order of nodes")
        number = builder.number()
        sources = tuple(
            values[one].number for one in node.all_input_nodes if isinstance(values.get(one), Value)
        )
        numbers = {
            one: values[one].number for one in node.all_input_nodes if isinstance(values.get(one), Value)
        }

        def run(values: Values, inputs: PreparedInputs) -> Any:
            def real(argument: Any) -> Any:
                return in_float(values[numbers[argument]]) if argument in numbers else None

            args, kwargs = fx.node.map_arg((node.args, node.kwargs), real)
            if module is not None:
                return module(*args, **kwargs)
            if node.op == "call_method":
                return getattr(args[0], str(node.target))(*args[1:], **kwargs)
            if node.op == "get_attr":
                return constant
            return node.target(*args, **kwargs)  # type: ignore[operator]

        constant: Any = None
        if node.op == "get_attr":
            constant = attribute_of(self.model, str(node.target))
        levels = [values[one].level for one in node.all_input_nodes if isinstance(values.get(one), Value)]
        if module is None and levels:
            level = "graph" if "graph" in levels else "node" if "node" in levels else "other"
        builder.add(TorchStep(sources, number, run, module), number)
        return Value(number, channels_of(module), level)

    def _output(self, builder: Builder, values: dict[fx.Node, Any], node: fx.Node) -> Value:
        result = node.args[0]
        if not isinstance(result, fx.Node):
            raise ModelError("a model with several results cannot be lowered")
        value = values[result]
        made: Value = builder.quantized(value, slot(self.model, RESULT), sole=True)
        return made
