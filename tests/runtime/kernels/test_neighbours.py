from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from quantizers import QuantizerSpec
from sgq.errors import ModelError
from sgq.runtime.csr import COLUMN_PADDING, Csr
from sgq.runtime.finish import Finish
from sgq.runtime.kernels import aggregate, neighbours
from sgq.runtime.kernels.contract import Implementation, exact_distances
from sgq.runtime.packed import PackedTensor, layout_of, pack_rows
from sgq.runtime.workspace import AT_ONCE, Schedule, Workspace
from tests.runtime.graphs import normal, packed_rows, seeds
from tests.runtime.kernels.test_aggregate import torch_threads

IMPLEMENTATIONS: tuple[Implementation, ...] = ("torch", "numba")

channel_counts = st.sampled_from((1, 3, 5, 17, 64))


def held_codes(codes: Tensor, bits: int, *, zero_point: float = 0.0) -> PackedTensor:
    """Return whole numbers [rows, channels] as codes that share a scale of a half."""
    layout = layout_of((codes.size(0),), codes.size(1), (bits,))
    return PackedTensor(pack_rows(codes, layout), torch.tensor([[0.5, zero_point]]), "segment", layout)


def nearest_by_hand(codes: Tensor, clouds: int, k: int) -> list[int]:
    """Return the sources of all rows in order, from whole numbers [rows, channels]."""
    size = codes.size(0) // clouds
    found = []
    for cloud in codes.long().split(size):
        for row in cloud:
            distances = (cloud - row).square().sum(1).tolist()
            found.append(sorted(zip(distances, range(size), strict=True))[:k])
    return [row // size * size + other for row, nearest in enumerate(found) for _, other in nearest]


def sources(graph: Csr) -> list[int]:
    """Return the columns of a graph whose other parts are those of rows with k edges each."""
    k = graph.longest
    assert graph.pointers.tolist() == list(range(0, graph.rows * k + 1, k))
    assert (graph.pointers.dtype, graph.columns.dtype) == (torch.int32, torch.int32)
    assert (graph.step, graph.weights, graph.sources) == (1, None, graph.rows)
    assert graph.edges == graph.rows * k
    assert graph.columns[graph.edges :].tolist() == [0] * COLUMN_PADDING
    return graph.columns[: graph.edges].tolist()


@st.composite
def clouds_of_rows(draw: st.DrawFn, most: int = 60) -> tuple[int, int, int]:
    """A number of clouds, their size, and of neighbours."""
    size = draw(st.integers(1, most))
    return draw(st.integers(1, 3)), size, draw(st.sampled_from((1, size)) | st.integers(1, size))


@settings(max_examples=80, deadline=None)
@given(
    bits=st.sampled_from((1, 2, 3, 4, 8)),
    channels=channel_counts,
    shape=clouds_of_rows(),
    zero_point=st.sampled_from((0.0, 0.5, 3.0)),
    distinct=st.sampled_from((2, 5, 1000)),
    seed=seeds,
)
def test_codes_that_share_a_scale_have_exact_neighbours(
    bits: int, channels: int, shape: tuple[int, int, int], zero_point: float, distinct: int, seed: int
) -> None:
    clouds, size, k = shape
    generator = torch.Generator().manual_seed(seed)
    # Few distinct rows are at many equal distances.
    points = torch.randint(2**bits, (distinct, channels), generator=generator)
    codes = points[torch.randint(distinct, (clouds * size,), generator=generator)]
    x = held_codes(codes, bits, zero_point=zero_point)
    assert exact_distances(x)
    want = nearest_by_hand(codes, clouds, k)
    for implementation in IMPLEMENTATIONS:
        assert sources(neighbours(x, clouds=clouds, k=k, implementation=implementation)) == want


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("symmetric", [False, True])
def test_codes_of_calibrated_quantizers_have_exact_neighbours(bits: int, symmetric: bool) -> None:
    spec = QuantizerSpec(bits, symmetric=symmetric, signed=True)
    x = packed_rows(spec, normal(bits, 60, 5), (60,))
    want = nearest_by_hand(x.code_values(), 2, 7)
    for implementation in IMPLEMENTATIONS:
        assert sources(neighbours(x, clouds=2, k=7, implementation=implementation)) == want


@settings(max_examples=60, deadline=None)
@given(
    spec=st.sampled_from(
        [QuantizerSpec(32), QuantizerSpec(16)]
        + [QuantizerSpec(bits, granularity="node") for bits in (1, 2, 4, 8, 16)]
        + [QuantizerSpec(bits, granularity="channel") for bits in (1, 2, 4, 8, 16)]
        + [QuantizerSpec(4, granularity="node", symmetric=True, signed=True)]
    ),
    channels=channel_counts,
    shape=clouds_of_rows(),
    seed=seeds,
)
def test_other_rows_have_the_neighbours_of_their_values(
    spec: QuantizerSpec, channels: int, shape: tuple[int, int, int], seed: int
) -> None:
    clouds, size, k = shape
    x = packed_rows(spec, normal(seed, clouds * size, channels), (clouds * size,))
    assert not exact_distances(x)
    points = x.values().double().unflatten(0, (clouds, size))
    distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    want = distances.sort(2).values[..., :k]
    # Rows whose distances are closer than fp32 tells may come in any order.
    close = 1e-5 * (1.0 + float(distances.max()))
    for implementation in IMPLEMENTATIONS:
        graph = neighbours(x, clouds=clouds, k=k, implementation=implementation)
        places = torch.tensor(sources(graph)).view(clouds, size, k)
        places -= torch.arange(clouds).view(-1, 1, 1) * size
        assert bool(((places >= 0) & (places < size)).all())
        assert places.sort(2).values.diff(dim=2).ne(0).all()
        assert (distances.gather(2, places) - want).abs().max() <= close


def test_points_on_a_line_by_hand() -> None:
    # Two clouds: 0, 4, 1, 2 and 7, 7, 0, 7; equal distances go by index.
    x = held_codes(torch.tensor([[0], [4], [1], [2], [7], [7], [0], [7]]), 4)
    want = [[0, 2, 3], [1, 3, 2], [2, 0, 3], [3, 2, 0], [4, 5, 7], [4, 5, 7], [6, 4, 5], [4, 5, 7]]
    for implementation in IMPLEMENTATIONS:
        found = sources(neighbours(x, clouds=2, k=3, implementation=implementation))
        assert found == [column for row in want for column in row]


def test_distances_that_fp32_cannot_tell_apart_are_told_apart() -> None:
    codes = torch.zeros(3, 300, dtype=torch.int64)
    codes[1:, :259] = 255
    codes[1, 299] = 1
    assert 259 * 255**2 > 2**24
    x = held_codes(codes, 8)
    for implementation in IMPLEMENTATIONS:
        graph = neighbours(x, clouds=1, k=3, implementation=implementation)
        assert sources(graph)[:3] == [0, 2, 1]


def test_sums_of_squares_that_may_not_fit_in_32_bits_are_taken_in_fp32() -> None:
    codes = torch.zeros(2, 33100, dtype=torch.int64)
    codes[1] = 255
    assert codes[1].square().sum() > 2**31
    x = held_codes(codes, 8)
    assert not exact_distances(x)
    for implementation in IMPLEMENTATIONS:
        assert sources(neighbours(x, clouds=1, k=2, implementation=implementation)) == [0, 1, 1, 0]


def test_rows_without_finite_values_are_the_last() -> None:
    values = torch.tensor([[torch.nan], [1.0], [torch.inf], [3.0], [-torch.inf]])
    x = packed_rows(QuantizerSpec(32), values, (5,))
    found = torch.tensor(sources(neighbours(x, clouds=1, k=5))).view(5, 5)
    assert found[1].tolist() == [1, 3, 2, 4, 0]
    assert found[3].tolist() == [3, 1, 2, 4, 0]
    assert found.sort(1).values.tolist() == [[0, 1, 2, 3, 4]] * 5


@pytest.mark.parametrize("spec", [QuantizerSpec(8), QuantizerSpec(4, granularity="node"), QuantizerSpec(32)])
def test_threads_and_bound_runs_change_no_neighbour(spec: QuantizerSpec) -> None:
    rows = 700
    x = packed_rows(spec, normal(3, rows, 33), (rows,))
    want = neighbours(x, clouds=2, k=20).columns
    if exact_distances(x):
        assert torch.equal(want, neighbours(x, clouds=2, k=20, implementation="torch").columns)

    def compute(workspace: Workspace) -> Tensor:
        graph = neighbours(x, clouds=2, k=20, workspace=workspace)
        workspace.end_step(graph.tensors())
        largest = aggregate(graph, x, Finish(), reduction="max", workspace=workspace)
        assert isinstance(largest, Tensor)
        workspace.end_step([graph.columns, largest])
        return workspace.computed(lambda: torch.cat([graph.columns.double(), largest.double().flatten()]))

    whole = compute(AT_ONCE)
    for threads in (1, 2):
        with torch_threads(threads):
            assert torch.equal(neighbours(x, clouds=2, k=20).columns, want)
            schedule, model = Schedule(), type("Model", (), {})()
            for _ in range(3):
                assert torch.equal(schedule.run(model, compute), whole)


def test_what_has_no_neighbours_is_refused() -> None:
    x = held_codes(torch.zeros(6, 3, dtype=torch.int64), 8)
    several = packed_rows(QuantizerSpec((8, 4), granularity="bucket"), normal(0, 6, 3), (3, 3))
    heads = packed_rows(QuantizerSpec(8), normal(0, 6, 2, 3), (6,))
    none = packed_rows(QuantizerSpec(32), torch.empty(0, 3), (0,))
    refused: list[tuple[Any, str]] = [
        ({"x": x, "clouds": 1, "k": 7}, r"expected 1 to 6 neighbours.*\(got 7\)"),
        ({"x": x, "clouds": 2, "k": 4}, r"expected 1 to 3 neighbours"),
        ({"x": x, "clouds": 1, "k": 0}, r"\(got 0\)"),
        ({"x": x, "clouds": 4, "k": 1}, r"equally large clouds \(got 6 rows, 4 clouds\)"),
        ({"x": x, "clouds": 0, "k": 1}, r"equally large clouds"),
        ({"x": none, "clouds": 1, "k": 1}, r"expected 1 to 0 neighbours"),
        ({"x": several, "clouds": 1, "k": 1}, r"rows of one width \(got 2, by bucket\)"),
        ({"x": heads, "clouds": 1, "k": 1}, r"rows of one head \(got 2\)"),
    ]
    for arguments, message in refused:
        with pytest.raises(ModelError, match=message):
            neighbours(**arguments)


def test_padding_of_rows_does_not_count() -> None:
    codes = torch.tensor([[1], [3], [1], [2]])
    x = held_codes(codes, 2)
    bytes_of_rows = x.codes.clone().view(4, -1)
    assert bytes_of_rows.size(1) == 8
    for row in range(4):
        # All but the first channel, which is plane 0 of byte 0.
        bytes_of_rows[row] |= torch.tensor(
            [(37 * row * 4) & 0xFC] + [(91 * row) & 0xFF] * 7, dtype=torch.uint8
        )
    x = replace(x, codes=bytes_of_rows.flatten())
    assert torch.equal(x.code_values(), codes.float())
    for implementation in IMPLEMENTATIONS:
        found = sources(neighbours(x, clouds=1, k=4, implementation=implementation))
        assert found == nearest_by_hand(codes, 1, 4)
