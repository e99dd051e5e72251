"""Checkpoints: one safetensors file each, of a float model or of a packed one. No pickle is written.

A wrapped model cannot be pickled whole (its classes are generated), and should not be. A packed checkpoint
holds the codes of a quantized model's parameters, its scales and zero points, and in its header the plan,
the recipe, a fingerprint of the float model and a checksum. Float checkpoints are plain state dicts,
`.safetensors` or `.pt`.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from sgq.errors import CheckpointError, ModelError, SgqError
from sgq.report.files import write_atomically

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sgq.models.zoo import ZooArguments
    from sgq.pipeline.container import Container
    from sgq.pipeline.fingerprint import Fingerprint
    from sgq.pipeline.packed_features import PackedFeatures
    from sgq.recipe.plan import Plan

FLOAT_FORMAT = "sgq-float-1"
PACKED_FORMAT = "sgq-packed-1"
"""The header's `format`: a plain state dict, or packed codes with their plan."""

_FORMATS = {FLOAT_FORMAT: False, PACKED_FORMAT: True}
"""The formats that can be read, and whether one must have a checksum."""
_OWN_TEXTS = ("format", "library", "plan", "recipe_text", "fingerprint", "features", "bucket_ids", "checksum")
_MOST_FAULTS, _MOST_LETTERS = 20, 400


@dataclass(frozen=True)
class CheckpointContents:
    """What a checkpoint file holds, verified; `plan` is None for a float model.

    `tensors` of a packed one are codes, scales and zero points by site (`convs.0.lin:weight/codes`) beside
    what stays in float, as views of the file. `metadata` are the header's texts. `file_bytes` is
    `header_bytes` + `payload_bytes`, all 0 for a `.pt` file.
    """

    tensors: dict[str, Tensor]
    plan: Plan | None
    metadata: dict[str, str]
    fingerprint: Fingerprint | None = None
    recipe_text: str | None = None
    features: PackedFeatures | None = None
    bucket: Tensor | None = field(default=None, repr=False)
    header_bytes: int = 0
    payload_bytes: int = 0

    @property
    def file_bytes(self) -> int:
        """The size of the file."""
        return self.header_bytes + self.payload_bytes


def save(
    path: str | os.PathLike[str],
    model: nn.Module,
    plan: Plan | None = None,
    *,
    features: Tensor | None = None,
    recipe_text: str | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write a model to one safetensors file, atomically: packed where it has a plan, else its state dict.

    The payload of a packed checkpoint has `sgq.memory_of(plan).file_bytes` bytes, and those of the
    quantized input features [nodes, channels] if they are given. `recipe_text` is the recipe's YAML, so
    that it can be applied again; `metadata` adds texts to the header (`{"data": "cora"}`, say). Return the
    path. Raises CheckpointError for a model that is not calibrated or not wrapped with the plan.
    """
    from sgq.graph.wrap import quantizers_of
    from sgq.pipeline.container import to_bytes
    from sgq.pipeline.fingerprint import fingerprint_of
    from sgq.recipe.compact import to_compact_text

    if plan is None and (quantizers_of(model) or features is not None or recipe_text is not None):
        raise CheckpointError("a quantized model is saved with its plan: sgq.save(path, model, plan)")
    for name, text in (metadata or {}).items():
        if not isinstance(name, str) or not isinstance(text, str):
            raise CheckpointError(f"expected metadata of texts by name (got {name!r}: {text!r})")
    taken = sorted(set(_OWN_TEXTS) & set(metadata or {}))
    if taken:
        raise CheckpointError(f'expected metadata by other names than the header\'s own (got "{taken[0]}")')
    header = {
        "format": FLOAT_FORMAT if plan is None else PACKED_FORMAT,
        "library": f"sgq {version('sgq')}",
        "fingerprint": to_compact_text(fingerprint_of(model)),
        **(metadata or {}),
    }
    if plan is None:
        tensors = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    else:
        tensors, texts = _packed(model, plan, features)
        header |= texts | ({} if recipe_text is None else {"recipe_text": recipe_text})
    write_atomically(Path(path), to_bytes(tensors, header))
    return Path(path)


def read(path: str | os.PathLike[str]) -> CheckpointContents:
    """Read a checkpoint without a model: safetensors, or a `.pt` state dict (weights only).

    Everything is verified first. Raises CheckpointError, naming the part at fault, for a file that is
    missing, broken, or of a later format of sgq.
    """
    file = Path(path)
    if not file.is_file():
        raise CheckpointError(f'there is no checkpoint "{file}"')
    if file.suffix in (".pt", ".pth"):
        return CheckpointContents(_read_pt(file), None, {})
    from sgq.pipeline.container import open_container
    from sgq.pipeline.fingerprint import Fingerprint

    container = open_container(file, formats=_FORMATS)
    if container.metadata.get("format") == PACKED_FORMAT:
        return _packed_contents(file, container)
    fingerprint = None
    # Others' files may have a text of that name; float ones of sgq had none at first.
    if container.metadata.get("format") == FLOAT_FORMAT and "fingerprint" in container.metadata:
        fingerprint = _text(file, container, "fingerprint", Fingerprint)
    return CheckpointContents(
        container.tensors,
        None,
        container.metadata,
        fingerprint=fingerprint,
        header_bytes=container.header_bytes,
        payload_bytes=container.payload_bytes,
    )


def load(path: str | os.PathLike[str], model: nn.Module | None = None, *, data: Any = None) -> nn.Module:
    """Return the model of a checkpoint; a quantized one, in fake-quantized float, where it has a plan.

    `model` is the float model, freshly built; a float checkpoint is loaded into it in place, a packed one
    into a copy. Without it, a zoo model is built as the header says. Quantized outputs equal those of the
    model that was saved. With `data`, a graph, a packed checkpoint becomes an integer model, as `sgq.lower`
    makes it; a graph without features (`x` is None) gets those that the file holds. Names or shapes that do
    not fit are a CheckpointError that lists them all.
    """
    from sgq.pipeline.fingerprint import built_model

    contents = read(path)
    if data is not None and contents.plan is None:
        raise CheckpointError(f'"{path}" is of a float model: expected a packed one to lower on data')
    if model is None:
        model = built_model(zoo_arguments(path, contents))
    if contents.plan is None:
        return load_tensors(model, contents.tensors, path)
    restored = _restored(path, model, contents, contents.plan)
    if data is None:
        return restored
    from sgq.runtime.lowering.program import lower

    return lower(restored, _with_features(path, contents, data))


def _with_features(path: str | os.PathLike[str], contents: CheckpointContents, data: Any) -> Any:
    """Return the data; with the file's features where they have none."""
    if data.x is not None:
        return data
    features = contents.features
    if features is None:
        raise CheckpointError(
            f'"{path}" holds no features, and the data have none (x is None): save them with '
            "sgq.save(..., features=x), or give the data theirs"
        )
    if features.encoded.shape[0] != data.num_nodes:
        raise CheckpointError(
            f'"{path}" holds features of {features.encoded.shape[0]} nodes (the data have {data.num_nodes})'
        )
    filled = copy.copy(data)
    filled.x = features.dequantized() if features.form == "dense" else features.to_csr()
    return filled


def load_tensors(model: nn.Module, tensors: dict[str, Tensor], path: str | os.PathLike[str]) -> nn.Module:
    """Load tensors into a model in place, strictly; a misfit names the tensors and both shapes."""
    faults = _float_misfits(model, tensors)
    if faults:
        _refuse(path, model, faults)
    model.load_state_dict(tensors)
    return model


def zoo_arguments(path: str | os.PathLike[str], contents: CheckpointContents) -> ZooArguments:
    """Return what the zoo model of a file is built of, once a model without memory fits the file's tensors.

    Raises CheckpointError where the file is not of a zoo model, or of other sizes than it says.
    """
    from sgq.pipeline.fingerprint import built_model

    zoo = None if contents.fingerprint is None else contents.fingerprint.zoo
    if zoo is None:
        raise CheckpointError(
            f'"{path}" is not of a model of the zoo: build the float model and call sgq.load(path, model)'
        )
    # Each layer has tensors of its own: a file of few tensors is of no deep model.
    if zoo.options.layers > len(contents.tensors):
        raise CheckpointError(
            f'fingerprint: "{path}" names a model of {zoo.options.layers} layers '
            f"(got {len(contents.tensors)} tensors)"
        )
    try:
        shapes = built_model(zoo, device="meta")
    except ModelError as error:
        raise CheckpointError(f'fingerprint: "{path}" names a model that cannot be built: {error}') from error
    faults = _misfits(shapes, contents)
    if faults:
        _refuse(path, shapes, faults)
    return zoo


def _misfits(model: nn.Module, contents: CheckpointContents) -> list[str]:
    """Return why a float model, maybe without memory, cannot take a checkpoint, a line a fault."""
    from sgq.pipeline.fingerprint import fingerprint_of
    from sgq.pipeline.packed_features import is_feature_tensor
    from sgq.pipeline.packed_state import model_misfits

    if contents.plan is None:
        return _float_misfits(model, contents.tensors)
    tensors = {name: tensor for name, tensor in contents.tensors.items() if not is_feature_tensor(name)}
    faults = model_misfits(model, contents.plan, tensors)
    found, written = fingerprint_of(model), contents.fingerprint
    if not faults and written is not None and found.digest != written.digest:
        faults = [f"its names and shapes have the digest {found.digest} where the file has {written.digest}"]
    return faults


def _float_misfits(model: nn.Module, tensors: Mapping[str, Tensor]) -> list[str]:
    from sgq.errors import nearest_name

    wanted = model.state_dict()
    faults = [f'"{name}" is missing' for name in wanted if name not in tensors]
    faults += [
        f'"{name}" is not in the model.{nearest_name(name, wanted) if index < _MOST_FAULTS else ""}'
        for index, name in enumerate(name for name in tensors if name not in wanted)
    ]
    return faults + [
        f'"{name}" has shape {list(tensors[name].shape)} where the model has {list(wanted[name].shape)}'
        for name in wanted
        if name in tensors and tensors[name].shape != wanted[name].shape
    ]


def _packed(
    model: nn.Module, plan: Plan, features: Tensor | None
) -> tuple[dict[str, Tensor], dict[str, str]]:
    from sgq.pipeline.packed_features import packed_features
    from sgq.pipeline.packed_state import packed_tensors
    from sgq.recipe.compact import to_compact_text

    tensors, bucket_ids = packed_tensors(model, plan)
    texts = {"plan": to_compact_text(plan)}
    if bucket_ids:
        texts["bucket_ids"] = str(bucket_ids)
    if features is not None:
        stored, record = packed_features(model, plan, features)
        tensors |= stored
        texts["features"] = to_compact_text(record)
    return tensors, texts


def _packed_contents(file: Path, container: Container) -> CheckpointContents:
    """Check the plan against the tensors, and return both."""
    from sgq.pipeline.fingerprint import Fingerprint
    from sgq.pipeline.packed_features import FeatureRecord, is_feature_tensor, stored_features
    from sgq.pipeline.packed_layout import check_plan, layout_of, misfits
    from sgq.pipeline.packed_state import stored_bucket
    from sgq.recipe.plan import Plan

    plan = _text(file, container, "plan", Plan)
    fingerprint = _text(file, container, "fingerprint", Fingerprint)
    try:
        check_plan(plan)
    except SgqError as error:
        raise CheckpointError(f'"{file}" has a plan that cannot be used: {error}') from error
    count = container.metadata.get("bucket_ids", "0")
    if not (count.isascii() and count.isdecimal() and len(count) <= 18):
        raise CheckpointError(f'"{file}" bucket_ids: expected how many there are (got {count[:40]})')
    own = {name: tensor for name, tensor in container.tensors.items() if not is_feature_tensor(name)}
    faults = misfits(layout_of(plan, bucket_ids=int(count)), own)
    if faults:
        raise CheckpointError(f'"{file}" does not fit its own plan: {_listed(faults)}')
    bucket = stored_bucket(plan, container.tensors, int(count))
    features = None
    if "features" in container.metadata or len(own) != len(container.tensors):
        record = _text(file, container, "features", FeatureRecord)
        try:
            features = stored_features(plan, record, container.tensors, bucket)
        except CheckpointError as error:
            raise CheckpointError(f'"{file}" has features that cannot be used: {error}') from error
    return CheckpointContents(
        container.tensors,
        plan,
        container.metadata,
        fingerprint=fingerprint,
        recipe_text=container.metadata.get("recipe_text"),
        features=features,
        bucket=bucket,
        header_bytes=container.header_bytes,
        payload_bytes=container.payload_bytes,
    )


def _text(file: Path, container: Container, name: str, kind: type[Any]) -> Any:
    """Return what a text of the header describes."""
    from sgq.recipe.compact import from_compact_text

    if name not in container.metadata:
        raise CheckpointError(f'"{file}" header: expected a text "{name}" (got none)')
    try:
        return from_compact_text(kind, container.metadata[name])
    except SgqError as error:
        raise CheckpointError(f'"{file}" has a {name} that cannot be read: {error}') from error


def _restored(
    path: str | os.PathLike[str], model: nn.Module, contents: CheckpointContents, plan: Plan
) -> nn.Module:
    from sgq.pipeline.packed_features import is_feature_tensor
    from sgq.pipeline.packed_state import restored_model

    faults = _misfits(model, contents)
    if faults:
        _refuse(path, model, faults)
    tensors = {name: tensor for name, tensor in contents.tensors.items() if not is_feature_tensor(name)}
    try:
        return restored_model(model, plan, tensors, contents.bucket)
    except SgqError as error:
        raise CheckpointError(f'"{path}" does not fit the model: {error}') from error


def _refuse(path: str | os.PathLike[str], model: nn.Module, faults: Sequence[str]) -> NoReturn:
    raise CheckpointError(f'checkpoint "{path}" does not fit {type(model).__name__}: {_listed(faults)}')


def _listed(faults: Sequence[str]) -> str:
    more = f"; and {len(faults) - _MOST_FAULTS} more" if len(faults) > _MOST_FAULTS else ""
    return "; ".join(map(_cut, faults[:_MOST_FAULTS])) + more


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_LETTERS else f"{text[:_MOST_LETTERS]} …"


def _read_pt(file: Path) -> dict[str, Tensor]:
    import pickle

    import torch

    try:
        loaded: Any = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError, LookupError) as error:
        reason = str(error) or type(error).__name__
        raise CheckpointError(f'"{file}" is not a readable state dict: {reason}') from error
    if not isinstance(loaded, dict) or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        raise CheckpointError(f'"{file}" is not a state dict of tensors')
    return loaded
