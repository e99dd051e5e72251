"""A seeded stream of broken packed checkpoints: mutated, truncated, swapped, forged and sealed anew."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sgq.pipeline.container import CHECKSUM, LENGTH_BYTES, METADATA

Header = dict[str, Any]
Forgery = Callable[[random.Random, Header, bytes], bytes]

_ZEROS = "0" * 64


@dataclass(frozen=True)
class Broken:
    """A broken file, and what was done to it."""

    kind: str
    content: bytes


def broken_checkpoints(files: Sequence[bytes], *, count: int, seed: int) -> Iterator[Broken]:
    """Yield `count` broken files made of at least two whole ones, every kind in turn."""
    generator = random.Random(seed)
    kinds = [*_RAW, *_FORGED]
    for index in range(count):
        kind = kinds[index % len(kinds)]
        content = generator.choice(files)
        if kind in _RAW:
            changed = _RAW[kind](generator, content, files)
        else:
            changed = _FORGED[kind](generator, *split(content))
        if changed not in files:
            yield Broken(kind, changed)


def split(content: bytes) -> tuple[Header, bytes]:
    """Return a file's header and payload."""
    start = LENGTH_BYTES + int.from_bytes(content[:LENGTH_BYTES], "little")
    return json.loads(content[LENGTH_BYTES:start]), content[start:]


def sealed(header: Header | bytes, payload: bytes) -> bytes:
    """Return a file whose length and checksum are right, whatever else is wrong with it."""
    if isinstance(header, dict):
        if isinstance(header.get(METADATA), dict):
            header[METADATA][CHECKSUM] = _ZEROS
        header = json.dumps(header).encode()
    start = len(header).to_bytes(LENGTH_BYTES, "little") + header
    digest = hashlib.sha256(start + payload).hexdigest()
    return start.replace(_ZEROS.encode(), digest.encode()) + payload


def forged(content: bytes, change: Callable[[Header, bytes], bytes]) -> bytes:
    """Return what a change that takes header and payload makes of a file."""
    header, payload = split(content)
    return change(header, payload)


def edited_plan(header: Header, change: Callable[[dict[str, Any]], None]) -> Header:
    """Change a header's plan."""
    plan = json.loads(header[METADATA]["plan"])
    change(plan)
    header[METADATA]["plan"] = json.dumps(plan)
    return header


def _flipped(generator: random.Random, content: bytes, _: Sequence[bytes]) -> bytes:
    changed = bytearray(content)
    for _ in range(generator.choice([1, 1, 1, 2, 8])):
        changed[generator.randrange(len(changed))] ^= 1 << generator.randrange(8)
    return bytes(changed)


def _flipped_start(generator: random.Random, content: bytes, _: Sequence[bytes]) -> bytes:
    changed = bytearray(content)
    changed[generator.randrange(LENGTH_BYTES)] ^= 1 << generator.randrange(8)
    return bytes(changed)


def _overwritten(generator: random.Random, content: bytes, _: Sequence[bytes]) -> bytes:
    begin, size = generator.randrange(len(content)), generator.randrange(1, 200)
    return content[:begin] + generator.randbytes(min(size, len(content) - begin)) + content[begin + size :]


def _deleted(generator: random.Random, content: bytes, _: Sequence[bytes]) -> bytes:
    begin = generator.randrange(len(content) - 1)
    return content[:begin] + content[begin + generator.randrange(1, 200) :]


def _swapped(generator: random.Random, content: bytes, files: Sequence[bytes]) -> bytes:
    other = generator.choice([file for file in files if file != content])
    start = LENGTH_BYTES + int.from_bytes(content[:LENGTH_BYTES], "little")
    other_start = LENGTH_BYTES + int.from_bytes(other[:LENGTH_BYTES], "little")
    return content[:start] + other[other_start:]


def _lengthened(generator: random.Random, content: bytes, _: Sequence[bytes]) -> bytes:
    length = generator.choice([0, 1, 2**63, 2**64 - 1, len(content), len(content) - 7, 2**31])
    return length.to_bytes(LENGTH_BYTES, "little") + content[LENGTH_BYTES:]


_RAW: dict[str, Callable[[random.Random, bytes, Sequence[bytes]], bytes]] = {
    "flipped": _flipped,
    "flipped start": _flipped_start,
    "overwritten": _overwritten,
    "deleted": _deleted,
    "truncated": lambda generator, content, _: content[: generator.randrange(len(content))],
    "extended": lambda generator, content, _: content + generator.randbytes(generator.randrange(1, 99)),
    "swapped": _swapped,
    "lengthened": _lengthened,
    "garbage": lambda generator, *_: generator.randbytes(generator.randrange(4000)),
}


def _names(header: Header) -> list[str]:
    return [name for name in header if name != METADATA]


def _retyped(generator: random.Random, header: Header, payload: bytes) -> bytes:
    record = header[generator.choice(_names(header))]
    same_size = {"F32": "I32", "U8": "I8", "I64": "F64", "I8": "U8"}
    record["dtype"] = generator.choice([same_size[record["dtype"]], "F8", "", 7, ["U8"]])
    return sealed(header, payload)


def _reshaped(generator: random.Random, header: Header, payload: bytes) -> bytes:
    record = header[generator.choice(_names(header))]
    shape = record["shape"]
    wrong = [[*shape, 2], [-1], [*shape, 1], [2**62, 2**62], [1] * 40, "8", [10**19], [1, *shape]]
    wrong += [[0, 10**19], [0, 2**62, 2**62], [0] * 8]
    record["shape"] = generator.choice(wrong)
    return sealed(header, payload)


def _moved(generator: random.Random, header: Header, payload: bytes) -> bytes:
    record = header[generator.choice(_names(header))]
    begin, end = record["data_offsets"]
    wrong = [[begin + 4, end + 4], [begin, end + 4], [end, begin - 1], [-4, end], [begin], [begin, 2**62], []]
    record["data_offsets"] = generator.choice(wrong)
    return sealed(header, payload)


def _without_tensor(generator: random.Random, header: Header, payload: bytes) -> bytes:
    """Take a tensor out and close the gap: container and checksum are right, only the plan knows."""
    name = generator.choice([name for name in _names(header) if header[name]["data_offsets"][1]])
    begin, end = header.pop(name)["data_offsets"]
    for record in (header[other] for other in _names(header)):
        if record["data_offsets"][0] >= end:
            record["data_offsets"] = [offset - (end - begin) for offset in record["data_offsets"]]
    return sealed(header, payload[:begin] + payload[end:])


def _renamed(generator: random.Random, header: Header, payload: bytes) -> bytes:
    name = generator.choice(_names(header))
    header[f"{name}{generator.choice(['x', '/codes', '.weight'])}"] = header.pop(name)
    return sealed(header, payload)


def _added(generator: random.Random, header: Header, payload: bytes) -> bytes:
    name = generator.choice(["more", "features/more", "convs.0:input/codes"])
    header[name] = {"dtype": "U8", "shape": [3], "data_offsets": [len(payload), len(payload) + 3]}
    return sealed(header, payload + b"abc")


def _other_text(generator: random.Random, header: Header, payload: bytes) -> bytes:
    texts = header[METADATA]
    name = generator.choice(["plan", "fingerprint", "format"])
    wrong: list[Any] = [
        "",
        "[]",
        "null",
        "{",
        '{"recipe": NaN}',
        "[" * 20_000,
        '{"a":1,"a":1}',
        '{"\\ud800":1}',
    ]
    texts[name] = generator.choice(wrong if name != "format" else ["sgq-packed-2", "sgq-packed-99", "sgq-x"])
    if generator.random() < 0.2:
        texts[name] = generator.choice([[1], {"a": "b"}, 3])
    return sealed(header, payload)


def _without_text(generator: random.Random, header: Header, payload: bytes) -> bytes:
    del header[METADATA][generator.choice(["plan", "fingerprint"])]
    return sealed(header, payload)


def _without_checksum(_: random.Random, header: Header, payload: bytes) -> bytes:
    del header[METADATA][CHECKSUM]
    return sealed(json.dumps(header).encode(), payload)


def _other_plan(generator: random.Random, header: Header, payload: bytes) -> bytes:
    def change(plan: dict[str, Any]) -> None:
        weights = [entry for entry in plan["entries"] if entry["site"]["rows"] == "parameter"]
        entry = generator.choice([entry for entry in weights if entry.get("spec")])
        spec, site = entry["spec"], entry["site"]
        generator.choice(
            [
                lambda: spec.update(bits=generator.choice([3, 0, -1, 17, "8", 2**70, 1.5, None, [8, 8], []])),
                lambda: spec.update(quantizer=generator.choice(["afine", "", 3])),
                lambda: spec.update(granularity=generator.choice(["bucket", "row", 8])),
                lambda: spec.update(extra=1),
                lambda: spec.update(
                    observer={"kind": "fixed", "lower": generator.choice([-1e300, -(10**400)])}
                ),
                lambda: site.update(shape=generator.choice([[], [2**40, 2**40], [-1, 4], ["a"], [1] * 2000])),
                lambda: site.update(channel_shape=[3, 1, 1]),
                lambda: site.update(rows=generator.choice(["node", "rows"])),
                lambda: site["place"].update(module=generator.choice(["convs.7", "", "convs"])),
                lambda: site["place"].update(slot="result"),
                lambda: site["name"].update(component="weights"),
                lambda: plan.update(entries=generator.choice([[], {}, plan["entries"] * 2, [None]])),
                lambda: plan.update(workload={"nodes": "many", "edges": 1}),
                lambda: plan.update(bucket_edges=generator.choice([[3, 1], [0], list(range(1, 400)), ["a"]])),
                lambda: plan.update(float_parameters=[]),
                lambda: plan["float_parameters"][0].update(values=generator.choice([-1, 2**62, True])),
                lambda: plan.pop("workload"),
            ]
        )()

    return sealed(edited_plan(header, change), payload)


def _empty(generator: random.Random, header: Header, payload: bytes) -> bytes:
    """Add a tensor without values, whose other sizes nothing but their own limit holds."""
    shape = generator.choice([[0, 10**19], [0, 2**62, 2**62], [2**63, 0], [0]])
    header["more"] = {"dtype": "U8", "shape": shape, "data_offsets": [len(payload), len(payload)]}
    return sealed(header, payload)


def _other_fingerprint(generator: random.Random, header: Header, payload: bytes) -> bytes:
    written = json.loads(header[METADATA]["fingerprint"])
    zoo = written["zoo"]
    size = generator.choice([10**9, 2**40, 2**62, 2**63 - 1, 10**30, 0, -1, "8", 8.0, True])
    generator.choice(
        [
            lambda: zoo["options"].update(layers=size),
            lambda: zoo["options"].update(hidden=size),
            lambda: zoo["options"].update(hidden=size, heads=size),
            lambda: zoo["options"].update(dropout=generator.choice([2, -1, 10**400, "0.5"])),
            lambda: zoo["options"].update(readout=generator.choice(["sum", "most"])),
            lambda: zoo.update(in_channels=size),
            lambda: zoo.update(out_channels=size),
            lambda: zoo.update(name=generator.choice(["agnn", "gnn", "../gcn", ""])),
            lambda: written.update(digest="0" * 16),
        ]
    )()
    header[METADATA]["fingerprint"] = json.dumps(written)
    return sealed(header, payload)


def _other_features(generator: random.Random, header: Header, payload: bytes) -> bytes:
    record = json.loads(header[METADATA].get("features", "{}"))
    record |= generator.choice(
        [
            {"form": "densest"},
            {"form": "dense" if record.get("form") != "dense" else "sparse delta"},
            {"shape": generator.choice([[], [1], [2**62, 2**62], [-1, 4], "4"])},
            {"levels": [1.5]},
            {"more": 1},
        ]
    )
    header[METADATA]["features"] = json.dumps(record)
    return sealed(header, payload)


def _other_bucket_ids(generator: random.Random, header: Header, payload: bytes) -> bytes:
    header[METADATA]["bucket_ids"] = generator.choice(["-1", "1e3", "9" * 18, "9" * 4000, "3", "٣", ""])
    if not any(name == "degree_bucket" for name in header):
        header[METADATA]["bucket_ids"] = "many"
    return sealed(header, payload)


def _flooded(generator: random.Random, header: Header, payload: bytes) -> bytes:
    """Put in what takes many times its own size once it is parsed."""
    count = generator.choice([20_000, 60_000])
    texts = header[METADATA]
    match generator.randrange(4):
        case 0:
            texts |= {f"{index:x}": "" for index in range(count)}
        case 1:
            texts[generator.choice(["plan", "fingerprint"])] = "[" + "[]," * count + "[]]"
        case 2:
            texts["plan"] = "[" + '"ab",' * count + '""]'
        case 3:
            for index in range(count):
                header[f"{index:x}"] = {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}
    return sealed(header, payload)


def _no_header(generator: random.Random, header: Header, payload: bytes) -> bytes:
    text = json.dumps(header).encode()
    name = generator.choice(_names(header))
    record = json.dumps({name: header[name]})[1:-1].encode()
    wrong = [
        text[:-1] + b"," + record + b"}",
        text[:-1] + b',"x":' + b"[" * 5000 + b"]" * 5000 + b"}",
        text[:-1] + b',"x":NaN}',
        text[:-1] + b',"x":' + b"9" * 5000 + b"}",
        text[:-1] + b',"x":{"dtype":"U8","shape":[1e9],"data_offsets":[0,0]}}',
        text[:-1] + b',"\xff\xfe":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}',
        text[:-1] + b',"\\ud800":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}',
        text[:-1],
        b"[" + text + b"]",
        b"",
        b"{}",
        b'"text"',
        text + text,
    ]
    return sealed(generator.choice(wrong), payload)


_FORGED: dict[str, Forgery] = {
    "retyped": _retyped,
    "reshaped": _reshaped,
    "moved": _moved,
    "without tensor": _without_tensor,
    "renamed": _renamed,
    "added": _added,
    "other text": _other_text,
    "without text": _without_text,
    "without checksum": _without_checksum,
    "other plan": _other_plan,
    "empty": _empty,
    "other fingerprint": _other_fingerprint,
    "other features": _other_features,
    "other bucket ids": _other_bucket_ids,
    "flooded": _flooded,
    "no header": _no_header,
}
