"""The grid of operations that is measured: each work runs, does what it says, and is what genotypes need."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sgq.cost import running
from sgq.cost.calls import calls_of
from sgq.cost.categories import category_of
from sgq.cost.footprint import FLOAT_BYTES
from sgq.cost.measurements import MeasurementStore, read_measurements
from sgq.cost.operation_sources import Deferred, Extent, make_source, source_names
from sgq.cost.running import packed_rows, runnable
from sgq.cost.space_operations import COLUMNS, MOST_OF_MEMORY, Sizes, SpaceSource, grid, work_of
from sgq.cost.timing import Timing
from sgq.cost.work import Kind, Work
from sgq.cost.workload import POINTS, Workload
from sgq.errors import ModelError
from sgq.models.dgcnn import dgcnn
from sgq.models.genotype import EdgeMlp, Genotype, Pool, Reducer, Sample, choices_of
from sgq.models.genotype_sampling import GenotypeSpace, random_genotype, with_bits
from sgq.models.neighbours import Neighbours
from sgq.runtime.csr import Csr
from sgq.runtime.packed import PackedTensor, held_bits

TINY = Sizes(rows=(16,), k=(3,), channels=(4, 9), edge_channels=(4,), narrow=(8, 2))
WORKS = tuple(grid(TINY))
KINDS = sorted({(work.runtime, work.kind) for work in WORKS})


def of_kind(runtime: str, kind: str) -> list[Work]:
    return [work for work in WORKS if (work.runtime, work.kind) == (runtime, kind)]


def result_of(work: Work) -> tuple[Any, ...]:
    """Return (rows, channels or edges, bits) that a work should make."""
    if work.kind in ("knn", "random"):
        return (work.rows, work.edges, 32)
    return (work.clouds if work.kind == "pool" else work.rows, work.outputs, held_bits(work.output_bits))


def shape_of(made: object) -> tuple[Any, ...]:
    if isinstance(made, Csr):
        return (made.rows, made.edges, 32)
    if isinstance(made, Neighbours):
        assert made.k is not None
        return (made.edge_index.size(1) // made.k, made.edge_index.size(1), 32)
    if isinstance(made, PackedTensor):
        return (made.layout.rows, made.layout.channels, made.layout.segments[0].bits)
    assert isinstance(made, Tensor)
    return (made.size(0), made.size(1), 32)


def numbers_of(made: object) -> Tensor:
    if isinstance(made, Csr):
        return made.columns
    if isinstance(made, Neighbours):
        return made.edge_index
    if isinstance(made, PackedTensor):
        return made.codes
    assert isinstance(made, Tensor)
    return made


@pytest.mark.parametrize(("runtime", "kind"), KINDS)
def test_every_work_makes_what_it_says_each_time_that_it_runs(runtime: str, kind: str) -> None:
    for work in of_kind(runtime, kind):
        run = runnable(work)
        made = run()
        assert shape_of(made) == result_of(work), work
        numbers = numbers_of(made)
        first = numbers.clone()
        assert first.float().isfinite().all(), work
        if runtime == "integer":
            numbers.zero_()  # integer kernels are bound to one place
        again = numbers_of(run())
        assert torch.equal(again, first), work
        assert (again.data_ptr() == numbers.data_ptr()) == (runtime == "integer"), work


def test_the_grid_has_all_kinds_on_both_runtimes() -> None:
    of_all: set[Kind] = {"knn", "gather", "distance", "assemble", "linear", "pool"}
    assert {kind for runtime, kind in KINDS if runtime == "float"} == of_all | {"random", "edge_network"}
    # On integers random neighbours are drawn once, and edge networks run by node.
    assert {kind for runtime, kind in KINDS if runtime == "integer"} == of_all
    assert len(set(WORKS)) == len(WORKS)


@pytest.mark.parametrize("bits", [32, 8, 2])
@pytest.mark.parametrize("reducer", ["max", "sum", "mean", "min"])
def test_a_gather_reduces_the_rows_of_its_neighbours(reducer: str, bits: int) -> None:
    work = Work("integer", "gather", reducer, 16, 48, 9, 9, bits)
    torch.manual_seed(running.SEED)
    x, sources = packed_rows(16, 9, bits).values(), running._sources(work)
    assert torch.allclose(numbers_of(runnable(work)()), reduced(x[sources], reducer), atol=1e-5)


@pytest.mark.parametrize("clouds", [1, 2])
def test_neighbours_are_the_nearest_of_each_cloud(clouds: int) -> None:
    work = Work("integer", "knn", "knn", 16, 48, 9, 0, clouds=clouds)
    torch.manual_seed(running.SEED)
    x = packed_rows(16, 9, 32).values().view(clouds, -1, 9)
    made = runnable(work)()
    assert isinstance(made, Csr)
    found = made.columns[:48].view(clouds, -1, 3).long() - (
        torch.arange(clouds) * (16 // clouds)
    ).view(-1, 1, 1)  # fmt: skip
    wanted = torch.cdist(x, x).topk(3, largest=False).indices
    assert torch.equal(found.sort(2).values, wanted.sort(2).values)


def test_distances_and_pools_are_those_of_their_rows() -> None:
    distance = Work("integer", "distance", "max", 16, 48, 4, 1, 8)
    torch.manual_seed(running.SEED)
    x, sources = packed_rows(16, 4, 8).values(), running._sources(distance)
    lengths = (x[sources] - x.unsqueeze(1)).norm(dim=2, keepdim=True)
    assert torch.allclose(numbers_of(runnable(distance)()), lengths.amax(1), atol=1e-5)
    pool = Work("integer", "pool", "mean", 16, 0, 4, 4, 8, clouds=2)
    torch.manual_seed(running.SEED)
    rows = packed_rows(16, 4, 8).values().view(2, 8, 4)
    assert torch.allclose(numbers_of(runnable(pool)()), rows.mean(1), atol=1e-5)


def reduced(messages: Tensor, reducer: str) -> Tensor:
    if reducer == "max":
        return messages.amax(1)
    if reducer == "min":
        return messages.amin(1)
    return messages.sum(1) if reducer == "sum" else messages.mean(1)


@pytest.mark.parametrize("runtime", ["float", "integer"])
def test_messages_are_put_together_of_their_own_row_and_what_was_brought(runtime: Any) -> None:
    def made(variant: str, outputs: int) -> Tensor:
        work = Work(runtime, "assemble", variant, 16, 0, outputs, outputs)
        return numbers_of(runnable(work)())

    own, brought, one = (part.clone() for part in made("4x2", 10).split([3, 3, 4], dim=1))
    relative, length = one.split([3, 1], dim=1)
    assert torch.allclose(relative, brought - own, atol=1e-6)
    assert length.shape == (16, 1)
    for variant, outputs in (("1x1", 5), ("1x2", 5), ("2x2", 6), ("2x1", 7), ("4x1", 13)):
        assert made(variant, outputs).shape == (16, outputs)


def test_an_integer_edge_network_by_edge_is_not_timed_as_something_else() -> None:
    with pytest.raises(ModelError, match="an edge network with mean has no integer kernel"):
        runnable(Work("integer", "edge_network", "mean", 16, 48, 4, 8, 8, 8, 8))


@pytest.mark.parametrize("variant", ["none", "relu", "leaky_relu"])
@pytest.mark.parametrize("bits", [(32, 32), (8, 32), (32, 8), (8, 4), (16, 8)])
def test_layers_of_a_head_and_of_mixed_bits_run(variant: str, bits: tuple[int, int]) -> None:
    runtimes: tuple[Any, ...] = ("float", "integer") if bits == (32, 32) else ("integer",)
    for runtime in runtimes:
        work = Work(runtime, "linear", variant, 1, 0, 9, 5, *bits)
        assert shape_of(runnable(work)()) == (1, 5, 32)


def test_every_call_of_a_genotype_is_runnable() -> None:
    genotypes = [with_bits(dgcnn(3), bits) for bits in (32, 4)]
    genotypes += [random_genotype(GenotypeSpace(k=(3,)), random.Random(n), in_channels=3) for n in range(10)]
    for genotype in genotypes:
        for call in calls_of(genotype, Workload(12, batch=2, classes=5)).calls:
            work = call.work
            made = runnable(work)()
            if made is not None:  # random neighbours on integers take nothing
                assert shape_of(made) == result_of(work), work


def test_works_survive_the_file_that_they_are_measured_into(tmp_path: Path) -> None:
    timing = Timing(3, 2e-4, 1e-4, 3e-4)
    source = SpaceSource(WORKS)
    assert len(source) == len(WORKS)
    with MeasurementStore(tmp_path / "host.operations.csv", source.columns) as store:
        for key, call in source:
            assert isinstance(call, Deferred)  # nothing is built before it is measured
            store.append(key, timing)
    assert tuple(map(work_of, read_measurements(tmp_path / "host.operations.csv", COLUMNS))) == WORKS


def test_the_source_is_registered_and_runs_its_works() -> None:
    assert "operations" in source_names()
    key, call = next(iter(SpaceSource((of_kind("integer", "linear")[0],))))
    assert Work(**key) == of_kind("integer", "linear")[0]  # type: ignore[arg-type]
    assert shape_of(call()) == result_of(of_kind("integer", "linear")[0])


def test_a_small_memory_drops_large_works() -> None:
    whole, small = (make_source("operations", Extent(memory_bytes=size)) for size in (2**40, 2**28))
    assert isinstance(whole, SpaceSource)
    assert isinstance(small, SpaceSource)
    assert set(small.works) < set(whole.works) == set(grid(Sizes()))
    dropped = set(whole.works) - set(small.works)
    assert Work("float", "gather", "max", 2048, 2048 * 40, 1024, 1024) in dropped
    # Distances of all pairs of 2,048 rows.
    assert Work("float", "knn", "knn", 2048, 2048 * 10, 4, 0) in dropped
    most = 2**28 // MOST_OF_MEMORY
    for work in small.works:
        assert FLOAT_BYTES * work.rows * max(work.inputs, work.outputs) <= most
        assert work.kind != "knn" or FLOAT_BYTES * work.rows**2 <= most
    # There is something of every category left.
    assert {category_of(work) for work in small.works} == {category_of(work) for work in whole.works}


def test_a_quick_grid_is_a_small_part() -> None:
    quick = make_source("operations", Extent(memory_bytes=2**40, quick=True))
    assert isinstance(quick, SpaceSource)
    whole = set(grid(Sizes()))
    assert len(quick) < len(whole) / 3
    # Of sizes, not of kinds and bits: every genotype has a price.
    assert {category_of(work) for work in quick.works} == {category_of(work) for work in whole}


@pytest.fixture(scope="module")
def measured() -> set[Any]:
    """The categories that the full grid measures."""
    return {category_of(work) for work in grid(Sizes())}


@pytest.mark.parametrize("first", range(0, 300, 100))
def test_the_grid_measures_every_category_that_genotypes_need(first: int, measured: set[Any]) -> None:
    for seed in range(first, first + 100):
        space = GenotypeSpace(bits=(32, 16, 8, 4, 2, 1), has_edges=seed % 3 == 0)
        genotype = random_genotype(space, random.Random(seed), in_channels=3)
        workload = Workload(1024, edges=5000 if space.has_edges else 0, batch=1 + seed % 2)
        assert categories(genotype, workload) <= measured


@pytest.mark.parametrize("bits", [32, 16, 8, 5, 4, 2, 1])
def test_the_grid_measures_every_category_of_dgcnn(bits: int, measured: set[Any]) -> None:
    assert categories(with_bits(dgcnn(), bits), POINTS) <= measured


@pytest.mark.parametrize("reducer", choices_of(Reducer))
def test_the_grid_measures_edge_networks_of_every_reducer_on_torch(
    reducer: Reducer, measured: set[Any]
) -> None:
    genotype = Genotype((Sample("knn", 20), EdgeMlp(64, reducer), Pool(("max",))))
    assert categories(genotype, POINTS) <= measured
    if reducer in ("max", "min"):
        assert categories(with_bits(genotype, 8), POINTS) <= measured


def categories(genotype: Genotype, workload: Workload) -> set[Any]:
    works = (call.work for call in calls_of(genotype, workload).calls)
    return {category_of(work) for work in works if (work.runtime, work.kind) != ("integer", "random")}


def test_keys_are_the_fields_of_a_work() -> None:
    work = WORKS[0]
    key, _ = next(iter(SpaceSource((work,))))
    assert Work(**key) == work  # type: ignore[arg-type]
