from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

import sgq
from sgq.errors import CheckpointError
from sgq.graph.wrap import quantizers_of
from sgq.pipeline.applying import Applied
from sgq.pipeline.checkpoint import read
from sgq.pipeline.fingerprint import fingerprint_of
from sgq.pipeline.packed_layout import parameter_name
from sgq.recipe import parse_recipe
from tests.pipeline.trained_models import INT4, TAQ, community_graph, float_model, recipe

ROOT = Path(__file__).resolve().parents[2]


def applied(name: str = "gcn", text: str = TAQ) -> Applied:
    return sgq.apply(float_model(name), recipe(text.replace("epochs: 4", "epochs: 1")), community_graph())


@pytest.mark.parametrize("text", [INT4, TAQ])
@pytest.mark.parametrize("name", ["gcn", "sage", "gin", "gat", "gatv2"])
def test_a_packed_round_trip_gives_the_same_logits_plan_and_scales(
    tmp_path: Path, name: str, text: str
) -> None:
    data = community_graph()
    made = applied(name, text)
    path = sgq.save(tmp_path / "model.safetensors", made.model, made.plan, metadata={"data": "ours"})
    loaded = sgq.load(path, float_model(name))
    assert torch.equal(loaded(data.x, data.edge_index), made.model(data.x, data.edge_index))
    state = loaded.state_dict()
    assert state.keys() == made.model.state_dict().keys()
    weights = {parameter_name(entry.site) for entry in made.plan.quantized if entry.site.rows == "parameter"}
    for key, tensor in made.model.state_dict().items():
        if key not in weights and ".observer." not in key:
            assert torch.equal(state[key], tensor), key
    contents = read(path)
    assert contents.plan == made.plan
    assert contents.plan.digest == made.plan.digest
    assert contents.metadata["data"] == "ours"
    assert contents.file_bytes == path.stat().st_size


def test_a_model_of_the_zoo_needs_no_model_to_load(tmp_path: Path) -> None:
    data, made = community_graph(), applied("gat", INT4)
    path = sgq.save(tmp_path / "model.safetensors", made.model, made.plan)
    state = torch.random.get_rng_state()
    loaded = sgq.load(path)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(loaded(data.x, data.edge_index), made.model(data.x, data.edge_index))
    fingerprint = read(path).fingerprint
    assert fingerprint is not None
    assert (fingerprint.class_name, fingerprint.zoo.name) == ("GAT", "gat")
    assert fingerprint == fingerprint_of(float_model("gat"))
    model = float_model("gin")
    saved = sgq.save(tmp_path / "float.safetensors", model)
    assert torch.equal(sgq.load(saved).eval()(data.x, data.edge_index), model(data.x, data.edge_index))


class Users(nn.Module):
    """A model that the zoo does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = float_model("gcn")

    def forward(self, x: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
        return self.encoder(x, edge_index)


def test_a_user_s_own_model_is_asked_for(tmp_path: Path) -> None:
    data = community_graph()
    made = sgq.apply(Users(), recipe(INT4.replace("epochs: 4", "epochs: 1")), data)
    path = sgq.save(tmp_path / "model.safetensors", made.model, made.plan)
    with pytest.raises(CheckpointError, match=r"build the float model and call sgq\.load\(path, model\)"):
        sgq.load(path)
    assert torch.equal(sgq.load(path, Users())(data.x, data.edge_index), made.model(data.x, data.edge_index))


def test_the_recipe_travels_in_the_header_and_can_be_applied_again(tmp_path: Path) -> None:
    made = applied("gcn", TAQ)
    path = sgq.save(tmp_path / "model.safetensors", made.model, made.plan, recipe_text=made.recipe_text)
    text = read(path).recipe_text
    assert text is not None
    again = sgq.plan(float_model(), parse_recipe(text), community_graph())
    assert again.digest == made.plan.digest
    assert sgq.apply(float_model(), made.plan, community_graph()).recipe_text is None


def test_metadata_cannot_take_the_place_of_the_header_s_own_texts(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match='got "plan"'):
        sgq.save(tmp_path / "m.safetensors", float_model(), metadata={"plan": "none"})


def test_any_safetensors_library_reads_a_packed_file(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    made = applied()
    path = sgq.save(tmp_path / "model.safetensors", made.model, made.plan)
    tensors = read(path).tensors
    foreign = load_file(path)
    assert foreign.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(foreign[name], tensor)


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
    content = path.read_bytes()[:keep]
    path.unlink()
    path.write_bytes(content)
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


def test_the_header_says_whether_a_checkpoint_is_float_or_packed(tmp_path: Path) -> None:
    made = applied()
    assert read(sgq.save(tmp_path / "a.safetensors", float_model())).metadata["format"] == "sgq-float-1"
    saved = sgq.save(tmp_path / "b.safetensors", made.model, made.plan)
    assert read(saved).metadata["format"] == "sgq-packed-1"


def test_foreign_state_dicts_are_read_whatever_their_format_says(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path, state = tmp_path / "model.safetensors", float_model().state_dict()
    for metadata in (None, {"format": "pt"}, {"format": "sgq-float-1"}):  # the last as sgq wrote it at first
        path.unlink(missing_ok=True)
        save_file(state, path, metadata=metadata)
        assert read(path).plan is None
        for key, tensor in sgq.load(path, float_model()).state_dict().items():
            assert torch.equal(tensor, state[key])


def test_a_failed_save_leaves_the_earlier_checkpoint(tmp_path: Path) -> None:
    path = sgq.save(tmp_path / "model.safetensors", float_model())
    before = path.read_bytes()
    with pytest.raises(CheckpointError):
        sgq.save(path, applied().model)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.safetensors"]


SAVING = """
import os, pathlib, signal, sys
import sgq
from torch import nn
path, moment = sys.argv[1:]
whole = pathlib.Path.write_bytes

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def half(file, data):
    whole(file, data[: len(data) // 2])
    die()

for value in range(10**9):
    model = nn.Linear(500, 500)
    nn.init.constant_(model.weight, value)
    nn.init.constant_(model.bias, value)
    if value == 3 and moment == "half written":
        pathlib.Path.write_bytes = half
    if value == 3 and moment == "before it is renamed":
        os.replace = die
    sgq.save(path, model)
    print(value, flush=True)
"""


def saved_until_killed(path: Path, moment: str, *, delay_s: float = 0.0) -> float:
    """Save one model after the other in a process that dies; return which one its file holds, whole."""
    words = [sys.executable, "-c", SAVING, str(path), moment]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line == "2\n" and moment == "any":
            time.sleep(delay_s)
            process.kill()
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL
    loaded = sgq.load(path, nn.Linear(500, 500))
    value = loaded.bias[0].item()
    assert bool((loaded.weight == value).all())
    return value


@pytest.mark.parametrize("moment", ["half written", "before it is renamed"])
def test_a_process_that_is_killed_while_it_saves_leaves_the_earlier_file_whole(
    tmp_path: Path, moment: str
) -> None:
    path = tmp_path / "model.safetensors"
    assert saved_until_killed(path, moment) == 2.0
    assert len(list(tmp_path.iterdir())) == 2  # what was being written lies beside it, under another name


@pytest.mark.soak
def test_a_process_that_is_killed_at_any_moment_leaves_a_whole_file(tmp_path: Path) -> None:
    for attempt in range(8):
        assert saved_until_killed(tmp_path / "model.safetensors", "any", delay_s=0.0037 * attempt) >= 2.0


def test_metadata_are_texts_and_a_recipe_needs_its_plan(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    with pytest.raises(CheckpointError, match=r"metadata of texts by name \(got 'seed': 3\)"):
        sgq.save(path, float_model(), metadata={"seed": 3})  # type: ignore[dict-item]
    with pytest.raises(CheckpointError, match="saved with its plan"):
        sgq.save(path, float_model(), recipe_text="recipe: {}")
    assert not path.exists()


@pytest.mark.parametrize("text", [INT4, TAQ])
def test_with_data_a_packed_checkpoint_becomes_the_integer_model(tmp_path: Path, text: str) -> None:
    data, made = community_graph(), applied("gcn", text)
    path = sgq.save(tmp_path / "model.safetensors", made.model, made.plan)
    wanted = sgq.lower(made.model, data)()
    integer = sgq.load(path, data=data)
    assert integer.report.simulated == ()
    assert torch.equal(integer(), wanted)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("text", [INT4, TAQ])
def test_an_integer_model_takes_the_features_of_its_file(tmp_path: Path, text: str, sparse: bool) -> None:
    data, made = community_graph(), applied("gcn", text)
    if sparse:
        data.x = data.x * (data.x > 1.0)
    path = sgq.save(tmp_path / "model.safetensors", made.model, made.plan, features=data.x)
    bare = data.clone()
    bare.x, bare.num_nodes = None, data.num_nodes
    integer = sgq.load(path, data=bare)
    assert bare.x is None
    assert torch.allclose(integer(), sgq.lower(made.model, data)(), atol=1e-5)


def test_an_integer_model_needs_a_plan_and_features_of_its_nodes(tmp_path: Path) -> None:
    data, made = community_graph(), applied()
    plain = sgq.save(tmp_path / "float.safetensors", float_model())
    with pytest.raises(CheckpointError, match="of a float model"):
        sgq.load(plain, float_model(), data=data)
    bare = data.clone()
    bare.x, bare.num_nodes = None, data.num_nodes
    with pytest.raises(CheckpointError, match="holds no features"):
        sgq.load(sgq.save(tmp_path / "bare.safetensors", made.model, made.plan), data=bare)
    full = sgq.save(tmp_path / "full.safetensors", made.model, made.plan, features=data.x)
    bare.num_nodes = data.num_nodes + 1
    with pytest.raises(CheckpointError, match=r"features of \d+ nodes"):
        sgq.load(full, data=bare)
