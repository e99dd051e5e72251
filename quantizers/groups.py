"""The values of a tensor, put into the groups that share one range: all, channels, rows or buckets."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from quantizers.errors import QuantizerError


@dataclass(frozen=True)
class GroupedValues:
    """Values by group, either a matrix or ragged.

    Without `ids`, `values` is [groups, members]. With `ids` [rows] (int64), `values` is [rows, columns]
    and each row belongs to group `ids[row]`. `totals` [groups] counts the values of each group with the
    zeros that a sparse matrix does not store; None means that all values are stored.
    """

    values: Tensor
    groups: int
    ids: Tensor | None = None
    totals: Tensor | None = None

    def range(self) -> tuple[Tensor, Tensor]:
        """Return the lower and the upper end of each group, [groups] each; they include 0."""
        if self.values.numel() == 0:
            zero = self.values.new_zeros(self.groups)
            return zero, zero.clone()
        if self.ids is None and self.groups == 1:
            least, greatest = (end.reshape(1) for end in torch.aminmax(self.values))
        else:
            # amin and amax apart are vectorised on CPU, aminmax along a dimension is not.
            least, greatest = self.values.amin(1), self.values.amax(1)
        if self.ids is None:
            return least.clamp(max=0.0), greatest.clamp(min=0.0)
        zero = least.new_zeros(self.groups)
        return zero.scatter_reduce(0, self.ids, least, "amin"), zero.scatter_reduce(
            0, self.ids, greatest, "amax"
        )

    def present(self) -> Tensor | None:
        """Return which groups have values, [groups] bool; None when all have."""
        if self.ids is None:
            return None
        return self.value_counts() > 0 if self.totals is None else self.totals > 0

    def value_counts(self) -> Tensor:
        """Return how many stored values each group has, [groups] int64."""
        if self.ids is None:
            return torch.full((self.groups,), self.values.size(1), device=self.values.device)
        rows = torch.zeros(self.groups, dtype=torch.int64, device=self.ids.device)
        return rows.index_add(0, self.ids, torch.ones_like(self.ids)) * self.values.size(1)

    def spread(self, by_group: Tensor) -> Tensor:
        """Return one number a group [groups], laid out so that it broadcasts to `values`."""
        return (by_group if self.ids is None else by_group.index_select(0, self.ids)).unsqueeze(1)

    def sums(self, by_value: Tensor) -> Tensor:
        """Return the sum over each group, [groups], of numbers laid out like `values`."""
        by_row = by_value.sum(1)
        return by_row if self.ids is None else by_row.new_zeros(self.groups).index_add(0, self.ids, by_row)

    def sample(self, limit: int) -> GroupedValues:
        """Return about `limit` of the values at a fixed stride; itself when there are no more."""
        count = self.values.numel()
        if count <= limit:
            return self
        stride = math.ceil(count / limit)
        columns = self.values.size(1)
        # A stride with a factor of the number of columns would see a few columns only.
        while math.gcd(stride, columns) != 1:
            stride += 1
        if self.ids is None:
            return GroupedValues(self.values[:, ::stride].contiguous(), self.groups)
        positions = torch.arange(0, count, stride, device=self.values.device)
        return GroupedValues(
            self.values.reshape(-1)[positions].unsqueeze(1),
            self.groups,
            self.ids[torch.div(positions, columns, rounding_mode="floor")],
            None if self.totals is None else torch.div(self.totals, stride, rounding_mode="floor"),
        )


def as_one_group(x: Tensor) -> GroupedValues:
    """Group a dense or sparse CSR tensor as a whole."""
    if x.layout is torch.sparse_csr:
        values = x.values()
        ids = torch.zeros_like(values, dtype=torch.int64)
        return GroupedValues(values.unsqueeze(1), 1, ids, torch.full((1,), x.numel(), device=values.device))
    return GroupedValues(x.reshape(1, -1), 1)


def by_channel(x: Tensor, channel_shape: tuple[int, ...]) -> GroupedValues:
    """Group by the dimensions whose size in `channel_shape` is not 1; sparse CSR by column."""
    check_channels(x, channel_shape)
    groups = math.prod(channel_shape)
    if x.layout is torch.sparse_csr:
        totals = torch.full((groups,), x.size(0), device=x.device)
        return GroupedValues(x.values().unsqueeze(1), groups, x.col_indices().long(), totals)
    kept = [dimension for dimension, size in enumerate(channel_shape) if size != 1]
    reduced = [dimension for dimension, size in enumerate(channel_shape) if size == 1]
    return GroupedValues(x.permute(*kept, *reduced).reshape(groups, -1), groups)


def by_row(x: Tensor) -> GroupedValues:
    """Group by the first dimension."""
    if x.layout is torch.sparse_csr:
        totals = torch.full((x.size(0),), x.size(1), device=x.device)
        return GroupedValues(x.values().unsqueeze(1), x.size(0), stored_rows(x), totals)
    return GroupedValues(x.reshape(x.size(0), -1) if x.numel() else x.new_zeros(x.size(0), 1), x.size(0))


def by_bucket(x: Tensor, bucket: Tensor, groups: int) -> GroupedValues:
    """Group rows by their bucket id [rows]."""
    ids = bucket.reshape(-1).long()
    if x.layout is torch.sparse_csr:
        rows = torch.zeros(groups, dtype=torch.int64, device=ids.device)
        totals = rows.index_add(0, ids, torch.ones_like(ids)) * x.size(1)
        return GroupedValues(x.values().unsqueeze(1), groups, ids.index_select(0, stored_rows(x)), totals)
    return GroupedValues(x.reshape(x.size(0), -1), groups, ids)


def stored_rows(x: Tensor) -> Tensor:
    """Return the row of each stored value of a sparse CSR matrix, [stored values] int64."""
    stored = x.crow_indices().diff()
    return torch.repeat_interleave(torch.arange(x.size(0), device=x.device), stored)


def check_channels(x: Tensor, channel_shape: tuple[int, ...]) -> None:
    """Raise QuantizerError unless `channel_shape` broadcasts to x, dimension by dimension."""
    fits = x.dim() == len(channel_shape) and all(
        channels in (1, size) for channels, size in zip(channel_shape, x.shape, strict=True)
    )
    if not fits:
        raise QuantizerError(
            f"expected a tensor with channels of shape {channel_shape} (got shape {tuple(x.shape)})"
        )
    if x.layout is torch.sparse_csr and channel_shape[0] != 1:
        raise QuantizerError(f"expected the columns of a sparse matrix as channels (got {channel_shape})")
