"""Our kernels on one large graph, each with the bytes that it has to move."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from benches.kernels import KernelCall, aggregation_bytes

if TYPE_CHECKING:
    from torch import Tensor

    from sgq.runtime.csr import Csr
    from sgq.runtime.packed import PackedTensor
    from sgq.runtime.quantization import Quantization

HEADS = 8
OUTPUTS = 64
SPARSE_CHANNELS, NONZEROS = 1024, 16
"""Of sparse input features, and how many of them a node has."""
WIDTHS = (("int8", 8), ("int4", 4))


def own_calls(graph: Any) -> Iterator[KernelCall]:
    """Yield every kernel on a graph with dense features [nodes, channels]."""
    import torch

    from sgq.runtime.csr import csr_of

    source, target = graph.edge_index
    weights = torch.ones(source.numel(), device=source.device)
    csr = csr_of(source, target, weights, rows=graph.x.size(0))
    packed = {"own fp32": _in_float(graph.x)} | {name: _packed(graph.x, bits) for name, bits in WIDTHS}
    yield from _aggregations(csr, packed)
    yield from _attention(csr, packed, graph.x)
    yield from _products(graph.x, packed)
    yield from _quantizations(graph.x)


def _aggregations(csr: Csr, packed: dict[str, PackedTensor]) -> Iterator[KernelCall]:
    """Weighted sums at every width; mean, maximum, and sums that become codes again at int8."""
    from sgq.runtime.finish import Finish
    from sgq.runtime.kernels import aggregate

    for name, x in packed.items():
        moved = _aggregation_bytes(csr, x)
        yield KernelCall("spmm", name, partial(aggregate, csr, x, Finish()), *moved)
    x = packed["int8"]
    for reduction in ("mean", "max"):
        moved = _aggregation_bytes(csr, x, weight_bytes=0)
        call = partial(aggregate, csr, x, Finish(), reduction=reduction)
        yield KernelCall(f"aggregate {reduction}", "int8", call, *moved)
    finish = Finish(activation="relu", quantization=_by_row(8))
    moved = _aggregation_bytes(csr, x, output_bytes=x.layout.segments[0].row_bytes + 8)
    yield KernelCall("spmm to codes", "int8", partial(aggregate, csr, x, finish), *moved)


def _attention(csr: Csr, packed: dict[str, PackedTensor], x: Tensor) -> Iterator[KernelCall]:
    """Edge softmax as GAT's, and the sum that its codes weigh."""
    from sgq.runtime.finish import Finish
    from sgq.runtime.kernels import aggregate, attention

    scores = _in_float(x[:, :HEADS].contiguous())
    rule = _rule_between(0.0, 1.0, 8, x)
    arguments: dict[str, Any] = {
        "kind": "additive",
        "heads": HEADS,
        "vector": x.new_ones(HEADS),
        "slope": 0.2,
        "quantization": rule,
    }
    coefficients = attention(csr, scores, scores, **arguments)
    # Pointers, columns, the target's scores and the codes are streamed; the source's scores are gathered.
    moved = aggregation_bytes(
        nodes=csr.rows,
        edges=csr.edges,
        row_bytes=4 * HEADS,
        output_bytes=4 * HEADS,
        weight_bytes=HEADS,
    )
    call = partial(attention, csr, scores, scores, **arguments)
    yield KernelCall("edge softmax", f"int8, {HEADS} heads", call, *moved)
    for name, bits in WIDTHS:
        moved = _aggregation_bytes(csr, packed[name], weight_bytes=HEADS)
        call = partial(aggregate, csr, _packed(x, bits, heads=HEADS), Finish(), coefficients=coefficients)
        yield KernelCall("attention sum", f"{name}, {HEADS} heads", call, *moved)


def _products(x: Tensor, packed: dict[str, PackedTensor]) -> Iterator[KernelCall]:
    """Dense product of packed rows, beside torch's in fp32, and the product of sparse features."""
    import torch

    from sgq.runtime.finish import Finish
    from sgq.runtime.kernels import linear
    from sgq.runtime.weights import as_rows, tiled

    nodes, channels = x.shape
    generator = torch.Generator().manual_seed(0)

    def weight(inputs: int) -> Tensor:
        return torch.randint(-127, 128, (inputs, OUTPUTS), generator=generator).to(x.device)

    scale = x.new_full((OUTPUTS,), 0.01)
    whole = weight(channels)
    output = 4 * OUTPUTS * nodes
    dense = 4 * channels * nodes + output
    yield KernelCall("linear", "torch fp32", partial(torch.mm, x, whole.float()), dense, dense)
    for name, _ in WIDTHS:
        moved = packed[name].nbytes + output
        call = partial(linear, packed[name], tiled(whole, scale), Finish())
        yield KernelCall("linear", name, call, moved, moved)
    features = _sparse(nodes, x, generator)
    moved = sum(part.numel() * part.element_size() for part in features.tensors()) + output
    call = partial(linear, features, as_rows(weight(SPARSE_CHANNELS), scale), Finish())
    yield KernelCall("sparse linear", "int8", call, moved, moved)


def _quantizations(x: Tensor) -> Iterator[KernelCall]:
    """Turning fp32 rows into codes, each row with its own range."""
    from sgq.runtime.kernels import quantize

    for name, bits in WIDTHS:
        rule = _by_row(bits)
        moved = 4 * x.numel() + quantize(x, rule).nbytes
        yield KernelCall("quantize", name, partial(quantize, x, rule), moved, moved)


def _aggregation_bytes(
    csr: Csr, x: PackedTensor, *, output_bytes: int | None = None, weight_bytes: int = 4
) -> tuple[int, int]:
    return aggregation_bytes(
        nodes=csr.rows,
        edges=csr.edges,
        row_bytes=x.layout.segments[0].row_bytes,
        output_bytes=4 * x.layout.channels * x.layout.heads if output_bytes is None else output_bytes,
        weight_bytes=weight_bytes,
    )


def _packed(x: Tensor, bits: int, *, heads: int = 1) -> PackedTensor:
    """Return codes with one scale for all, as the shipped recipes give messages."""
    from sgq.runtime.kernels import quantize

    return quantize(x, _rule_between(float(x.min()), float(x.max()), bits, x), heads=heads)


def _in_float(x: Tensor) -> PackedTensor:
    """Return fp32 rows in the layout of packed ones."""
    from sgq.runtime.packed import PackedTensor, layout_of, pack_rows

    layout = layout_of((x.size(0),), x.size(1), (32,))
    return PackedTensor(pack_rows(x, layout), x.new_tensor([[1.0, 0.0]]), "segment", layout)


def _rule_between(lower: float, upper: float, bits: int, x: Tensor) -> Quantization:
    from quantizers import QuantizerSpec
    from sgq.runtime.quantization import Quantization

    scale = (upper - lower) / (2**bits - 1)
    return Quantization(QuantizerSpec(bits), x.new_tensor([[scale, round(-lower / scale)]]))


def _by_row(bits: int) -> Quantization:
    from quantizers import QuantizerSpec
    from sgq.runtime.quantization import Quantization

    return Quantization(QuantizerSpec(bits, granularity="node"), None)


def _sparse(nodes: int, x: Tensor, generator: Any) -> Any:
    """Return features with the same number of non-zeros in every row, one in each of equal ranges."""
    import torch

    from sgq.runtime.features import sparse_features

    size = SPARSE_CHANNELS // NONZEROS
    place = torch.randint(size, (nodes, NONZEROS), generator=generator) + size * torch.arange(NONZEROS)
    codes = torch.randint(1, 256, (nodes * NONZEROS,), generator=generator).to(torch.uint8)
    pointers = NONZEROS * torch.arange(nodes + 1)
    pairs = x.new_tensor([[0.01, 0.0]])
    return sparse_features(
        pointers.to(x.device), place.reshape(-1).to(x.device), codes.to(x.device), pairs, SPARSE_CHANNELS
    )
