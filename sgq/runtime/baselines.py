"""The float models that the integer runtime is measured against: PyG in fp32, as fast as PyG takes it.

A baseline must be the strongest that a user of PyG gets without other software, so here
- edges come both as `edge_index` and as a CSR adjacency (row = target), PyG's fastest path. PyG makes CSR
  with int64 indices; with int32 ones torch's product spares a conversion in every call, so that form is
  there too, and where one figure stands for fp32 CSR it is that of the faster (for memory, smaller) form;
- what PyG can normalise once it normalises once (`cached=True` in GCNConv and its kin), and layers that
  normalise alike share one cache, since the integer runtime keeps its normalised adjacency as well;
- features stay in the storage that `sgq.data` chose, CSR below 5 % density, but are dense from the start for
  models whose layers would make them dense in every call;
- every call runs in inference mode, and a CSR tensor's parts take no more memory than they need.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sgq.data.adjacency import with_adjacency
from sgq.errors import ModelError
from sgq.graph.adjacency import edge_list
from sgq.graph.inputs import ADJACENCY_ARGUMENTS, DATA_ARGUMENTS, arguments_of, call
from sgq.runtime.measuring import stored_bytes, tensors_in

Form = Literal["edge_index", "csr", "csr int32"]

MODEL_INPUTS = ("x", *ADJACENCY_ARGUMENTS, "edge_weight", "edge_attr", "batch", "pos")
"""What a model reads of a graph that it takes whole."""
NORMALISED_ARGUMENTS = (*ADJACENCY_ARGUMENTS, "edge_weight")
"""What a layer with a cached normalisation no longer reads."""
SAME_WITHIN = 1e-3
"""Two forms of the edges give the same outputs but for the order of sums: a share of the largest one."""


@dataclass(frozen=True, eq=False)
class FloatBaseline:
    """A float model on one form of the data; calling it returns its outputs, in inference mode.

    `resident_bytes` are those of parameters, buffers, adjacency and features, `feature_bytes` of the
    features alone.
    """

    name: str
    model: nn.Module
    arguments: dict[str, Any]
    resident_bytes: int
    feature_bytes: int

    def __call__(self) -> Tensor:
        """Return the model's outputs."""
        with torch.inference_mode():
            outputs: Tensor = self.model(**self.arguments)
        return outputs


@dataclass(frozen=True)
class AbsentBaseline:
    """A form of the edges that the model does not run on, and why."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name} is not measured: {self.reason}"


@dataclass(frozen=True, eq=False)
class FloatBaselines:
    """The baselines that there are, and those that there cannot be."""

    found: tuple[FloatBaseline, ...]
    absent: tuple[AbsentBaseline, ...]


def float_baselines(
    model: nn.Module, data: Any, *, forms: Sequence[Form] = ("edge_index", "csr")
) -> FloatBaselines:
    """Return `model` (float, left as it is) on a PyG `Data` or `Batch` in each form of its edges.

    Each has been called once and gives the outputs that the model gives on the data as they are; a form
    that fails, or gives others, is absent with the reason. Raises ModelError where none is left.
    """
    with torch.no_grad():
        wanted = call(copy.deepcopy(model).eval(), data)
    found: list[FloatBaseline] = []
    absent: list[AbsentBaseline] = []
    for form in forms:
        name = f"fp32 {form}"
        try:
            baseline = _baseline(name, model, data, form)
            outputs = baseline()
        except Exception as error:  # PyG's layers and a user's model raise anything on a sparse adjacency
            first_line = (str(error).splitlines() or [""])[0]
            absent.append(AbsentBaseline(name, f"{type(error).__name__}: {first_line}"))
            continue
        if _are_close(outputs, wanted):
            found.append(baseline)
        else:
            absent.append(AbsentBaseline(name, "its outputs differ from those on the data as given"))
    if not found:
        raise ModelError(f"no float baseline runs: {'; '.join(map(str, absent))}")
    return FloatBaselines(tuple(found), tuple(absent))


def in_form(data: Any, form: Form) -> Any:
    """Return a copy of a graph with its edges in one form, and CSR features without spare memory."""
    index = torch.int32 if form == "csr int32" else torch.int64
    result = copy.copy(data)
    if form != "edge_index":
        result = with_adjacency(result, adjacency="csr")
        result.adj_t = compact_csr(result.adj_t, index=index)
    elif data.get("adj_t") is not None:
        adjacency = data.adj_t
        result.edge_index = torch.stack(edge_list(adjacency))
        values = adjacency.values()
        if not bool((values == 1).all()):
            result.edge_weight = values
        del result.adj_t
    if result.x is not None and result.x.layout == torch.sparse_csr:
        result.x = compact_csr(result.x, index=index)
    return result


def compact_csr(matrix: Tensor, *, index: torch.dtype) -> Tensor:
    """Return a CSR tensor with indices of a type, each part in a storage of just its size."""
    return torch.sparse_csr_tensor(
        matrix.crow_indices().to(index, copy=True),
        matrix.col_indices().to(index, copy=True),
        matrix.values().clone(),
        size=matrix.shape,
        check_invariants=False,
    )


def _baseline(name: str, model: nn.Module, data: Any, form: Form) -> FloatBaseline:
    graph = in_form(data, form)
    if getattr(model, "aggregates_input", False) and graph.x.layout == torch.sparse_csr:
        graph.x = graph.x.to_dense()
    own = copy.deepcopy(model).eval()
    normalising = list(_normalising(own))
    for layer in normalising:
        layer.cached, layer._cached_edge_index = True, None
    args, arguments = arguments_of(own, graph)
    if args:
        raise ModelError("expected a graph whose attributes the model takes by name (got positional ones)")
    with torch.inference_mode():
        own(**arguments)
    caches = [layer for layer in normalising if layer._cached_edge_index is not None]
    _share_caches(caches, narrow=form == "csr int32")
    read = _read_by(own, arguments, graph, cached=len(caches))
    features = stored_bytes([] if graph.x is None else [graph.x])
    resident = stored_bytes([*own.parameters(), *own.buffers(), *read])
    return FloatBaseline(name, own, arguments, resident, features)


def _normalising(model: nn.Module) -> Iterator[Any]:
    """Yield the layers that can keep their normalised edges: GCNConv, APPNP, FAConv …"""
    for module in model.modules():
        if hasattr(module, "cached") and hasattr(module, "_cached_edge_index"):
            yield module


def _share_caches(layers: Sequence[Any], *, narrow: bool) -> None:
    """Let layers whose caches are equal hold one; `narrow` gives a sparse one int32 indices."""
    kept: list[tuple[Tensor, ...]] = []
    for layer in layers:
        cache = layer._cached_edge_index
        twin = next((other for other in kept if _are_equal(cache, other)), None)
        if twin is None:
            kept.append(cache)
        else:
            layer._cached_edge_index = twin
    compacted = {
        id(cache): tuple(_compact(part, narrow=narrow) if torch.is_tensor(part) else part for part in cache)
        for cache in kept
    }
    for layer in layers:
        layer._cached_edge_index = compacted[id(layer._cached_edge_index)]


def _compact(part: Tensor, *, narrow: bool) -> Tensor:
    if part.layout != torch.sparse_csr:
        return part
    return compact_csr(part, index=torch.int32 if narrow else torch.int64)


def _read_by(model: nn.Module, arguments: dict[str, Any], graph: Any, *, cached: int) -> list[Tensor]:
    """Return the tensors of the graph, and of caches, that the model reads in a call."""
    from torch_geometric.nn import MessagePassing

    layers = sum(isinstance(module, MessagePassing) for module in model.modules())
    unread = NORMALISED_ARGUMENTS if layers == cached else ()
    given: dict[str, Any] = {}
    for name, value in arguments.items():
        if name in DATA_ARGUMENTS and value is graph:
            given |= {key: graph.get(key) for key in MODEL_INPUTS}
        else:
            given[name] = value
    read = list(tensors_in({name: value for name, value in given.items() if name not in unread}))
    for layer in _normalising(model):
        read += tensors_in(layer._cached_edge_index)
    return read


def _are_equal(cache: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    """Whether two caches (edges, weights) hold the same numbers; weights are None for a sparse matrix."""
    ours, theirs = list(_dense_parts(cache)), list(_dense_parts(other))
    return len(ours) == len(theirs) and all(
        mine.shape == yours.shape and torch.equal(mine, yours)
        for mine, yours in zip(ours, theirs, strict=True)
    )


def _dense_parts(cache: tuple[Any, ...]) -> Iterator[Tensor]:
    for part in tensors_in(cache):
        if part.layout == torch.sparse_csr:
            yield from (part.crow_indices(), part.col_indices(), part.values())
        else:
            yield part


def _are_close(outputs: Any, wanted: Any) -> bool:
    """Whether all tensors of two outputs agree but for rounding."""
    ours, theirs = list(tensors_in(outputs)), list(tensors_in(wanted))
    return len(ours) == len(theirs) and all(
        mine.shape == yours.shape
        and bool((mine - yours).abs().max() <= SAME_WITHIN * yours.abs().max().clamp(min=1e-6))
        for mine, yours in zip(ours, theirs, strict=True)
        if yours.numel()
    )
