"""A packed checkpoint gives back the very model: its outputs, its scales, its size as modelled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv

import sgq
from quantizers import FakeQuantize, ObserverSpec, Phase, QuantizerSpec, RowFakeQuantize, register
from sgq.errors import CheckpointError, RecipeError
from sgq.graph.inputs import call
from sgq.graph.probe import find_sites
from sgq.graph.sites import Workload
from sgq.graph.wrap import quantizer_at, quantizers_of
from sgq.models import build, default_options, model_names
from sgq.pipeline.checkpoint import read
from sgq.pipeline.stored_range import StoredRange
from sgq.recipe import shipped_names
from sgq.recipe.plan import Plan, PlanEntry
from tests.graph.convolution_cases import CASES, ConvolutionCase
from tests.graph.convolution_graph import NODES
from tests.pipeline.trained_models import CHANNELS, CLASSES, community_graph, float_model

SIGNED = {"symmetric": True, "signed": True}
HEADER_BYTES, SITE_BYTES = 16 * 1024, 1024

OBSERVERS = {
    "minmax": ObserverSpec(),
    "mse": ObserverSpec("mse"),
    "percentile": ObserverSpec("percentile", q=0.95),
    "moving_average": ObserverSpec("moving_average"),
    "fixed": ObserverSpec("fixed", lower=-0.3, upper=0.4),
}


def calibrated(model: nn.Module, plan: Plan, data: Data) -> nn.Module:
    if plan.buckets:
        data = sgq.DegreeBuckets(plan.bucket_edges)(data.clone())
    wrapped = sgq.wrap(model, plan, bucket=data.bucket if plan.buckets else None)
    sgq.calibrate(wrapped, plan, data)
    return wrapped.eval()


def with_weights(spec: QuantizerSpec, *, model: str = "gcn") -> tuple[nn.Module, Plan, Data]:
    """A calibrated model whose two-dimensional parameters have one spec, and everything else int8."""
    data = community_graph()
    plan = sgq.plan(float_model(model), "int8", data)
    weights = {str(entry.site.name): spec for entry in plan.entries if entry.site.rows == "parameter"}
    plan = plan.with_specs(weights)
    return calibrated(float_model(model), plan, data), plan, data


@pytest.mark.parametrize("name", model_names())
def test_the_payload_of_every_shipped_recipe_is_the_modelled_file_and_its_header_is_small(
    tmp_path: Path, name: str
) -> None:
    data, path, text = community_graph(), tmp_path / "model.safetensors", "rules: 'a recipe's text'\n" * 30
    fitting = 0
    for recipe in shipped_names():
        model = float_model(name)
        try:
            plan = sgq.plan(model, recipe, data)
        except RecipeError:  # it names layers of another model
            continue
        fitting += 1
        wrapped = calibrated(model, plan, data)
        contents = read(sgq.save(path, wrapped, plan, recipe_text=text))
        assert contents.payload_bytes == sgq.memory_of(plan).file_bytes
        assert contents.header_bytes <= HEADER_BYTES + len(text) + SITE_BYTES * len(plan)
        assert contents.plan == plan
        assert contents.plan.digest == plan.digest
        expected = wrapped(data.x, data.edge_index)
        assert torch.equal(sgq.load(path)(data.x, data.edge_index), expected)
        assert torch.equal(sgq.load(path, float_model(name))(data.x, data.edge_index), expected)
    assert fitting >= 3


def specs() -> Iterator[QuantizerSpec]:
    for bits in (1, 3, 8, 16):
        for signs in ({}, {"signed": True}, SIGNED):
            for observer in OBSERVERS.values():
                for granularity in ("tensor", "channel", "node"):
                    if granularity != "node" or observer.kind in ("minmax", "mse"):
                        yield QuantizerSpec(bits, granularity=granularity, observer=observer, **signs)


@pytest.mark.parametrize("spec", list(specs()), ids=lambda spec: f"{spec}-{spec.observer.kind}-{spec.signed}")
def test_weights_that_were_dequantized_quantize_to_themselves(tmp_path: Path, spec: QuantizerSpec) -> None:
    generator = torch.Generator().manual_seed(3)
    x, layer = torch.randn(5, 16, generator=generator), nn.Linear(16, 6)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(6, 16, generator=generator) * torch.logspace(-6, 3, 6).unsqueeze(1))
        layer.weight[2] = 0.0
    table = find_sites(layer, lambda called: called(x), Workload(nodes=5, edges=0))
    entries = tuple(
        PlanEntry(site, spec if site.rows == "parameter" else QuantizerSpec(8)) for site in table.sites
    )
    plan = Plan("by hand", entries, table.float_parameters, table.workload)
    wrapped = sgq.wrap(layer, plan)
    wrapped(x)
    for quantizer in quantizers_of(wrapped).values():
        quantizer.freeze()
    path = sgq.save(tmp_path / "model.safetensors", wrapped, plan)
    assert read(path).payload_bytes == sgq.memory_of(plan).file_bytes
    loaded = sgq.load(path, nn.Linear(16, 6))
    assert torch.equal(loaded(x), wrapped(x))
    again = sgq.save(tmp_path / "again.safetensors", loaded, plan)
    assert again.read_bytes() == path.read_bytes()


def test_a_range_that_rows_bring_themselves_is_pinned_in_a_loaded_parameter(tmp_path: Path) -> None:
    spec = QuantizerSpec(4, granularity="node", observer=ObserverSpec("mse"))
    wrapped, plan, _ = with_weights(spec)
    weight = plan["convs.0.lin:weight"].site
    loaded = sgq.load(sgq.save(tmp_path / "m.safetensors", wrapped, plan), float_model())
    assert isinstance(quantizer_at(wrapped, weight), RowFakeQuantize)
    assert isinstance(quantizer_at(loaded, weight), StoredRange)
    # Searching the clipping again in rounded values finds another one: what pinning is for.
    values = loaded.convs[0].lin._parameters["weight"].detach()
    assert torch.equal(quantizer_at(loaded, weight)(values), values)
    assert not torch.equal(quantizer_at(wrapped, weight)(values), values)


def test_a_weight_of_nothing_but_zeros_stays_zero_at_one_bit(tmp_path: Path) -> None:
    data, model = community_graph(), float_model()
    nn.init.zeros_(model.convs[1].lin.weight)
    plan = sgq.plan(model, "int8", data).with_specs({"convs.1.lin:weight": QuantizerSpec(1, **SIGNED)})
    wrapped = calibrated(model, plan, data)
    loaded = sgq.load(sgq.save(tmp_path / "m.safetensors", wrapped, plan))
    assert not loaded.convs[1].lin.weight.any()
    assert torch.equal(loaded(data.x, data.edge_index), wrapped(data.x, data.edge_index))


WEIGHTS = (QuantizerSpec(8, granularity="channel", **SIGNED), QuantizerSpec(3, granularity="node"))
ACTIVATIONS = (QuantizerSpec(8), QuantizerSpec(12, signed=True))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_any_convolution_goes_through_a_file_of_the_modelled_size(
    tmp_path: Path, case: ConvolutionCase
) -> None:
    module = case.build()
    args, kwargs = case.arguments()

    def run(called: nn.Module) -> Any:
        with torch.no_grad():
            return called(*args, **kwargs)

    table = find_sites(module, run, Workload(nodes=NODES, edges=300))
    entries = tuple(
        PlanEntry(site, (WEIGHTS if site.rows == "parameter" else ACTIVATIONS)[index % 2])
        for index, site in enumerate(table.sites)
    )
    plan = Plan("by hand", entries, table.float_parameters, table.workload, buffers=table.buffers)
    wrapped = sgq.wrap(module, plan)
    run(wrapped)
    for quantizer in quantizers_of(wrapped).values():
        quantizer.freeze()
    path = sgq.save(tmp_path / "conv.safetensors", wrapped, plan)
    assert read(path).payload_bytes == sgq.memory_of(plan).file_bytes
    assert read(path).header_bytes <= HEADER_BYTES + SITE_BYTES * len(plan)
    fresh = case.build()
    for parameter in fresh.parameters():
        nn.init.constant_(parameter, 0.5)
    assert torch.equal(flat(run(sgq.load(path, fresh))), flat(run(wrapped)))


def flat(output: Any) -> Tensor:
    if isinstance(output, dict):
        output = list(output.values())
    if isinstance(output, Tensor):
        return output.flatten()
    return torch.cat([flat(part) for part in output if part is not None])


def test_buffers_come_back_and_count_in_the_file_and_in_both_baselines(tmp_path: Path) -> None:
    data, model = community_graph(), float_model("gin", trained=True)
    plan = sgq.plan(model, "int8", data)
    names = [buffer.name for buffer in plan.buffers]
    assert "convs.0.nn.3.running_mean" in names
    assert "convs.0.nn.3.num_batches_tracked" in names
    without, memory = sgq.memory_of(replace(plan, buffers=())), sgq.memory_of(plan)
    # One batch norm over 64 channels: two statistics in fp32 and a counter of 8 bytes; an epsilon a layer.
    assert memory.buffer_bytes == 2 * 64 * 4 + 8 + 2 * 4
    for figure in ("file_bytes", "packed_bytes", "dense_fp32_bytes", "sparse_fp32_bytes"):
        assert getattr(memory, figure) - getattr(without, figure) == memory.buffer_bytes
    loaded = sgq.load(sgq.save(tmp_path / "m.safetensors", calibrated(model, plan, data), plan))
    for name in names:
        assert torch.equal(loaded.get_buffer(name), model.get_buffer(name))
    assert int(loaded.get_buffer("convs.0.nn.3.num_batches_tracked")) > 0


def test_plans_without_buffers_keep_their_json_and_digest() -> None:
    plan = sgq.plan(float_model("gcn"), "int8", community_graph())
    assert "buffers" not in plan.to_json()
    assert "sampled" not in plan.to_json()["workload"]
    with_one = replace(plan, buffers=sgq.plan(float_model("gin"), "int8", community_graph()).buffers[:1])
    assert with_one.digest != plan.digest
    assert Plan.from_json(with_one.to_json()) == with_one


def test_finetuning_can_go_on_from_a_loaded_model(tmp_path: Path) -> None:
    wrapped, plan, data = with_weights(QuantizerSpec(4, granularity="channel", **SIGNED))
    loaded = sgq.load(sgq.save(tmp_path / "m.safetensors", wrapped, plan))
    before = {path: quantizer.state_dict() for path, quantizer in quantizers_of(loaded).items()}
    for quantizer in quantizers_of(loaded).values():
        quantizer.phase = Phase.TRACK
    loaded.train()
    loaded(data.x, data.edge_index)
    # A range that was loaded is only ever widened by "minmax": the scale does not fall back to the batch.
    for path, quantizer in quantizers_of(loaded).items():
        if "scale" in before[path] and quantizer.spec.observer.kind == "minmax":
            assert bool((quantizer.scale >= before[path]["scale"] * (1 - 1e-6)).all())


class Tied(nn.Module):
    """Two linear layers that share one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(CHANNELS, CHANNELS)
        self.second = nn.Linear(CHANNELS, CHANNELS)
        self.second.weight = self.first.weight
        self.conv = GCNConv(CHANNELS, CLASSES)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.conv(self.second(self.first(x).relu()).relu(), edge_index)


def test_a_shared_weight_with_two_specs_is_held_twice_and_loads_as_two(tmp_path: Path) -> None:
    data, model = community_graph(), Tied()
    eight, two = QuantizerSpec(8, **SIGNED), QuantizerSpec(2, **SIGNED)
    plan = sgq.plan(model, "int8", data).with_specs({"first:weight": eight, "second:weight": two})
    wrapped = calibrated(model, plan, data)
    path = sgq.save(tmp_path / "m.safetensors", wrapped, plan)
    assert read(path).payload_bytes == sgq.memory_of(plan).file_bytes
    loaded = sgq.load(path, Tied())
    assert torch.equal(loaded(data.x, data.edge_index), wrapped(data.x, data.edge_index))


def test_a_model_in_half_precision_comes_back(tmp_path: Path) -> None:
    data = community_graph()
    data.x = data.x.bfloat16()
    model = float_model("sage").bfloat16()
    plan = sgq.plan(model, "int8", data)
    wrapped = calibrated(model, plan, data)
    loaded = sgq.load(sgq.save(tmp_path / "m.safetensors", wrapped, plan), float_model("sage").bfloat16())
    assert torch.equal(loaded(data.x, data.edge_index), wrapped(data.x, data.edge_index))


def test_values_that_fp32_cannot_hold_and_infinite_ones_are_not_saved(tmp_path: Path) -> None:
    data, model = community_graph(), float_model().double()
    data.x = data.x.double()
    plan = sgq.plan(model, "int8", data)
    with pytest.raises(CheckpointError, match="that fp32 holds exactly"):
        sgq.save(tmp_path / "m.safetensors", calibrated(model, plan, data), plan)
    wrapped, plan, _ = with_weights(QuantizerSpec(8, **SIGNED))
    with torch.no_grad():
        wrapped.convs[0].lin._parameters["weight"][0, 0] = float("nan")
    with pytest.raises(CheckpointError, match=r"convs\.0\.lin:weight: expected finite values"):
        sgq.save(tmp_path / "m.safetensors", wrapped, plan)


def test_an_uncalibrated_model_and_one_of_another_plan_are_not_saved(tmp_path: Path) -> None:
    data, path = community_graph(), tmp_path / "m.safetensors"
    plan = sgq.plan(float_model(), "int8", data)
    with pytest.raises(CheckpointError, match=r"sgq\.calibrate\(model, plan, data\)"):
        sgq.save(path, sgq.wrap(float_model(), plan), plan)
    wrapped = calibrated(float_model(), plan, data)
    fewer = plan.with_specs({"convs.1:message": None})
    with pytest.raises(CheckpointError, match="wrapped with the plan"):
        sgq.save(path, wrapped, fewer)
    other = plan.with_specs({"convs.1:message": QuantizerSpec(3)})
    with pytest.raises(CheckpointError, match=r"convs\.1:message: expected 3 tensor as planned"):
        sgq.save(path, wrapped, other)
    assert not path.exists()


@register("squares")
class Squares(FakeQuantize):
    """Values that are no multiples of a scale."""

    def forward(self, x: Tensor, bucket: Tensor | None = None) -> Tensor:
        return super().forward(x, bucket) if self.phase is Phase.OBSERVE else x.square()


def test_a_quantizer_whose_values_are_no_codes_is_not_saved(tmp_path: Path) -> None:
    wrapped, plan, _ = with_weights(QuantizerSpec(8, quantizer="squares", **SIGNED))
    with pytest.raises(CheckpointError, match='got others from quantizer "squares"'):
        sgq.save(tmp_path / "m.safetensors", wrapped, plan)


def test_bucket_ids_that_come_with_the_call_are_in_neither_the_file_nor_the_model_of_it(
    tmp_path: Path,
) -> None:
    graphs = [community_graph(seed=seed) for seed in range(6)]
    for index, graph in enumerate(graphs):
        graph.y = torch.tensor([index % CLASSES])
    options = replace(default_options("gcn", task="graph"), hidden=8)
    model = build("gcn", in_channels=CHANNELS, out_channels=CLASSES, options=options)
    task = sgq.as_task(graphs)
    plan = sgq.plan(model, "sgquant/gcn-taq", task)
    wrapped = sgq.wrap(model, plan)
    sgq.calibrate(wrapped, plan, task)
    wrapped.eval()
    path = sgq.save(tmp_path / "m.safetensors", wrapped, plan)
    memory = sgq.memory_of(plan)
    assert memory.bucket_id_bytes > 0
    assert read(path).payload_bytes == memory.file_bytes
    batch = task.with_buckets(plan.bucket_edges).sample()
    loaded = sgq.load(path)
    assert torch.equal(call(loaded, batch, bucket=batch.bucket), call(wrapped, batch, bucket=batch.bucket))
