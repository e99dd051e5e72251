"""How each kind of layer becomes steps: linear layers, norms, activations, and the convolutions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric import nn as pyg
from torch_geometric.nn.conv import MessagePassing

from sgq.graph.swap import (
    AGGREGATE,
    ARGUMENT,
    ATTENTION,
    EDGE_MESSAGE,
    EDGE_UPDATE_ARGUMENT,
    MESSAGE_ARGUMENT,
    PARAMETER,
    RESULT,
    slots_of,
)
from sgq.models.agnn_conv import SeparableAGNNConv
from sgq.models.dropout import FeatureDropout
from sgq.runtime.lowering.building import (
    Builder,
    CannotLower,
    Value,
    base_class,
    check_affine,
    input_slot,
    slot,
)
from sgq.runtime.lowering.edge_convolution import EdgeConvStep
from sgq.runtime.lowering.graphs import EdgeForm
from sgq.runtime.lowering.steps import AttentionStep, LinearStep, TorchStep, in_float
from sgq.runtime.packed import VECTOR
from sgq.runtime.quantization import quantization_of

IDENTITIES = (nn.Identity, nn.Dropout, FeatureDropout, nn.AlphaDropout)
NORMS = (nn.BatchNorm1d, pyg.BatchNorm)
LINEARS = (nn.Linear, pyg.Linear)


def lower_module(builder: Builder, module: nn.Module, value: Value, *, sole: bool) -> Value:
    """Return what a layer of one input makes of a value; raise CannotLower for any other."""
    kind = base_class(module)
    if kind in LINEARS:
        return builder.linear(value, module, sole=sole)
    number = value.number
    value = builder.quantized(value, slot(module, input_slot(module)), sole=sole)
    sole = sole or value.number != number
    if kind is nn.Sequential:
        for inner in module.children():
            if inner is not getattr(module, "site_quantizers", None):
                number = value.number
                value = lower_module(builder, inner, value, sole=sole)
                sole = sole or value.number != number
    elif kind is nn.ReLU:
        value = builder.activate(value, "relu", 0.0, sole=sole)
    elif kind is nn.LeakyReLU:
        value = builder.activate(value, "leaky_relu", float(module.negative_slope), sole=sole)  # type: ignore[arg-type]
    elif kind is nn.ELU:
        value = builder.activate(value, "elu", float(module.alpha), sole=sole)  # type: ignore[arg-type]
    elif kind in NORMS:
        value = builder.affine(value, *folded_norm(module), sole=sole)
    elif kind not in IDENTITIES:
        raise CannotLower(f"{kind.__name__} has no integer form")
    return builder.quantized(value, slot(module, RESULT), sole=sole)


def lower_convolution(builder: Builder, conv: nn.Module, value: Value, *, sole: bool) -> Value:
    """Return what a convolution makes of node rows; raise CannotLower for one that has no integer form."""
    assert isinstance(conv, MessagePassing)
    lower = CONVOLUTIONS.get(base_class(conv))
    if lower is None:
        raise CannotLower(f"{base_class(conv).__name__} has no integer form")
    if conv.flow != "source_to_target":
        raise CannotLower("its messages flow from target to source")
    if slot(conv, EDGE_MESSAGE) is not None and lower is not _edge_conv:
        raise CannotLower("its messages are quantized on the edges")
    if lower not in (_sage, _edge_conv) and conv.aggr not in ("add", "sum"):
        raise CannotLower(f"it aggregates by {conv.aggr}, not by a sum")
    value = builder.quantized(value, slot(conv, f"{ARGUMENT}x"), sole=sole)
    made = lower(builder, conv, value)
    # Its own parameters were read through their quantizers.
    builder.used |= {id(one) for name, one in slots_of(conv).items() if name.startswith(PARAMETER)}
    return builder.quantized(made, slot(conv, RESULT), sole=True)


def folded_norm(norm: Any) -> tuple[Tensor, Tensor]:
    """Return (multiply, add) of a batch norm in evaluation."""
    norm = norm.module if isinstance(norm, pyg.BatchNorm) else norm
    if norm.running_mean is None:
        raise CannotLower("a batch norm without running statistics")
    multiply = torch.rsqrt(norm.running_var + norm.eps)
    if norm.weight is not None:
        multiply = multiply * norm.weight.detach()
    add = -norm.running_mean * multiply
    if norm.bias is not None:
        add = add + norm.bias.detach()
    return multiply.float().contiguous(), add.float().contiguous()


def _message(builder: Builder, conv: Any, value: Value, *, sole: bool) -> Value:
    """Return node rows as the messages that are gathered."""
    if f"{MESSAGE_ARGUMENT}x_dst" in slots_of(conv):
        raise CannotLower("the two sides of its messages are quantized apart")
    return builder.quantized(value, slot(conv, f"{MESSAGE_ARGUMENT}x"), sole=sole)


def _bias(builder: Builder, conv: Any, value: Value) -> Value:
    bias = conv.bias
    return value if bias is None else builder.affine(value, None, bias.detach().float(), sole=True)


def _gcn(builder: Builder, conv: Any, value: Value) -> Value:
    form = EdgeForm(
        loops="fill" if conv.normalize and conv.add_self_loops else "keep",
        weights="gcn" if conv.normalize else "data",
        own_weight=2.0 if conv.improved else 1.0,
        given=builder.weighted,
    )
    rows = _message(builder, conv, builder.linear(value, conv.lin), sole=True)
    out = builder.quantized(builder.aggregate(rows, form), slot(conv, AGGREGATE), sole=True)
    return _bias(builder, conv, out)


def _sage(builder: Builder, conv: Any, value: Value) -> Value:
    if conv.project or conv.normalize:
        raise CannotLower("SAGEConv with project or normalize")
    if builder.weighted:
        raise CannotLower("SAGEConv over weighted edges")
    if conv.aggr not in ("mean", "max", "add", "sum"):
        raise CannotLower(f"SAGEConv with the aggregation {conv.aggr}")
    reduction = "sum" if conv.aggr == "add" else conv.aggr
    rows = _message(builder, conv, value, sole=False)
    brought = builder.quantized(
        builder.aggregate(rows, EdgeForm(), reduction), slot(conv, AGGREGATE), sole=True
    )
    own = builder.linear(value, conv.lin_r) if conv.root_weight else None
    return builder.linear(brought, conv.lin_l, addend=own, sole=True)


def _gin(builder: Builder, conv: Any, value: Value) -> Value:
    if {f"{MESSAGE_ARGUMENT}x", f"{MESSAGE_ARGUMENT}x_dst", AGGREGATE} & set(slots_of(conv)):
        raise CannotLower("its messages or sums are quantized apart from its input")
    if builder.weighted:
        raise CannotLower("GINConv over weighted edges")
    form = EdgeForm(loops="own", own_weight=1.0 + float(conv.eps))
    return lower_module(builder, conv.nn, builder.aggregate(value, form), sole=True)


def _gat(builder: Builder, conv: Any, value: Value) -> Value:
    if conv.lin is None or conv.res is not None or conv.edge_dim is not None:
        raise CannotLower("GATConv with two inputs, a residual or edge features")
    heads = conv.heads
    rows = builder.linear(value, conv.lin, heads=heads)
    step = builder.steps[-1]
    if not isinstance(step, LinearStep) or rows.quantization is not None:
        raise CannotLower("the output of its linear layer is quantized before attention reads it")
    vectors = [_by_head(vector.detach(), heads) for vector in (conv.att_src, conv.att_dst)]
    numbers = (builder.number(), builder.number())
    step.score_vectors = torch.stack(vectors).contiguous()
    step.score_outputs, step.score_heads = numbers, heads
    source, target = (
        builder.quantized(Value(number, heads), slot(conv, f"{EDGE_UPDATE_ARGUMENT}alpha_{side}"), sole=True)
        for number, side in zip(numbers, ("src", "dst"), strict=True)
    )
    form = EdgeForm(loops="renew" if conv.add_self_loops else "keep")
    attention = _attention(
        builder, conv, source, target, form, "additive", heads, torch.zeros(1), conv.negative_slope
    )
    rows = _message(builder, conv, rows, sole=True)
    return _heads_together(builder, conv, builder.aggregate(rows, form, coefficients=attention))


def _gatv2(builder: Builder, conv: Any, value: Value) -> Value:
    if conv.res is not None or conv.edge_dim is not None:
        raise CannotLower("GATv2Conv with a residual or edge features")
    heads = conv.heads
    left = builder.linear(value, conv.lin_l, heads=heads)
    left = builder.quantized(left, slot(conv, f"{EDGE_UPDATE_ARGUMENT}x_src"), sole=True)
    right = left if conv.share_weights else builder.linear(value, conv.lin_r, heads=heads)
    right = builder.quantized(right, slot(conv, f"{EDGE_UPDATE_ARGUMENT}x_dst"), sole=not conv.share_weights)
    form = EdgeForm(loops="renew" if conv.add_self_loops else "keep")
    vector = _by_head(conv.att.detach(), heads)
    attention = _attention(builder, conv, left, right, form, "dynamic", heads, vector, conv.negative_slope)
    if f"{MESSAGE_ARGUMENT}x" in slots_of(conv):
        raise CannotLower("its messages are quantized apart from what attention reads")
    return _heads_together(builder, conv, builder.aggregate(left, form, coefficients=attention))


def _agnn(builder: Builder, conv: Any, value: Value) -> Value:
    number = builder.number()

    def directions(values: dict[int, Any], inputs: Any) -> Tensor:
        return nn.functional.normalize(in_float(values[value.number]), p=2.0, dim=-1)

    builder.add(TorchStep((value.number,), number, directions), number)
    towards = Value(number, value.channels, value.level)
    towards = builder.quantized(towards, slot(conv, f"{EDGE_UPDATE_ARGUMENT}direction"), sole=False)
    form = EdgeForm(loops="renew")
    beta = conv.beta.detach().float()
    attention = _attention(builder, conv, towards, towards, form, "cosine", 1, beta, 0.0)
    rows = _message(builder, conv, value, sole=False)
    made = builder.aggregate(rows, form, coefficients=attention)
    return builder.quantized(made, slot(conv, AGGREGATE), sole=True)


def _edge_conv(builder: Builder, conv: Any, value: Value) -> Value:
    if conv.aggr not in ("max", "mean", "add", "sum"):
        raise CannotLower(f"EdgeConv with the aggregation {conv.aggr}")
    rows = _message(builder, conv, value, sole=False)
    inner = Builder(None)
    edges = Value(inner.number(), 2 * rows.channels, "edge")
    made = lower_module(inner, conv.nn, edges, sole=False)
    made = inner.quantized(made, slot(conv, EDGE_MESSAGE), sole=True)
    builder.used |= inner.used
    form = EdgeForm()
    builder.forms.add(form)
    number = builder.number()
    reduction: Any = "sum" if conv.aggr == "add" else conv.aggr
    builder.add(
        EdgeConvStep(rows.number, number, form, tuple(inner.steps), made.number, made.channels, reduction),
        number,
    )
    out = Value(number, made.channels)
    return builder.quantized(out, slot(conv, AGGREGATE), sole=True)


def _attention(
    builder: Builder,
    conv: Any,
    source: Value,
    target: Value,
    form: EdgeForm,
    kind: Any,
    heads: int,
    vector: Tensor,
    slope: float,
) -> Value:
    quantizer = slot(conv, ATTENTION)
    if quantizer is None or quantizer.spec.granularity != "tensor" or max(quantizer.spec.widths) > 8:
        raise CannotLower("its attention is not quantized to 8 bits or fewer with one scale")
    extra = {f"{MESSAGE_ARGUMENT}alpha", f"{MESSAGE_ARGUMENT}attention"} & set(slots_of(conv))
    if extra:
        raise CannotLower("its attention is quantized twice")
    check_affine(quantizer)
    builder.used.add(id(quantizer))
    builder.forms.add(form)
    number = builder.number()
    rule = quantization_of(quantizer)
    step = AttentionStep(source.number, target.number, number, form, kind, heads, vector, slope, rule)
    builder.add(step, number)
    return Value(number, heads, "edge")


def _by_head(vector: Tensor, heads: int) -> Tensor:
    """Return attention's vector [1, heads, channels] as [width], the channels of each head padded."""
    by_head = vector.float().reshape(heads, -1)
    padding = -by_head.size(1) % VECTOR if heads > 1 else 0
    return nn.functional.pad(by_head, (0, padding)).reshape(-1).contiguous()


def _heads_together(builder: Builder, conv: Any, value: Value) -> Value:
    """Return heads side by side, or their mean, and the bias."""
    value = builder.quantized(value, slot(conv, AGGREGATE), sole=True)
    if value.heads == 1:
        return _bias(builder, conv, value)
    if conv.concat and value.head_width == value.channels:
        return _bias(builder, conv, replace(value, heads=1, channels=value.heads * value.channels))
    number, heads, channels, width = builder.number(), value.heads, value.channels, value.head_width

    def together(values: dict[int, Any], inputs: Any) -> Tensor:
        by_head = in_float(values[value.number]).view(-1, heads, width)[..., :channels]
        return by_head.reshape(-1, heads * channels) if conv.concat else by_head.mean(1)

    builder.add(TorchStep((value.number,), number, together), number)
    made = Value(number, heads * channels if conv.concat else channels, value.level)
    return _bias(builder, conv, made)


CONVOLUTIONS: dict[type[nn.Module], Callable[[Builder, Any, Value], Value]] = {
    pyg.GCNConv: _gcn,
    pyg.SAGEConv: _sage,
    pyg.GINConv: _gin,
    pyg.GATConv: _gat,
    pyg.GATv2Conv: _gatv2,
    SeparableAGNNConv: _agnn,
    pyg.EdgeConv: _edge_conv,
}
"""The convolutions that have an integer form."""
MULTIPLY_FIRST = (pyg.GCNConv, pyg.GATConv, pyg.GATv2Conv)
"""Those that multiply their input before they gather it."""
