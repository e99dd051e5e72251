"""The container reads what safetensors writes and the other way round, and maps instead of copying."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save_file

from sgq.errors import CheckpointError
from sgq.pipeline.container import LENGTH_BYTES, open_container, to_bytes

DTYPES = (torch.float32, torch.int64, torch.uint8, torch.int8, torch.int16, torch.bool, torch.bfloat16)


@settings(max_examples=40, deadline=None)
@given(
    shapes=st.lists(st.lists(st.integers(0, 5), max_size=3), max_size=6),
    dtypes=st.lists(st.sampled_from(DTYPES), min_size=6, max_size=6),
    text=st.text(alphabet='ab:/."\\\n{é–\U0001f600', max_size=8),
)
def test_what_is_written_is_read_by_us_and_by_safetensors(
    tmp_path_factory: pytest.TempPathFactory, shapes: list[list[int]], dtypes: list[torch.dtype], text: str
) -> None:
    tensors = {
        f"{text}{index}": (torch.arange(torch.Size(shape).numel()) % 2).view(shape).to(dtype)
        for index, (shape, dtype) in enumerate(zip(shapes, dtypes, strict=False))
    }
    content = to_bytes(tensors, {"about": text})
    path = tmp_path_factory.mktemp("container") / "m.safetensors"
    path.write_bytes(content)
    container = open_container(path)
    assert container.metadata["about"] == text
    assert container.header_bytes + container.payload_bytes == len(content)
    for read in (container.tensors, load(content)):
        assert read.keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert read[name].dtype is tensor.dtype
            assert torch.equal(read[name], tensor)


def test_the_checksum_is_sha_256_with_zeros_in_its_own_place(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(to_bytes({"x": torch.arange(4)}, {}))
    checksum = open_container(path).metadata["checksum"]
    blank = path.read_bytes().replace(checksum.encode(), b"0" * 64)
    assert hashlib.sha256(blank).hexdigest() == checksum


def test_a_file_of_safetensors_without_checksum_is_read(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_file({"odd": torch.ones(3, dtype=torch.uint8), "x": torch.randn(2, 2)}, path)
    assert set(open_container(path).tensors) == {"odd", "x"}


def test_tensors_are_mapped_not_copied(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(to_bytes({"x": torch.zeros(2_000_000)}, {}))
    open_container(path)
    tracemalloc.start()
    container = open_container(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert container.payload_bytes == 8_000_000
    assert peak < 100_000


@pytest.mark.parametrize(
    "header",
    [
        b"[" * 3_000_000,
        b'{"a":' * 600_000,
        b'{"a":[' + b"[]," * 1_000_000,
        b'{"a":{"b":"' + b"\\" * 3_000_000,
        b'{"a":{"b":[' + b"1," * 1_500_000,
        b'{"a":{"b":"c",' * 200_000,
        b'{"a":{"b":' + b"1" * 3_000_000,
        b" " * 3_000_000,
        b'"' * 3_000_000,
    ],
    ids=lambda header: header[:14].decode(),
)
def test_a_header_that_would_blow_up_in_memory_or_time_is_refused_unparsed(
    tmp_path: Path, header: bytes
) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(len(header).to_bytes(LENGTH_BYTES, "little") + header)
    tracemalloc.start()
    with pytest.raises(CheckpointError, match="header JSON"):
        open_container(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= 2 * len(header) + 200_000


def test_a_dtype_that_no_file_holds_is_named() -> None:
    with pytest.raises(CheckpointError, match=r'tensor "x": expected a dtype of safetensors'):
        to_bytes({"x": torch.zeros(2, dtype=torch.complex128)}, {})


@pytest.mark.parametrize("shape", [[0, 10**19], [0, 2**62, 2**62], [2**63, 0]])
def test_an_empty_tensor_has_sizes_that_memory_can_have(tmp_path: Path, shape: list[int]) -> None:
    header = json.dumps({"x": {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}}).encode()
    path = tmp_path / "m.safetensors"
    path.write_bytes(len(header).to_bytes(LENGTH_BYTES, "little") + header)
    with pytest.raises(CheckpointError, match=r'tensor "x" shape: expected sizes that memory can have'):
        open_container(path)


@pytest.mark.parametrize("kind", ["texts", "tensors", "numbers"])
def test_a_header_of_tiny_members_is_refused_unparsed(tmp_path: Path, kind: str) -> None:
    empty = {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}
    content: dict[str, object] = {
        "texts": {"__metadata__": {f"{index:x}": "" for index in range(60_000)}},
        "tensors": {f"{index:x}": empty for index in range(20_000)},
        "numbers": {"x": empty | {"shape": [1000 + index for index in range(100_000)]}},
    }[kind]
    header = json.dumps(content).encode()
    path = tmp_path / "m.safetensors"
    path.write_bytes(len(header).to_bytes(LENGTH_BYTES, "little") + header)
    tracemalloc.start()
    with pytest.raises(CheckpointError, match="texts and commas in such a file"):
        open_container(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= 200_000


def test_a_deep_model_of_small_layers_has_not_too_many_members(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(to_bytes({f"layers.{index}.weight": torch.ones(4, 4) for index in range(5_000)}, {}))
    assert len(open_container(path).tensors) == 5_000


def test_messages_cut_what_a_file_says(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    for name, dtype in (("n" * 100_000, "U8"), ("x", "D" * 100_000)):
        record = {"dtype": dtype, "shape": [3], "data_offsets": [0, 2]}
        header = json.dumps({name: record}).encode()
        path.write_bytes(len(header).to_bytes(LENGTH_BYTES, "little") + header + b"ab")
        with pytest.raises(CheckpointError) as raised:
            open_container(path)
        assert len(str(raised.value)) < len(str(path)) + 300
