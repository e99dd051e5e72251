"""Every shipped space has the axes that its name says, and whatever is chosen is a recipe for its model."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from torch_geometric.data import Data

from sgq.bits.planned_space import PlannedSpace, planned_space
from sgq.cli.main import main
from sgq.pipeline.tasks import NodeTask
from sgq.recipe import load_recipe, resolve, shipped_names
from sgq.recipe.choices import choosable
from sgq.recipe.filling import filled
from tests.graph.small_graph import CHANNELS, zoo_model

MODELS = ("gcn", "gat", "agnn", "sage", "gin")
GRANULARITIES = ("lwq", "cwq", "taq", "lwq-cwq-taq")
SPACES = [f"spaces/{model}-{granularity}" for model in MODELS for granularity in GRANULARITIES]
WIDTHS = (1, 2, 4, 8, 16)


def graph() -> Data:
    """70 nodes of which each degree bucket has some: in-degrees 69, 20, 5 and, 67 times, 1."""
    degrees = torch.tensor([69, 20, 5] + [1] * 67)
    target = torch.arange(70).repeat_interleave(degrees)
    place = torch.cat([torch.arange(int(degree)) for degree in degrees])
    x = (torch.arange(70 * CHANNELS).view(70, CHANNELS) % 3).float()
    return Data(x=x, edge_index=torch.stack([(target + 1 + place) % 70, target]))


@cache
def planned_for(name: str) -> PlannedSpace:
    model = name.removeprefix("spaces/").partition("-")[0]
    return planned_space(zoo_model(model), name, NodeTask(graph()))


def axes_of(name: str) -> set[str]:
    return set(planned_for(name).space.names)


def test_every_model_has_a_space_of_each_granularity() -> None:
    assert {name for name in shipped_names() if name.startswith("spaces/")} == set(SPACES)


@pytest.mark.parametrize("name", SPACES)
def test_every_axis_of_a_space_has_all_widths(name: str) -> None:
    assert {axis.choices for axis in planned_for(name).space.axes} == {WIDTHS}


@pytest.mark.parametrize("model", MODELS)
def test_a_space_by_layer_has_an_axis_for_each_layer(model: str) -> None:
    layers = 4 if model == "agnn" else 2
    assert axes_of(f"spaces/{model}-lwq") == {f"layer-{number}" for number in range(layers)}


@pytest.mark.parametrize("model", MODELS)
def test_a_space_by_component_has_an_axis_for_each_group(model: str) -> None:
    assert axes_of(f"spaces/{model}-cwq") == {"combination", "aggregation"}


@pytest.mark.parametrize("model", MODELS)
def test_a_space_by_degree_has_an_axis_for_each_bucket(model: str) -> None:
    name = f"spaces/{model}-taq"
    assert axes_of(name) == {f"bucket-{number}" for number in range(4)}
    assert planned_for(name).bucket_edges == (4, 16, 64)


@pytest.mark.parametrize("model", MODELS)
def test_the_largest_space_tells_layers_components_and_buckets_apart(model: str) -> None:
    planned = planned_for(f"spaces/{model}-lwq-cwq-taq")
    names = planned.space.names
    assert 16 <= len(names) <= 26
    bucketed = {name.removesuffix("[0]") for name in names if name.endswith("[0]")}
    assert {name for name in names if name.endswith("]")} == {
        f"{name}[{bucket}]" for name in bucketed for bucket in range(4)
    }
    assert {name.partition(":")[2].partition("[")[0] for name in names} >= {"weight", "input", "output"}
    assert not any(place.shared for place in choosable(planned.recipe.recipe))


@pytest.mark.parametrize("end", ["widest", "narrowest"])
@pytest.mark.parametrize("name", SPACES)
def test_both_ends_of_a_space_are_recipes_that_quantize_all_that_its_model_stores(
    name: str, end: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planned = planned_for(name)
    chosen = planned.space.assignment(getattr(planned.space, end))
    path = tmp_path / f"{end}.yaml"
    path.write_text(filled(planned.recipe, chosen).text)
    assert main(["check", str(path)]) == 0, capsys.readouterr().err
    plan = resolve(load_recipe(path), planned.sites, bucket_edges=planned.bucket_edges)
    assert plan.digest == planned.plan_of(chosen).digest
    assert [entry.site.name for entry in plan if entry.site.stored and entry.spec is None] == []
    widths = {width for entry in plan.quantized if entry.spec is not None for width in entry.spec.widths}
    # A space by degree leaves what has no degree at 8 bits.
    assert widths - {8} == {WIDTHS[-1] if end == "widest" else WIDTHS[0]}


@pytest.mark.parametrize("name", SPACES)
def test_fewer_bits_on_any_axis_need_less_memory(name: str) -> None:
    planned = planned_for(name)
    space = planned.space
    whole = planned.memory(space.assignment(space.widest))
    for axis in space.axes:
        assert planned.memory(space.assignment(space.widest) | {axis.name: 8}) < whole, axis.name
