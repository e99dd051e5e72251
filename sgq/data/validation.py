"""Checks that any graph passes before it is used, the user's own included."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sgq.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor
    from torch_geometric.data import Data


def check_data(data: Data, *, name: str = "the data") -> Data:
    """Return `data` if a model can run on it; raise DataError for what cannot work.

    Refused: no node features, features of another layout than dense and CSR, no nodes, NaN or infinite
    features or edge weights, edges to nodes that are not there. A graph without edges and isolated nodes
    are legal.
    """
    import torch

    x = data.x
    if not isinstance(x, torch.Tensor) or x.dim() != 2:
        got = "none" if x is None else getattr(x, "shape", type(x).__name__)
        raise DataError(f"expected node features x of shape [nodes, features] in {name} (got {got})")
    if x.layout not in (torch.strided, torch.sparse_csr):
        raise DataError(f"expected dense or sparse CSR node features x in {name} (got {x.layout})")
    if x.size(0) == 0:
        raise DataError(f"expected at least one node in {name} (got an empty graph)")
    for key in ("x", "edge_attr", "edge_weight", "adj_t"):
        _check_finite(data.get(key), key=key, name=name)
    _check_edges(data, nodes=x.size(0), name=name)
    return data


def _check_finite(tensor: Tensor | None, *, key: str, name: str) -> None:
    import torch

    if tensor is None or not torch.is_tensor(tensor):
        return
    values = tensor.values() if tensor.layout == torch.sparse_csr else tensor
    if not values.is_floating_point():
        return
    finite = torch.isfinite(values)
    if not bool(finite.all()):
        wrong = int((~finite).sum())
        raise DataError(f"expected finite values in {key} of {name} (got {wrong} NaN or infinite values)")


def _check_edges(data: Data, *, nodes: int, name: str) -> None:
    import torch

    adjacency = data.get("adj_t")
    if adjacency is not None:
        if torch.is_tensor(adjacency) and tuple(adjacency.shape) != (nodes, nodes):
            raise DataError(
                f"expected adj_t of shape {(nodes, nodes)} in {name} (got {tuple(adjacency.shape)})"
            )
        return
    edge_index = data.get("edge_index")
    if edge_index is None:
        raise DataError(f"expected edge_index or adj_t in {name} (got neither)")
    if edge_index.dim() != 2 or edge_index.size(0) != 2 or edge_index.is_floating_point():
        raise DataError(
            f"expected an integer edge_index of shape [2, edges] in {name} "
            f"(got {tuple(edge_index.shape)}, {edge_index.dtype})"
        )
    if edge_index.numel() and not (int(edge_index.min()) >= 0 and int(edge_index.max()) < nodes):
        raise DataError(
            f"expected node ids 0 to {nodes - 1} in edge_index of {name} "
            f"(got {int(edge_index.min())} to {int(edge_index.max())})"
        )
