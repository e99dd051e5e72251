"""Whatever is wrong with a packed checkpoint is a CheckpointError that names the part at fault."""

from __future__ import annotations

import json
import re
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import sgq
from sgq.errors import CheckpointError
from sgq.pipeline.checkpoint import load_tensors, read
from tests.pipeline.broken_checkpoints import METADATA, broken_checkpoints, edited_plan, forged, sealed
from tests.pipeline.trained_models import community_graph, float_model

PARTS = re.compile(
    r"file length|header length|header JSON|header: expected a text|tensor \"|checksum|plan|format|"
    r"fingerprint|bucket_ids|features|does not fit"
)
SLACK_BYTES = 2**19
"""What Python itself takes to raise an error, and the modules that are first imported by it."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Whole packed checkpoints by the zoo model that each is of."""
    folder, data = tmp_path_factory.mktemp("whole"), community_graph()
    found = {}
    for name, recipe in (("gcn", "sgquant/gcn-taq"), ("gat", "int4"), ("gin", "int8")):
        plan = sgq.plan(float_model(name), recipe, data)
        bucketed = sgq.DegreeBuckets(plan.bucket_edges)(data.clone()) if plan.buckets else data
        wrapped = sgq.wrap(float_model(name), plan, bucket=bucketed.bucket if plan.buckets else None)
        sgq.calibrate(wrapped, plan, bucketed)
        path = sgq.save(folder / name, wrapped, plan, features=data.x if name != "gin" else None)
        found[name] = path.read_bytes()
    return found


def refusal(path: Path, content: bytes, model: nn.Module | None = None) -> str:
    """The message with which a file is refused."""
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as raised:
        sgq.load(path, model)
    return str(raised.value)


def refuse_all(folder: Path, files: dict[str, bytes], *, count: int, seed: int) -> Counter[str]:
    """Load broken checkpoints, each in a file of its own; return how many of each kind there were."""
    models = {name: float_model(name) for name in files}
    float_model("agnn")  # forged files name it: its modules are imported before memory is watched
    kinds: Counter[str] = Counter()
    for index, broken in enumerate(broken_checkpoints(list(files.values()), count=count, seed=seed)):
        path = folder / "broken.safetensors"
        path.unlink(missing_ok=True)
        path.write_bytes(broken.content)
        # Nothing but the file tells which model it is of; a forged one may fit no model here.
        # How a zoo model is built is read only where none is given.
        alone = index % 2 == 0 or broken.kind == "other fingerprint"
        model = None if alone else list(models.values())[index % 3]
        tracemalloc.start()
        try:
            with pytest.raises(CheckpointError) as raised:
                sgq.load(path, model)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert PARTS.search(str(raised.value)), (broken.kind, str(raised.value))
        assert peak <= 2 * len(broken.content) + SLACK_BYTES, (broken.kind, str(raised.value))
        kinds[broken.kind] += 1
    return kinds


def test_the_whole_files_load(tmp_path: Path, files: dict[str, bytes]) -> None:
    for content in files.values():
        path = tmp_path / "whole.safetensors"
        path.write_bytes(content)
        sgq.load(path)
        path.unlink()


def test_a_sample_of_broken_checkpoints_is_refused(tmp_path: Path, files: dict[str, bytes]) -> None:
    kinds = refuse_all(tmp_path, files, count=200, seed=1)
    assert len(kinds) == 25
    assert kinds.total() >= 190


@pytest.mark.soak
def test_two_thousand_broken_checkpoints_are_refused(tmp_path: Path, files: dict[str, bytes]) -> None:
    assert refuse_all(tmp_path, files, count=2020, seed=2).total() >= 2000


@pytest.mark.soak
def test_every_single_byte_of_a_checkpoint_matters(tmp_path: Path, files: dict[str, bytes]) -> None:
    content = files["gcn"]
    path = tmp_path / "broken.safetensors"
    for position in range(len(content)):
        changed = bytearray(content)
        changed[position] ^= 0x20
        path.unlink(missing_ok=True)
        path.write_bytes(changed)
        with pytest.raises(CheckpointError):
            read(path)


def test_each_part_at_fault_is_named(tmp_path: Path, files: dict[str, bytes]) -> None:
    path, content = tmp_path / "m.safetensors", files["gcn"]
    header_bytes = 8 + int.from_bytes(content[:8], "little")
    assert "file length: expected more than 8 bytes (got 3)" in refusal(path, content[:3])
    assert "file length: expected" in refusal(path, content[:-1])
    assert "file length: expected" in refusal(path, content + b"x")
    assert "header length: expected" in refusal(path, content[: header_bytes - 1])
    assert "header JSON" in refusal(path, content[:8] + b"[" + content[9:])
    flipped = bytearray(content)
    flipped[-1] ^= 1
    assert "checksum: expected" in refusal(path, bytes(flipped))

    def without(header: dict[str, Any], payload: bytes) -> bytes:
        header[METADATA].pop("plan")
        return sealed(header, payload)

    assert 'header: expected a text "plan"' in refusal(path, forged(content, without))

    def shifted(header: dict[str, Any], payload: bytes) -> bytes:
        begin, end = header["convs.1.bias"]["data_offsets"]
        header["convs.1.bias"]["data_offsets"] = [begin + 4, end + 4]
        return sealed(header, payload)

    assert 'tensor "convs.1.bias" offsets: expected' in refusal(path, forged(content, shifted))


def test_a_newer_format_says_so_and_an_older_one_what_to_do(tmp_path: Path, files: dict[str, bytes]) -> None:
    def in_format(name: str) -> bytes:
        def change(header: dict[str, Any], payload: bytes) -> bytes:
            header[METADATA]["format"] = name
            return sealed(header, payload)

        return forged(files["gcn"], change)

    path = tmp_path / "m.safetensors"
    newer = refusal(path, in_format("sgq-packed-2"))
    assert "(got sgq-packed-2): a newer version of sgq wrote it; update sgq" in newer
    assert "apply the recipe again" in refusal(path, in_format("sgq-unpacked-1"))
    for never in ("sgq-packed-x", "sgq-packed-0", "sgq-packed-01"):
        assert "no version of sgq writes that" in refusal(path, in_format(never))


def test_an_unknown_quantizer_is_listed_with_the_nearest_name_and_all_other_faults(
    tmp_path: Path, files: dict[str, bytes]
) -> None:
    def rename(plan: dict[str, Any]) -> None:
        for entry in plan["entries"]:
            if entry.get("spec") and entry["site"]["name"]["component"] == "message":
                entry["spec"]["quantizer"] = "afine"

    content = forged(files["gcn"], lambda header, payload: sealed(edited_plan(header, rename), payload))
    message = refusal(tmp_path / "m.safetensors", content, float_model("sage"))
    assert 'unknown quantizer "afine". Did you mean "affine"?' in message
    assert '"convs.0.lin_l.weight" is missing' in message
    assert '"convs.0.lin.weight" is not in the model.' in message
    assert 'site "convs.0.lin:weight" is in module "convs.0.lin", which the model lacks.' in message


def test_a_bucket_id_that_is_no_bucket_is_refused(tmp_path: Path, files: dict[str, bytes]) -> None:
    def change(header: dict[str, Any], payload: bytes) -> bytes:
        begin, end = header["degree_bucket"]["data_offsets"]
        edges = len(edited_plan(header, lambda plan: plan["bucket_edges"].pop())[METADATA]["plan"])
        assert edges
        return sealed(header, payload[:begin] + b"\xff" * (end - begin) + payload[end:])

    message = refusal(tmp_path / "m.safetensors", forged(files["gcn"], change))
    assert "plan" in message or "degree_bucket" in message


def test_what_is_written_into_loaded_tensors_does_not_reach_the_file(
    tmp_path: Path, files: dict[str, bytes]
) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(files["gin"])
    for tensor in read(path).tensors.values():
        tensor.zero_()
    with torch.no_grad():
        for parameter in sgq.load(path).parameters():
            parameter.zero_()
    assert path.read_bytes() == files["gin"]


@pytest.mark.parametrize("kind", ["packed", "float"])
@pytest.mark.parametrize(
    "change",
    [{"layers": 10**9}, {"hidden": 2**40}, {"hidden": 2**62, "heads": 2**62}, {"hidden": 15}, {"layers": 3}],
    ids=str,
)
def test_a_forged_model_is_refused_before_it_takes_time_or_memory(
    tmp_path: Path, files: dict[str, bytes], kind: str, change: dict[str, int]
) -> None:
    content = files["gat"]
    if kind == "float":
        content = sgq.save(tmp_path / "float.safetensors", float_model("gat")).read_bytes()

    def forge(header: dict[str, Any], payload: bytes) -> bytes:
        written = json.loads(header[METADATA]["fingerprint"])
        written["zoo"]["options"] |= change
        header[METADATA]["fingerprint"] = json.dumps(written)
        return sealed(header, payload)

    message = refusal(tmp_path / "m.safetensors", forged(content, forge))
    assert re.search("names a model|does not fit GAT", message)


def test_nearest_names_are_looked_for_only_where_they_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("sgq.errors.nearest_name", lambda name, known: asked.append(name) or "")
    others = {f"more.{index}": torch.zeros(1) for index in range(500)}
    with pytest.raises(CheckpointError, match=r"and 48[0-9] more"):
        load_tensors(float_model(), others, tmp_path)
    assert len(asked) == 20


def test_plan_text_of_empty_lists_is_refused_unparsed(tmp_path: Path, files: dict[str, bytes]) -> None:
    def flood(header: dict[str, Any], payload: bytes) -> bytes:
        header[METADATA]["plan"] = "[" + "[]," * 200_000 + "[]]"
        return sealed(header, payload)

    content = forged(files["gcn"], flood)
    tracemalloc.start()
    message = refusal(tmp_path / "m.safetensors", content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "plan that cannot be read: expected JSON with at most" in message
    assert peak <= 2 * len(content) + SLACK_BYTES
