"""The safetensors container, written and read strictly: nothing in a file is trusted before it is checked.

A file is 8 bytes with the header's length, a JSON header and the payload. The header maps tensor names to
dtype, shape and offsets, and `__metadata__` to texts. Ours hold a SHA-256 checksum over the whole file,
taken with zeros in the checksum's own place. Tensors are views of a memory map, private to this process:
reading allocates a few times the header, whatever the payload. Format:
https://github.com/huggingface/safetensors.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sgq.errors import CheckpointError
from sgq.recipe.compact import SHOWN, without_repetition

CHECKSUM = "checksum"
METADATA = "__metadata__"
LENGTH_BYTES = 8
LONGEST_HEADER = 2**23
"""Bytes of a header at most; a plan of thousands of sites stays well below."""
MOST_DIMENSIONS = 32
FREE_MEMBERS, BYTES_A_MEMBER = 2**12, 8
"""A header may have so many texts and commas, and one more for so many bytes of the file.

Each takes about 60 bytes once it is parsed. A file of single numbers has one in 8 bytes; a flood of tiny
texts, which would take many times its own size, has one in 3.
"""

_ZEROS = "0" * 64
_NEWER = re.compile("[1-9][0-9]*")  # the version that can be read is 1, so that any other number is later
_CHUNK = 2**20
_GREATEST_BYTES = 2**63 - 1
_DTYPES: Mapping[str, torch.dtype] = {
    "F64": torch.float64,
    "I64": torch.int64,
    "U64": torch.uint64,
    "F32": torch.float32,
    "I32": torch.int32,
    "U32": torch.uint32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I16": torch.int16,
    "U16": torch.uint16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}

# A header is two levels of objects around texts and lists of numbers. Told apart from any other JSON before
# it is parsed: nested lists would take many times their own size in memory.
_TEXT = rb'"(?:[^"\\\x00-\x1f]|\\.)*+"'
_NUMBERS = rb"\[\s*+(?:-?\d{1,20}\s*+(?:,\s*+-?\d{1,20}\s*+)*+)?+\]"
_VALUE = rb"(?:%b|%b)" % (_TEXT, _NUMBERS)


def _object_of(value: bytes) -> bytes:
    member = rb"%b\s*+:\s*+%b\s*+" % (_TEXT, value)
    return rb"\{\s*+(?:%b(?:,\s*+%b)*+)?+\}" % (member, member)


_HEADER = re.compile(_object_of(_object_of(_VALUE)) + rb"\s*+", re.DOTALL)
_MEMBERS = re.compile(_TEXT + rb"|,", re.DOTALL)


@dataclass(frozen=True)
class Container:
    """The verified content of a file: tensors by name, texts, and its bytes in header and payload.

    `header_bytes` counts the length field too.
    """

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    header_bytes: int
    payload_bytes: int


def to_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Return a file of CPU tensors and texts, with its checksum in `metadata`; read it with `open_container`.

    Tensors lie by the size of their values, largest first, so that each is aligned. Raises CheckpointError
    for a dtype that a file cannot hold and for a header that grows too long.
    """
    unknown = [name for name, tensor in tensors.items() if tensor.dtype not in _NAMES]
    if unknown:
        name = unknown[0]
        raise CheckpointError(f'tensor "{name}": expected a dtype of safetensors (got {tensors[name].dtype})')
    ordered = sorted(tensors, key=lambda name: -tensors[name].element_size())
    header: dict[str, Any] = {METADATA: {**metadata, CHECKSUM: _ZEROS}}
    position = 0
    for name in ordered:
        tensor = tensors[name]
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [position, position + tensor.nbytes],
        }
        position += tensor.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % LENGTH_BYTES)
    if len(text) > LONGEST_HEADER:
        raise CheckpointError(f"expected a header of at most {LONGEST_HEADER} bytes (got {len(text)})")
    start = len(text).to_bytes(LENGTH_BYTES, "little") + text
    payload = [_raw(tensors[name]) for name in ordered]
    digest = hashlib.sha256(start)
    for part in payload:
        digest.update(part)
    named = f'"{CHECKSUM}":"%s"'
    start = start.replace((named % _ZEROS).encode(), (named % digest.hexdigest()).encode())
    return b"".join([start, *payload])


def _raw(tensor: Tensor) -> memoryview:
    """Return a tensor's bytes, without a copy where it is contiguous."""
    return tensor.contiguous().view(-1).view(torch.uint8).numpy().data


def open_container(file: Path, *, formats: Mapping[str, bool] | None = None) -> Container:
    """Return the verified content of a safetensors file, its tensors as views of a private memory map.

    `formats` are the values of the text `format` that can be read, and whether one must have a checksum;
    a checksum is verified wherever there is one. Raises CheckpointError that names the part at fault.
    """
    try:
        with file.open("rb") as handle:
            size = handle.seek(0, 2)
            if size <= LENGTH_BYTES:
                raise _fault(file, f"file length: expected more than {LENGTH_BYTES} bytes (got {size})")
            # Copy on write: torch has no read-only tensors, and what is written must not reach the file.
            content = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_COPY)
    except OSError as error:
        raise CheckpointError(f'"{file}" cannot be read: {error.strerror or error}') from error
    length = int.from_bytes(content[:LENGTH_BYTES], "little")
    if length > min(LONGEST_HEADER, size - LENGTH_BYTES):
        most = f"at most {LONGEST_HEADER} bytes, and no more than the file's {size}"
        raise _fault(file, f"header length: expected {most} (got {length})")
    start = LENGTH_BYTES + length
    records = _parsed(file, content, start, most=FREE_MEMBERS + size // BYTES_A_MEMBER)
    metadata = records.pop(METADATA, {})
    wrong = [key for key, value in metadata.items() if not _is_text(value)]
    if wrong:
        raise _fault(file, f'header JSON: expected texts in {METADATA} (got none for "{wrong[0][:SHOWN]}")')
    required = _check_format(file, metadata.get("format", ""), formats or {})
    places = _checked(file, records, size - start)
    _verify(file, content, start, metadata, required=required)
    tensors = {place.name: place.view(content, start) for place in places}
    return Container(tensors, metadata, start, size - start)


@dataclass(frozen=True)
class _Place:
    """Where a tensor lies in the payload."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    end: int

    def view(self, content: mmap.mmap, start: int) -> Tensor:
        if self.begin == self.end:
            return torch.empty(self.shape, dtype=self.dtype)
        raw = np.frombuffer(content, np.uint8, count=self.end - self.begin, offset=start + self.begin)
        if (start + self.begin) % self.dtype.itemsize:
            raw = raw.copy()  # other writers need not align
        return torch.from_numpy(raw).view(self.dtype).view(self.shape)


def _fault(file: Path, what: str) -> CheckpointError:
    return CheckpointError(f'"{file}" is not a readable safetensors file: {what}')


def _parsed(file: Path, content: mmap.mmap, start: int, *, most: int) -> dict[str, Any]:
    """Return the header's members; nothing but them and their text is allocated."""
    if _HEADER.fullmatch(content, LENGTH_BYTES, start) is None:
        raise _fault(file, "header JSON: expected an object of tensor records and texts (got something else)")
    if any(index >= most for index, _ in enumerate(_MEMBERS.finditer(content, LENGTH_BYTES, start))):
        raise _fault(file, f"header JSON: expected at most {most} texts and commas in such a file (got more)")
    try:
        with memoryview(content) as whole, whole[LENGTH_BYTES:start] as header:
            text = str(header, "utf-8")
        records: dict[str, Any] = json.loads(text, object_pairs_hook=without_repetition)
    except (ValueError, RecursionError) as error:
        raise _fault(file, f"header JSON: {error}") from error
    return records


def _is_text(value: object) -> bool:
    """Whether a value is a text; half a surrogate pair is none."""
    return isinstance(value, str) and (
        value.isascii() or not any("\ud800" <= sign <= "\udfff" for sign in value)
    )


def _check_format(file: Path, written: str, formats: Mapping[str, bool]) -> bool:
    """Return whether the format needs a checksum; raise CheckpointError for one of ours that is unknown."""
    if written in formats or not written.startswith("sgq-"):
        return formats.get(written, False)
    kind, _, version = written.rpartition("-")
    known = next((name for name in formats if name.rpartition("-")[0] == kind), None)
    if known is None:
        advice = "another version of sgq wrote it; apply the recipe again with this one"
    elif _NEWER.fullmatch(version):
        advice = "a newer version of sgq wrote it; update sgq"
    else:
        advice = "no version of sgq writes that"
    raise CheckpointError(
        f'format: expected {" or ".join(formats)} in "{file}" (got {written[:SHOWN]}): {advice}'
    )


def _checked(file: Path, records: Mapping[str, Any], payload: int) -> list[_Place]:
    """Return where every tensor lies; together they must fill the payload."""
    places = sorted(
        (_place(file, name, record) for name, record in records.items()),
        key=lambda place: (place.begin, place.end),
    )
    position = 0
    for place in places:
        if place.begin != position:
            kind = "overlap" if place.begin < position else "gap"
            found = f"expected {position} as its begin (got {place.begin}: {kind})"
            raise _fault(file, f'tensor "{place.name[:SHOWN]}" offsets: {found}')
        position = place.end
    if position != payload:
        raise _fault(
            file, f"file length: expected {position} bytes of payload, as the header says (got {payload})"
        )
    return places


def _place(file: Path, name: str, record: Mapping[str, Any]) -> _Place:
    where = f'tensor "{name[:SHOWN]}"'

    def numbers(key: str) -> Iterator[int]:
        if not isinstance(record[key], list):
            raise _fault(file, f"{where} {key}: expected a list of numbers (got {_shown(record[key])})")
        yield from record[key]

    if set(record) != {"dtype", "shape", "data_offsets"}:
        raise _fault(
            file, f"{where}: expected dtype, shape and data_offsets (got {_shown(list(record)[:8])})"
        )
    dtype = _DTYPES.get(record["dtype"]) if isinstance(record["dtype"], str) else None
    if dtype is None:
        found = _shown(record["dtype"])
        raise _fault(file, f"{where} dtype: expected one of {', '.join(_DTYPES)} (got {found})")
    shape, offsets = tuple(numbers("shape")), tuple(numbers("data_offsets"))
    if len(shape) > MOST_DIMENSIONS or any(size < 0 for size in shape):
        raise _fault(file, f"{where} shape: expected sizes of at least 0 (got {list(shape)[:8]})")
    # An empty tensor may name sizes, too, whose strides no tensor can have.
    if prod(max(size, 1) for size in shape) * dtype.itemsize > _GREATEST_BYTES:
        raise _fault(file, f"{where} shape: expected sizes that memory can have (got {list(shape)[:8]})")
    if len(offsets) != 2 or not 0 <= offsets[0] <= offsets[1]:
        raise _fault(file, f"{where} offsets: expected begin and end (got {list(offsets)[:8]})")
    needed = prod(shape) * dtype.itemsize
    if needed != offsets[1] - offsets[0]:
        raise _fault(
            file,
            f"{where} offsets: expected {needed} bytes for {record['dtype']} {list(shape)} "
            f"(got {offsets[1] - offsets[0]})",
        )
    return _Place(name, dtype, shape, *offsets)


def _shown(value: object) -> str:
    return repr(value)[:SHOWN]


def _verify(
    file: Path, content: mmap.mmap, start: int, metadata: Mapping[str, str], *, required: bool
) -> None:
    written = metadata.get(CHECKSUM)
    if written is None:
        if required:
            raise _fault(file, "checksum: expected one in the header (got none)")
        return
    place = content.find(written.encode(), LENGTH_BYTES, start)
    after = place + len(_ZEROS)
    once = place >= 0 and content.find(written.encode(), place + 1, start) < 0
    if not once or len(written) != len(_ZEROS):
        raise _fault(file, f"checksum: expected {len(_ZEROS)} hexadecimal digits, once (got {written[:80]})")
    digest = hashlib.sha256()
    with memoryview(content) as whole:
        for begin, end, then in ((0, place, _ZEROS), (after, len(whole), "")):
            for chunk in range(begin, end, _CHUNK):
                with whole[chunk : min(chunk + _CHUNK, end)] as part:
                    digest.update(part)
            digest.update(then.encode())
    if digest.hexdigest() != written:
        raise _fault(
            file, f"checksum: expected {written} (got {digest.hexdigest()}): the content was changed"
        )
