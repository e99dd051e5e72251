from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import sgq
from sgq.errors import CheckpointError
from sgq.graph.wrap import quantizers_of
from sgq.pipeline.applying import Applied
from sgq.pipeline.checkpoint import read
from tests.pipeline.trained_models import INT4, TAQ, community_graph, float_model, recipe


def applied(name: str = "gcn", text: str = TAQ) -> Applied:
    return sgq.apply(float_model(name), recipe(text.replace("epochs: 4", "epochs: 1")), community_graph())


@pytest.mark.parametrize("text", [INT4, TAQ])
@pytest.mark.parametrize("name", ["gcn", "sage", "gin", "gat", "gatv2"])
def test_a_quantized_round_trip_gives_the_same_logits_plan_and_state(
    tmp_path: Path, name: str, text: str
) -> None:
    data = community_graph()
    made = applied(name, text)
    path = sgq.save(tmp_path / "model.safetensors", made.model, made.plan, metadata={"model": name})
    loaded = sgq.load(path, float_model(name))
    assert torch.equal(loaded(data.x, data.edge_index), made.model(data.x, data.edge_index))
    assert loaded.state_dict().keys() == made.model.state_dict().keys()
    for key, tensor in made.model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], tensor)
    contents = read(path)
    assert contents.plan == made.plan
    assert contents.plan.digest == made.plan.digest
    assert contents.metadata["model"] == name


def test_loading_leaves_the_float_model_that_it_was_given(tmp_path: Path) -> None:
    made = applied()
    path = sgq.save(tmp_path / "model.safetensors", made.model, made.plan)
    model = float_model()
    loaded = sgq.load(path, model)
    assert quantizers_of(loaded)
    assert not quantizers_of(model)


def test_a_float_round_trip_is_exact_in_both_formats(tmp_path: Path) -> None:
    model = float_model()
    saved = sgq.save(tmp_path / "float.safetensors", model)
    torch.save(model.state_dict(), tmp_path / "float.pt")
    for path in (saved, tmp_path / "float.pt"):
        other = float_model("gcn")
        for parameter in other.parameters():
            nn.init.zeros_(parameter)
        sgq.load(path, other)
        for key, tensor in model.state_dict().items():
            assert torch.equal(other.state_dict()[key], tensor)


def test_a_quantized_model_is_not_saved_without_its_plan(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"sgq\.save\(path, model, plan\)"):
        sgq.save(tmp_path / "model.safetensors", applied().model)


def test_a_misfit_names_the_tensors_and_both_shapes(tmp_path: Path) -> None:
    path = sgq.save(tmp_path / "wide.safetensors", nn.Linear(4, 3))
    model = nn.Linear(5, 3)
    before = model.weight.clone()
    with pytest.raises(CheckpointError) as raised:
        sgq.load(path, model)
    assert '"weight" has shape [3, 4] where the model has [3, 5]' in str(raised.value)
    assert '"bias"' not in str(raised.value)
    assert torch.equal(model.weight, before)


def test_missing_and_unknown_tensors_are_both_listed_with_the_nearest_name(tmp_path: Path) -> None:
    path = sgq.save(tmp_path / "model.safetensors", nn.ModuleDict({"encoder": nn.Linear(2, 2)}))
    with pytest.raises(CheckpointError) as raised:
        sgq.load(path, nn.ModuleDict({"encoders": nn.Linear(2, 2)}))
    assert '"encoders.weight" is missing' in str(raised.value)
    assert '"encoder.weight" is not in the model.' in str(raised.value)
    assert "encoders.weight" in str(raised.value)


def test_a_quantized_checkpoint_of_another_model_is_a_checkpoint_error(tmp_path: Path) -> None:
    made = applied("gat")
    path = sgq.save(tmp_path / "gat.safetensors", made.model, made.plan)
    with pytest.raises(CheckpointError, match="does not fit"):
        sgq.load(path, float_model("gcn"))


def test_a_quantized_checkpoint_of_another_width_names_the_shapes(tmp_path: Path) -> None:
    from dataclasses import replace

    from sgq.models import build, default_options

    made = applied("gcn", INT4)
    path = sgq.save(tmp_path / "gcn.safetensors", made.model, made.plan)
    wide = build("gcn", in_channels=16, out_channels=3, options=replace(default_options("gcn"), hidden=32))
    with pytest.raises(CheckpointError, match=r"\[16, 16\] where the model has \[32, 16\]"):
        sgq.load(path, wide)


@pytest.mark.parametrize("keep", [0, 4, 200, -1])
def test_a_truncated_file_is_unreadable_and_says_so(tmp_path: Path, keep: int) -> None:
    path = sgq.save(tmp_path / "model.safetensors", float_model())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="is not a readable safetensors file"):
        sgq.load(path, float_model())


def test_a_broken_pt_file_and_one_that_is_no_state_dict_are_refused(tmp_path: Path) -> None:
    broken = tmp_path / "broken.pt"
    broken.write_bytes(b"not a state dict")
    with pytest.raises(CheckpointError, match="is not a readable state dict"):
        sgq.load(broken, float_model())
    broken.write_bytes(b"hello")  # read as a pickle, it asks for a memo that is not there
    with pytest.raises(CheckpointError, match="is not a readable state dict"):
        sgq.load(broken, float_model())
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    with pytest.raises(CheckpointError, match="not a state dict of tensors"):
        sgq.load(tmp_path / "list.pt", float_model())


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"there is no checkpoint .*nowhere\.safetensors"):
        sgq.load(tmp_path / "nowhere.safetensors", float_model())


def test_a_header_with_a_broken_plan_is_a_checkpoint_error(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "broken.safetensors"
    save_file({"weight": torch.zeros(1)}, path, metadata={"plan": '{"format": 99}'})
    with pytest.raises(CheckpointError, match="plan that cannot be read: expected a plan of format 1"):
        read(path)


@pytest.mark.parametrize("plan", ["[]", "null", "{"])
def test_a_header_whose_plan_is_no_mapping_is_a_checkpoint_error(tmp_path: Path, plan: str) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "broken.safetensors"
    save_file({"weight": torch.zeros(1)}, path, metadata={"plan": plan})
    with pytest.raises(CheckpointError, match="plan that cannot be read"):
        read(path)


def test_the_header_says_whether_a_checkpoint_is_float_or_simulated(tmp_path: Path) -> None:
    made = applied()
    assert read(sgq.save(tmp_path / "a.safetensors", float_model())).metadata["format"] == "sgq-float-1"
    saved = sgq.save(tmp_path / "b.safetensors", made.model, made.plan)
    assert read(saved).metadata["format"] == "sgq-simulated-1"


def test_a_checkpoint_of_a_later_format_is_refused_and_a_foreign_one_is_not(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "model.safetensors"
    save_file({"weight": torch.zeros(1)}, path, metadata={"format": "sgq-packed-7"})
    with pytest.raises(CheckpointError, match=r"\(got sgq-packed-7\): another version of sgq wrote it"):
        read(path)
    save_file({"weight": torch.zeros(1)}, path, metadata={"format": "pt"})
    assert read(path).plan is None


def test_a_failed_save_leaves_the_earlier_checkpoint(tmp_path: Path) -> None:
    path = sgq.save(tmp_path / "model.safetensors", float_model())
    before = path.read_bytes()
    with pytest.raises(CheckpointError):
        sgq.save(path, applied().model)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.safetensors"]
